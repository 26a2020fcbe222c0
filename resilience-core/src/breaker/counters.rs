//! Statistics: they decide nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{events::Cause, snapshot::OpenedBy};
use crate::stripe::Striped;

/// What is counted per stripe.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counter {
    Rejected = 0,
    Stale = 1,
    WouldHaveRefused = 2,
    /// A shadow's: both admitted the call.
    BothAdmitted = 3,
    /// A shadow's: the live breaker admitted what the shadow would have refused.
    ShadowRefused = 4,
    /// A shadow's: the live breaker refused what the shadow would have admitted.
    LiveRefused = 5,
    /// A shadow's: both refused.
    BothRefused = 6,
}

const COUNTERS: usize = 7;
/// Causes that open.
const CAUSES: usize = 6;

#[derive(Debug, Default)]
pub(super) struct Counters {
    calls: Striped<[AtomicU64; COUNTERS]>,
    openings: [AtomicU64; CAUSES],
}

impl Counters {
    pub(super) fn add(&self, counter: Counter) {
        let (mine, stripe) = self.calls.mine();
        stripe.count(&mine[counter as usize]);
    }

    pub(super) fn sum(&self, counter: Counter) -> u64 {
        // ORDERING: Relaxed, also below. They publish nothing.
        let each = |one: &[AtomicU64; COUNTERS]| one[counter as usize].load(Ordering::Relaxed);
        self.calls.iter().map(each).fold(0, u64::wrapping_add)
    }

    pub(super) fn opened(&self, cause: Cause) {
        if let Some(index) = index(cause) {
            self.openings[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn opened_by(&self) -> OpenedBy {
        let of = |cause| index(cause).map_or(0, |i| self.openings[i].load(Ordering::Relaxed));
        OpenedBy {
            consecutive_failures: of(Cause::ConsecutiveFailures),
            failure_count: of(Cause::FailureCount),
            failure_rate: of(Cause::FailureRate),
            slow_call_rate: of(Cause::SlowCallRate),
            probe_failed: of(Cause::ProbeFailed),
            by_hand: of(Cause::ByHand),
        }
    }
}

fn index(cause: Cause) -> Option<usize> {
    Some(match cause {
        Cause::ConsecutiveFailures => 0,
        Cause::FailureCount => 1,
        Cause::FailureRate => 2,
        Cause::SlowCallRate => 3,
        Cause::ProbeFailed => 4,
        Cause::ByHand => 5,
        Cause::ProbesSucceeded | Cause::ResetTimeout | Cause::LeaseExpired => return None,
    })
}
