//! Which pool of endpoints a call goes to: groups by priority, and zones within.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use super::{plan::Member, ring::Ring, sequence::Sequence};
use crate::primitive::{AtomicU64, Ordering};

/// Endpoints of one priority, of one zone or of all, among which a strategy chooses.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) priority: u8,
    pub(super) zone: Zone,
    /// The indices of those with a weight.
    pub(super) members: Box<[u32]>,
    pub(super) sequence: Sequence,
    pub(super) ring: Ring,
    /// Goes on when endpoints change, so that changes do not favour those who come first.
    pub(super) turns: Arc<CachePadded<AtomicU64>>,
}

/// Whose zone a pool is of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Zone {
    All,
    /// `None`: of those that have none.
    One(Option<Arc<str>>),
}

/// The share of each pool: of draws below this and not below that of the pool before.
///
/// Whoever looks while they change may go by some of the old and some of the new; any pool that it
/// comes to is one that a call a moment earlier or later goes to.
#[derive(Debug)]
pub(super) struct Split(Box<[AtomicU64]>);

/// One more than the highest draw.
const ALL: u64 = 1 << 32;

// ORDERING: Relaxed throughout. Nothing is published by a share.
impl Split {
    /// All goes to the first of so many pools.
    pub(super) fn new(pools: usize) -> Self {
        Self((0..pools).map(|_| AtomicU64::new(ALL)).collect())
    }

    /// Sets the shares to those of `now`. The pools are sorted by priority, those of the caller's
    /// own zone first.
    ///
    /// A group is given as much of the calls as it has of its weight left, divided by
    /// `failover_below`; what is over goes to the next, and if all together are too little, each
    /// is given more in proportion: Envoy's priority levels, whose overprovisioning factor is the
    /// reciprocal.
    pub(super) fn share_out(
        &self,
        pools: &[Pool],
        members: &[Member],
        failover_below: f64,
        now: u64,
    ) {
        let mut rest = 1.0;
        let mut shares: Vec<f64> = Vec::with_capacity(pools.len());
        for group in pools.chunk_by(|one, other| one.priority == other.priority) {
            let weights = group.iter().map(|pool| pool.weights(members, now));
            let weights: Vec<(f64, f64)> = weights.collect();
            let (all, left) = weights.iter().fold((0.0, 0.0), |sum, weights| {
                (sum.0 + weights.0, sum.1 + weights.1)
            });
            if left == 0.0 {
                shares.extend(weights.iter().map(|_| 0.0));
                continue;
            }
            let load = f64::min(rest, left / all / failover_below);
            rest -= load;
            let parts = weights.iter().map(|(_, of_zone)| of_zone / left);
            let zones = zone_shares(&parts.collect::<Vec<_>>());
            shares.extend(zones.iter().map(|share| share * load));
        }
        let sum: f64 = shares.iter().sum();
        let mut upto = 0.0;
        for (share, below) in shares.iter().zip(&self.0) {
            upto += share;
            let part = if sum > 0.0 { upto / sum } else { 1.0 };
            let draws = ((part * ALL as f64).round() as u64).min(ALL);
            below.store(draws, Ordering::Relaxed);
        }
    }

    /// The pool of a draw, which is made only where there is a choice.
    #[inline]
    pub(super) fn pool(&self, draw: impl Fn() -> u32) -> usize {
        let mut drawn = None;
        for (pool, below) in self.0.iter().enumerate() {
            let below = below.load(Ordering::Relaxed);
            let takes_rest = below >= ALL;
            if takes_rest || (below > 0 && u64::from(*drawn.get_or_insert_with(&draw)) < below) {
                return pool;
            }
        }
        0
    }
}

impl Pool {
    /// The weight of all, and of those that are in.
    fn weights(&self, members: &[Member], now: u64) -> (f64, f64) {
        let members = self.members.iter().map(|index| &members[*index as usize]);
        members.fold((0.0, 0.0), |(all, left), member| {
            let weight = f64::from(member.weight);
            let in_now = if member.state.is_out(now) {
                0.0
            } else {
                weight
            };
            (all + weight, left + in_now)
        })
    }
}

/// The shares of a group's zones, the own first, from their parts of the weight that is left.
///
/// Envoy's zone aware routing, with callers taken to be spread evenly over the zones: the own zone
/// keeps as much as it can bear if all zones do likewise. The rest goes to those zones that have
/// more than their callers need, in proportion to that.
fn zone_shares(parts: &[f64]) -> Vec<f64> {
    let zones = parts.len() as f64;
    let own = parts
        .first()
        .map_or(0.0, |part| f64::min(part * zones, 1.0));
    let over = |part: &f64| (part - 1.0 / zones).max(0.0);
    let spare: f64 = parts.iter().skip(1).map(over).sum();
    let mut shares = vec![own];
    shares.extend(parts.iter().skip(1).map(|part| match spare > 0.0 {
        true => (1.0 - own) * over(part) / spare,
        false => 0.0,
    }));
    shares
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(one: &[f64], other: &[f64]) -> bool {
        let pairs = one.iter().zip(other);
        one.len() == other.len() && pairs.clone().all(|(a, b)| (a - b).abs() < 1e-9)
    }

    #[test]
    fn a_zone_with_its_part_of_the_weight_keeps_all_calls() {
        assert!(close(&zone_shares(&[0.5, 0.5]), &[1.0, 0.0]));
        assert!(close(&zone_shares(&[0.4, 0.3, 0.3]), &[1.0, 0.0, 0.0]));
        assert!(close(&zone_shares(&[1.0]), &[1.0]));
    }

    // The example of Envoy's documentation of zone aware routing: a zone that has less than its
    // callers need gives the rest to zones that have more.
    #[test]
    fn what_a_zone_cannot_bear_goes_to_those_that_have_more_than_they_need() {
        let shares = zone_shares(&[1.0 / 6.0, 3.0 / 6.0, 2.0 / 6.0]);
        assert!(close(&shares, &[0.5, 0.5, 0.0]), "{shares:?}");
    }

    proptest! {
        /// Zones of equal demand, each of which splits by this rule, bear just what they have.
        #[test]
        fn no_zone_gets_more_than_its_part_of_the_weight(
            weights in prop::collection::vec(0_u32..10, 1..6),
        ) {
            let sum: u32 = weights.iter().sum();
            prop_assume!(sum > 0);
            let parts: Vec<f64> = weights.iter().map(|w| f64::from(*w) / f64::from(sum)).collect();
            let zones = parts.len();
            let mut borne = vec![0.0; zones];
            for own in 0..zones {
                let mut order: Vec<usize> = (0..zones).collect();
                order.swap(0, own);
                let ordered: Vec<f64> = order.iter().map(|zone| parts[*zone]).collect();
                let shares = zone_shares(&ordered);
                prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                for (zone, share) in order.iter().zip(shares) {
                    borne[*zone] += share / zones as f64;
                }
            }
            prop_assert!(close(&borne, &parts), "{borne:?} {parts:?}");
        }
    }
}
