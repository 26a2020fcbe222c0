//! What is known of one endpoint; it stays while the endpoint does.

use std::sync::atomic::AtomicU64 as StdAtomicU64;

use super::ewma::Latency;
use crate::primitive::{AtomicU64, Ordering};

/// Tells endpoints apart: one that goes and comes back under the same name is another.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EndpointId(u64);

/// The last id; statistics of a process, and so std's in the model checker as well.
static LAST: StdAtomicU64 = StdAtomicU64::new(0);

/// Counters and times of one endpoint. All times are nanoseconds of the balancer's clock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) id: EndpointId,
    in_flight: AtomicU64,
    pub(super) latency: Latency,
    /// Failures since the last success.
    streak: AtomicU64,
    /// `[failures: 32 | successes: 32]` of this interval.
    calls: AtomicU64,
    /// The end of the last ejection; 0: there was none.
    until: AtomicU64,
    /// How often it was ejected, less one for each interval in between. Changed under the lock.
    pub(super) ejections: AtomicU64,
    /// When it came; 0: with the first, which need no slow start.
    since: u64,
}

const FAILURE: u64 = 1 << 32;

// ORDERING: Relaxed throughout. Each word stands alone, and a stale look picks as if the call had
// come a moment earlier. What must agree (who is ejected) is decided under the judge's lock.
impl State {
    pub(super) fn new(since: u64) -> Self {
        Self {
            id: EndpointId(LAST.fetch_add(1, Ordering::Relaxed)),
            in_flight: AtomicU64::new(0),
            latency: Latency::unmeasured(),
            streak: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            until: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            since,
        }
    }

    #[inline]
    pub(super) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn is_ejected(&self, now: u64) -> bool {
        now < self.until()
    }

    /// The end of the last ejection; 0: there was none.
    #[inline]
    pub(super) fn until(&self) -> u64 {
        self.until.load(Ordering::Relaxed)
    }

    pub(super) fn eject(&self, until: u64) {
        self.until.store(until, Ordering::Relaxed);
        self.streak.store(0, Ordering::Relaxed);
        self.calls.store(0, Ordering::Relaxed);
    }

    /// Ends an ejection before its time.
    pub(super) fn release(&self, now: u64) {
        self.until.store(now, Ordering::Relaxed);
    }

    /// The share of its weight that it has at `now`, while it starts slowly.
    #[inline]
    pub(super) fn warmth(&self, now: u64, slow_start: u64) -> f64 {
        let since = self.since.max(self.until());
        if since == 0 {
            return 1.0;
        }
        let elapsed = now.saturating_sub(since);
        if elapsed >= slow_start {
            return 1.0;
        }
        (elapsed as f64 / slow_start as f64).max(COLDEST)
    }

    /// Counts a success.
    #[inline]
    pub(super) fn succeed(&self, count: bool) {
        if self.streak.load(Ordering::Relaxed) != 0 {
            self.streak.store(0, Ordering::Relaxed);
        }
        if count {
            self.calls.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a failure; how many there were in a row.
    #[inline]
    pub(super) fn fail(&self, count: bool) -> u64 {
        if count {
            self.calls.fetch_add(FAILURE, Ordering::Relaxed);
        }
        self.streak.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Successes and failures of the interval, which begins anew.
    pub(super) fn take_calls(&self) -> (u32, u32) {
        let calls = self.calls.swap(0, Ordering::Relaxed);
        (calls as u32, (calls >> 32) as u32)
    }
}

/// The share with which a slow start begins.
const COLDEST: f64 = 0.1;
