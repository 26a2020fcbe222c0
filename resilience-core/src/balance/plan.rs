//! Which endpoint a call is given.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use super::{
    config::{Config, Strategy},
    ewma,
    ring::Ring,
    sequence::Sequence,
    state::{EndpointId, State},
};
use crate::{
    primitive::{AtomicU64, Ordering},
    random::{Random, mix, unit},
};

/// What a call asks for.
///
/// # Examples
///
/// ```
/// use resilience_core::balance::{Balancer, Config, Criteria, Endpoint};
///
/// let balancer = Balancer::new(Config::default());
/// balancer.set_endpoints([Endpoint::new("a", ()), Endpoint::new("b", ())])?;
/// let first = balancer.pick()?;
/// let tried = [first.id()];
/// first.failure();
/// let second = balancer.pick_by(Criteria::default().excluding(&tried))?;
/// assert_ne!(second.id(), tried[0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Criteria<'a> {
    key: Option<u64>,
    excluded: &'a [EndpointId],
}

impl<'a> Criteria<'a> {
    /// Calls of one key stay together under [`Strategy::ConsistentHash`], which takes a random one
    /// for calls without. Make it of bytes with [`hash_key`](super::hash_key): it must be spread
    /// over all bits.
    pub const fn key(mut self, key: u64) -> Self {
        self.key = Some(key);
        self
    }

    /// Endpoints that were tried before. One of them is picked only when no other is there.
    pub const fn excluding(mut self, tried: &'a [EndpointId]) -> Self {
        self.excluded = tried;
        self
    }
}

/// An endpoint as the strategies see it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) state: Arc<CachePadded<State>>,
    pub(super) weight: u32,
}

/// All that a pick reads, made when endpoints or settings change.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: Config,
    pub(super) members: Arc<[Member]>,
    sequence: Sequence,
    ring: Ring,
    /// 0: off.
    slow_start: u64,
    decay: f32,
}

/// Chance and order, which all picks share.
#[derive(Debug)]
pub(super) struct Lots {
    turns: CachePadded<AtomicU64>,
    random: CachePadded<Random>,
}

/// Who may be picked in one look at all.
#[derive(Clone, Copy)]
struct Look<'a> {
    now: u64,
    excluded: &'a [EndpointId],
    ejected_too: bool,
}

/// Turns that are taken before those who come next are asked in order.
const PASSES: usize = 64;

/// Pairs that are drawn before all are compared.
const PAIRS: usize = 4;

/// The cost of one that has its first call and no latency yet, as Finagle's penalty: above all
/// that are measured.
const UNKNOWN: f64 = 1e18;

impl Lots {
    pub(super) fn new(random: Random) -> Self {
        Self {
            turns: CachePadded::new(AtomicU64::new(0)),
            random: CachePadded::new(random),
        }
    }

    #[inline]
    fn turn(&self) -> u64 {
        // ORDERING: Relaxed. Each turn is given once; nothing is published by it.
        self.turns.fetch_add(1, Ordering::Relaxed)
    }
}

impl Look<'_> {
    #[inline]
    fn allows(&self, member: &Member) -> bool {
        member.weight > 0
            && (self.ejected_too || !member.state.is_ejected(self.now))
            && (self.excluded.is_empty() || !self.excluded.contains(&member.state.id))
    }
}

impl Plan {
    /// `names` are those of `members`, in the same order.
    pub(super) fn new<'a>(
        config: Config,
        members: Arc<[Member]>,
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> Self {
        let weights: Vec<u32> = members.iter().map(|member| member.weight).collect();
        let (mut sequence, mut ring) = (Sequence::default(), Ring::default());
        match config.strategy() {
            Strategy::RoundRobin => sequence = Sequence::equal(&weights),
            Strategy::SmoothWeighted => sequence = Sequence::smooth(&weights),
            Strategy::ConsistentHash => ring = Ring::new(names.zip(weights.iter().copied())),
            Strategy::LeastConnections | Strategy::PeakEwma => {}
        }
        Self {
            slow_start: config.slow_start().map_or(0, super::nanos),
            decay: ewma::decay(super::nanos(config.decay())),
            config,
            members,
            sequence,
            ring,
        }
    }

    /// The index of the one to call; `None` if all have weight 0.
    #[inline]
    pub(super) fn choose(&self, criteria: Criteria<'_>, now: u64, lots: &Lots) -> Option<usize> {
        let look = Look {
            now,
            excluded: criteria.excluded,
            ejected_too: false,
        };
        self.choose_among(look, criteria.key, lots)
            .or_else(|| self.choose_anyway(look, criteria.key, lots))
    }

    /// Nobody is left of those who were not tried and are not ejected: rather one that was tried
    /// than one that is ejected, and rather that than none.
    #[cold]
    fn choose_anyway(&self, look: Look<'_>, key: Option<u64>, lots: &Lots) -> Option<usize> {
        let tried = Look {
            excluded: &[],
            ..look
        };
        let ejected = Look {
            ejected_too: true,
            ..look
        };
        let any = Look {
            ejected_too: true,
            ..tried
        };
        let mut looks = [tried, ejected, any].into_iter();
        looks.find_map(|look| self.choose_among(look, key, lots))
    }

    #[inline]
    fn choose_among(&self, look: Look<'_>, key: Option<u64>, lots: &Lots) -> Option<usize> {
        match self.config.strategy() {
            Strategy::RoundRobin | Strategy::SmoothWeighted => self.in_turn(look, lots),
            Strategy::LeastConnections => self.least(look, &lots.random),
            Strategy::PeakEwma => self.better_of_two(look, lots.random.bits()),
            Strategy::ConsistentHash => {
                self.by_key(look, key.unwrap_or_else(|| lots.random.bits()))
            }
        }
    }

