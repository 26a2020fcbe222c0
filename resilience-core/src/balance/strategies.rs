//! The strategies: which endpoint of a pool is next.

use super::{
    plan::{Look, Member, Plan},
    split::Pool,
};
use crate::{
    primitive::Ordering,
    random::{Random, mix, unit},
};

/// Turns that are taken before lots are drawn, and lots that are drawn before all are asked.
const PASSES: usize = 64;

/// Pairs that are drawn before all are compared.
const PAIRS: usize = 4;

/// The cost of one that has its first call and no latency yet, as Finagle's penalty: above all
/// that are measured.
const UNKNOWN: f64 = 1e18;

impl Pool {
    fn indices(&self) -> impl Iterator<Item = usize> + '_ {
        self.members.iter().map(|index| *index as usize)
    }
}

impl Plan {
    /// The turn of one that may not be picked is passed over by taking the next, so that the
    /// others keep their proportion to each other.
    #[inline]
    pub(super) fn in_turn(&self, pool: &Pool, look: Look<'_>, random: &Random) -> Option<usize> {
        for _ in 0..PASSES {
            // ORDERING: Relaxed. Each turn is given once; nothing is published by it.
            let index = pool
                .sequence
                .at(pool.turns.fetch_add(1, Ordering::Relaxed))?;
            let member = &self.members[index];
            if look.allows(member) && self.has_warmed(member, look.now, random) {
                return Some(index);
            }
        }
        self.at_random(pool, look, random)
    }

    /// Nobody had a turn of many. Further turns in order would give all those of a long row that
    /// may not be picked to the one behind it.
    #[cold]
    fn at_random(&self, pool: &Pool, look: Look<'_>, random: &Random) -> Option<usize> {
        let allowed = |index: &usize| look.allows(&self.members[*index]);
        let drawn = (0..PASSES).filter_map(|_| pool.sequence.at(random.bits() >> 32));
        let start = random.bits() >> 32;
        let ahead = (start..).take(pool.sequence.len());
        let ahead = ahead.filter_map(|turn| pool.sequence.at(turn));
        drawn.chain(ahead).find(allowed)
    }

    /// Whether one that starts slowly takes its turn.
    #[inline]
    fn has_warmed(&self, member: &Member, now: u64, random: &Random) -> bool {
        if self.slow_start == 0 {
            return true;
        }
        let warmth = member.state.warmth(now, self.slow_start);
        warmth >= 1.0 || unit(random.bits()) < warmth
    }

    pub(super) fn least(&self, pool: &Pool, look: Look<'_>, random: &Random) -> Option<usize> {
        let (mut best, mut least, mut tied) = (None, f64::INFINITY, 0.0);
        let mut drawn = None;
        for index in pool.indices() {
            let member = &self.members[index];
            if !look.allows(member) {
                continue;
            }
            let weight = self.weight(member, look.now);
            let load = f64::from(member.state.in_flight()) / weight;
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
    pub(super) fn better_of_two(&self, pool: &Pool, look: Look<'_>, bits: u64) -> Option<usize> {
        let many = pool.members.len();
        let mut draw = bits;
        for _ in 0..PAIRS {
            let Some((one, other)) = pair(draw, many) else {
                break;
            };
            let (one, other) = (pool.members[one] as usize, pool.members[other] as usize);
            let (first, second) = (&self.members[one], &self.members[other]);
            if look.allows(first) && look.allows(second) {
                let better = self.cost(second, look.now) < self.cost(first, look.now);
                return Some(if better { other } else { one });
            }
            draw = mix(draw);
        }
        self.best_of_all(pool, look, bits)
    }

    #[cold]
    fn best_of_all(&self, pool: &Pool, look: Look<'_>, bits: u64) -> Option<usize> {
        let first = below(bits as u32, pool.members.len());
        let (before, after) = pool.members.split_at(first);
        let indices = after.iter().chain(before).map(|index| *index as usize);
        let allowed = indices.filter(|index| look.allows(&self.members[*index]));
        let costs = allowed.map(|index| (index, self.cost(&self.members[index], look.now)));
        let best = costs.reduce(|best, next| if next.1 < best.1 { next } else { best });
        best.map(|(index, _)| index)
    }

    /// Latency × (calls in flight + 1) / weight.
    #[inline]
    fn cost(&self, member: &Member, now: u64) -> f64 {
        let (in_flight, latency) = member.state.burden(now, self.decay);
        let in_flight = f64::from(in_flight);
        let cost = match latency {
            Some(latency) => f64::from(latency) * (in_flight + 1.0),
            // Its first call tells.
            None if in_flight == 0.0 => return 0.0,
            None => UNKNOWN + UNKNOWN * in_flight,
        };
        cost / self.weight(member, now)
    }

    pub(super) fn by_key(&self, pool: &Pool, look: Look<'_>, key: u64) -> Option<usize> {
        let allowed = |index: &usize| look.allows(&self.members[*index]);
        let owner = pool.ring.from(key).find(allowed)?;
        let Some(factor) = self.config.max_load() else {
            return Some(owner);
        };
        // A fair share is at least one call.
        if self.members[owner].state.in_flight() == 0 {
            return Some(owner);
        }
        let (mut calls, mut weights) = (1, 0);
        for index in pool.indices().filter(allowed) {
            let member = &self.members[index];
            calls += u64::from(member.state.in_flight());
            weights += u64::from(member.weight);
        }
        let per_weight = factor * calls as f64 / weights as f64;
        let fits = |index: &usize| {
            let member = &self.members[*index];
            let most = (per_weight * f64::from(member.weight)).ceil();
            allowed(index) && f64::from(member.state.in_flight()) + 1.0 <= most
        };
        // Calls that race may fill all for a moment.
        Some(pool.ring.from(key).find(fits).unwrap_or(owner))
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
