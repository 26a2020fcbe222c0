//! Which endpoint of a set a call is given.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use super::{
    config::{Config, Strategy},
    ewma,
    ring::Ring,
    sequence::Sequence,
    split::{Pool, Split, Zone},
    state::{DOWN, EndpointId, State},
};
use crate::{
    primitive::AtomicU64,
    random::{Random, mix},
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

    /// Those that were tried before.
    pub const fn excluded(&self) -> &'a [EndpointId] {
        self.excluded
    }
}

/// An endpoint as the strategies see it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) state: Arc<CachePadded<State>>,
    pub(super) name: Arc<str>,
    pub(super) weight: u32,
    pub(super) priority: u8,
    pub(super) zone: Option<Arc<str>>,
}

/// All that a pick reads, made when endpoints or settings change.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: Config,
    /// The caller's own zone.
    pub(super) zone: Option<Arc<str>>,
    pub(super) members: Arc<[Member]>,
    pools: Box<[Pool]>,
    /// Set anew whenever somebody goes out or comes in.
    split: Split,
    /// 0: off.
    pub(super) slow_start: u64,
    pub(super) decay: f32,
}

/// Who may be picked in one look at all.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) now: u64,
    excluded: &'a [EndpointId],
    /// Those that are out for no longer than this.
    out_until: u64,
}

impl Look<'_> {
    #[inline]
    pub(super) fn allows(&self, member: &Member) -> bool {
        member.state.until() <= self.out_until
            && (self.excluded.is_empty() || !self.excluded.contains(&member.state.id))
    }
}

impl Plan {
    /// Pools whose turns go on as in `before`.
    pub(super) fn new(
        config: Config,
        zone: Option<Arc<str>>,
        members: Arc<[Member]>,
        before: Option<&Self>,
    ) -> Self {
        let keys = keys(&members, zone.as_ref());
        let split = Split::new(keys.len());
        let pools = keys.into_iter().map(|(priority, zone)| {
            let old = before.and_then(|before| before.pool(priority, &zone));
            let turns = old.map(|old| Arc::clone(&old.turns));
            pool(config.strategy(), &members, priority, zone, turns)
        });
        Self {
            slow_start: config.slow_start().map_or(0, super::nanos),
            decay: ewma::decay(super::nanos(config.decay())),
            pools: pools.collect(),
            split,
            config,
            zone,
            members,
        }
    }

    fn pool(&self, priority: u8, zone: &Zone) -> Option<&Pool> {
        let mut pools = self.pools.iter();
        pools.find(|pool| pool.priority == priority && pool.zone == *zone)
    }

    /// Shares the calls out among the pools, as endpoints are at `now`.
    pub(super) fn share_out(&self, now: u64) {
        if self.pools.len() > 1 {
            let failover_below = self.config.failover_below();
            self.split
                .share_out(&self.pools, &self.members, failover_below, now);
        }
    }

    /// The index of the one to call; `None` if all have weight 0, or are unhealthy where such are
    /// refused.
    #[inline]
    pub(super) fn choose(
        &self,
        criteria: Criteria<'_>,
        now: u64,
        random: &Random,
    ) -> Option<usize> {
        let look = Look {
            now,
            excluded: criteria.excluded,
            out_until: now,
        };
        let pool = match &*self.pools {
            [pool] => pool,
            [] => return None,
            pools => &pools[self.pool_of(criteria.key, random)],
        };
        self.choose_among(pool, look, criteria.key, random)
            .or_else(|| self.choose_anyway(look, criteria.key, random))
    }

    fn pool_of(&self, key: Option<u64>, random: &Random) -> usize {
        self.split.pool(|| {
            let bits = match (self.config.strategy(), key) {
                // A key stays with its pool. Its place there must not tell the pool as well.
                (Strategy::ConsistentHash, Some(key)) => mix(key),
                _ => random.bits(),
            };
            (bits >> 32) as u32
        })
    }