    /// The turn of one that may not be picked is passed over by taking the next, so that the
    /// others keep their proportion to each other.
    #[inline]
    fn in_turn(&self, look: Look<'_>, lots: &Lots) -> Option<usize> {
        let mut turn = 0;
        for _ in 0..PASSES {
            turn = lots.turn();
            let index = self.sequence.at(turn)?;
            let member = &self.members[index];
            if look.allows(member) && self.has_warmed(member, look.now, lots) {
                return Some(index);
            }
        }
        let ahead = (1..=self.sequence.len() as u64).map(|ahead| turn.wrapping_add(ahead));
        let mut ahead = ahead.filter_map(|turn| self.sequence.at(turn));
        ahead.find(|index| look.allows(&self.members[*index]))
    }

    /// Whether one that starts slowly takes its turn.
    #[inline]
    fn has_warmed(&self, member: &Member, now: u64, lots: &Lots) -> bool {
        if self.slow_start == 0 {
            return true;
        }
        let warmth = member.state.warmth(now, self.slow_start);
        warmth >= 1.0 || unit(lots.random.bits()) < warmth
    }

    fn least(&self, look: Look<'_>, random: &Random) -> Option<usize> {
        let (mut best, mut least, mut tied) = (None, f64::INFINITY, 0.0);
        let mut drawn = None;
        for (index, member) in self.members.iter().enumerate() {
            if !look.allows(member) {
                continue;
            }
            let weight = self.weight(member, look.now);
            let load = member.state.in_flight() as f64 / weight;
            if load < least {
                (best, least, tied) = (Some(index), load, weight);
            } else if load <= least {
                // Each of those that are tied is left with the chance of its weight.
                tied += weight;
                let bits = *drawn.get_or_insert_with(|| random.bits());
                if unit(mix(bits ^ index as u64)) * tied < weight {
                    best = Some(index);
                }
            }
        }
        best
    }

    #[inline]
    fn better_of_two(&self, look: Look<'_>, bits: u64) -> Option<usize> {
        let many = self.members.len();
        let mut draw = bits;
        for _ in 0..PAIRS {
            let Some((one, other)) = pair(draw, many) else {
                break;
            };
            let (first, second) = (&self.members[one], &self.members[other]);
            if look.allows(first) && look.allows(second) {
                let better = self.cost(second, look.now) < self.cost(first, look.now);
                return Some(if better { other } else { one });
            }
            draw = mix(draw);
        }
        self.best_of_all(look, bits)
    }

    #[cold]
    fn best_of_all(&self, look: Look<'_>, bits: u64) -> Option<usize> {
        let many = self.members.len();
        let first = below(bits as u32, many);
        let indices = (first..many).chain(0..first);
        let allowed = indices.filter(|index| look.allows(&self.members[*index]));
        let costs = allowed.map(|index| (index, self.cost(&self.members[index], look.now)));
        let best = costs.reduce(|best, next| if next.1 < best.1 { next } else { best });
        best.map(|(index, _)| index)
    }

    /// Latency × (calls in flight + 1) / weight.
    #[inline]
    fn cost(&self, member: &Member, now: u64) -> f64 {
        let in_flight = member.state.in_flight() as f64;
        let latency = f64::from(member.state.latency.at(now, self.decay));
        let cost = if latency > 0.0 {
            latency * (in_flight + 1.0)
        } else if in_flight > 0.0 {
            UNKNOWN + UNKNOWN * in_flight
        } else {
            // Its first call tells.
            return 0.0;
        };
        cost / self.weight(member, now)
    }

    fn by_key(&self, look: Look<'_>, key: u64) -> Option<usize> {
        let allowed = |index: &usize| look.allows(&self.members[*index]);
        let owner = self.ring.from(key).find(allowed)?;
        let Some(factor) = self.config.max_load() else {
            return Some(owner);
        };
        // A fair share is at least one call.
        if self.members[owner].state.in_flight() == 0 {
            return Some(owner);
        }
        let (mut calls, mut weights) = (1, 0);
        for member in self.members.iter().filter(|member| look.allows(member)) {
            calls += member.state.in_flight();
            weights += u64::from(member.weight);
        }
        let per_weight = factor * calls as f64 / weights as f64;
        let fits = |index: &usize| {
            let member = &self.members[*index];
            let most = (per_weight * f64::from(member.weight)).ceil();
            allowed(index) && ((member.state.in_flight() + 1) as f64) <= most
        };
        // Calls that race may fill all for a moment.
        Some(self.ring.from(key).find(fits).unwrap_or(owner))
    }

    /// The weight that counts now.
    #[inline]
    fn weight(&self, member: &Member, now: u64) -> f64 {
        let weight = f64::from(member.weight);
        if self.slow_start == 0 {
            return weight;
        }
        weight * member.state.warmth(now, self.slow_start)
    }
}

/// Two different ones of `many`, each pair with the same chance; `None` if there are not two.
#[inline]
fn pair(bits: u64, many: usize) -> Option<(usize, usize)> {
    if many < 2 {
        return None;
    }
    let one = below((bits >> 32) as u32, many);
    let other = below(bits as u32, many - 1);
    Some((one, if other >= one { other + 1 } else { other }))
}

/// A number below `many`, from 32 random bits (Lemire, *Fast Random Integer Generation in an
/// Interval*, 2019, without its rejection: 2^-16 off at the most endpoints there may be).
#[inline]
fn below(bits: u32, many: usize) -> usize {
    ((u64::from(bits) * many as u64) >> 32) as usize
}