    /// Nobody is left of the pool: rather one of another pool than one that was tried, rather one
    /// that was tried than one that is out, rather one that is ejected than one that is unhealthy,
    /// and rather that than none.
    #[cold]
    fn choose_anyway(&self, look: Look<'_>, key: Option<u64>, random: &Random) -> Option<usize> {
        let mut horizons = horizons(look.now, self.config.refuse_unhealthy());
        horizons.find_map(|out_until| {
            let looks = [look.excluded, &[]].into_iter();
            let mut looks = looks.map(|excluded| Look {
                now: look.now,
                excluded,
                out_until,
            });
            looks.find_map(|look| {
                let mut pools = self.pools.iter();
                pools.find_map(|pool| self.choose_among(pool, look, key, random))
            })
        })
    }

    #[inline]
    fn choose_among(
        &self,
        pool: &Pool,
        look: Look<'_>,
        key: Option<u64>,
        random: &Random,
    ) -> Option<usize> {
        match self.config.strategy() {
            Strategy::RoundRobin | Strategy::SmoothWeighted => self.in_turn(pool, look, random),
            Strategy::LeastConnections => self.least(pool, look, random),
            Strategy::PeakEwma => self.better_of_two(pool, look, random.bits()),
            Strategy::ConsistentHash => {
                self.by_key(pool, look, key.unwrap_or_else(|| random.bits()))
            }
        }
    }
}

/// Those that are in; and the ejected; and the unhealthy.
fn horizons(now: u64, refuse_unhealthy: bool) -> impl Iterator<Item = u64> {
    let last = (!refuse_unhealthy).then_some(DOWN);
    [now, DOWN - 1].into_iter().chain(last)
}

/// Priority and zone of each pool, in order of preference. A group has a pool per zone where the
/// caller's own is among them, and others as well.
fn keys(members: &[Member], own: Option<&Arc<str>>) -> Vec<(u8, Zone)> {
    let all = members.iter().filter(|member| member.weight > 0);
    let mut all: Vec<_> = all.map(|member| (member.priority, &member.zone)).collect();
    // The own zone first.
    all.sort_unstable_by_key(|(priority, zone)| (*priority, zone.as_ref() != own, *zone));
    all.dedup();
    let groups = all.chunk_by(|one, other| one.0 == other.0);
    let keys = groups.flat_map(|group| {
        let local = own.is_some() && group.len() > 1 && group[0].1.as_ref() == own;
        let zones = group.iter().map(move |(priority, zone)| {
            let zone = match local {
                true => Zone::One((*zone).clone()),
                false => Zone::All,
            };
            (*priority, zone)
        });
        zones.take(if local { group.len() } else { 1 })
    });
    keys.collect()
}

fn pool(
    strategy: Strategy,
    members: &[Member],
    priority: u8,
    zone: Zone,
    turns: Option<Arc<CachePadded<AtomicU64>>>,
) -> Pool {
    let belongs = |member: &Member| {
        member.priority == priority
            && match &zone {
                Zone::All => true,
                Zone::One(zone) => member.zone == *zone,
            }
    };
    let weights = members.iter().map(|member| match belongs(member) {
        true => member.weight,
        false => 0,
    });
    let weights: Vec<u32> = weights.collect();
    let (mut sequence, mut ring) = (Sequence::default(), Ring::default());
    match strategy {
        Strategy::RoundRobin => sequence = Sequence::equal(&weights),
        Strategy::SmoothWeighted => sequence = Sequence::smooth(&weights),
        Strategy::ConsistentHash => {
            let names = members.iter().map(|member| &*member.name);
            ring = Ring::new(names.zip(weights.iter().copied()));
        }
        Strategy::LeastConnections | Strategy::PeakEwma => {}
    }
    let weighty = (0..).zip(&weights).filter(|(_, weight)| **weight > 0);
    Pool {
        members: weighty.map(|(index, _)| index).collect(),
        turns: turns.unwrap_or_default(),
        priority,
        zone,
        sequence,
        ring,
    }
}
