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
    /// `[calls without an answer: 32 | calls in flight: 32]`; the former are part of the latter.
    load: AtomicU64,
    pub(super) latency: Latency,
    /// Failures since the last success.
    streak: AtomicU64,
    /// `[failures: 32 | successes: 32]` of this interval.
    calls: AtomicU64,
    /// Until when it is given no calls: the end of the last ejection, 0 if there was none, or
    /// [`DOWN`].
    until: AtomicU64,
    /// What only the judge touches, under its lock.
    pub(super) record: Record,
    /// When it came; 0: with the first, which need no slow start.
    since: u64,
}

/// Counts of an endpoint that are kept under the judge's lock.
#[derive(Debug)]
pub(super) struct Record {
    /// How often it was ejected, less one for each interval in between.
    pub(super) ejections: AtomicU64,
    /// 1 while its ejection is told and its return is not.
    pub(super) ejected: AtomicU64,
    /// Of the intervals before this one.
    successes: AtomicU64,
    failures: AtomicU64,
}

/// [`State::until`] of one that is unhealthy, as the caller said. After every time there is.
pub(super) const DOWN: u64 = u64::MAX;

const FAILURE: u64 = 1 << 32;
const UNANSWERED: u64 = 1 << 32;

// ORDERING: Relaxed throughout. Each word stands alone, and a stale look picks as if the call had
// come a moment earlier. What must agree (who is ejected) is decided under the judge's lock.
impl State {
    pub(super) fn new(since: u64) -> Self {
        Self {
            id: EndpointId(LAST.fetch_add(1, Ordering::Relaxed)),
            load: AtomicU64::new(0),
            latency: Latency::unmeasured(),
            streak: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            until: AtomicU64::new(0),
            record: Record {
                ejections: AtomicU64::new(0),
                ejected: AtomicU64::new(0),
                successes: AtomicU64::new(0),
                failures: AtomicU64::new(0),
            },
            since,
        }
    }

    #[inline]
    pub(super) fn enter(&self) {
        self.load.fetch_add(UNANSWERED + 1, Ordering::Relaxed);
    }

    /// A call has its answer, and is in flight still.
    #[inline]
    pub(super) fn answer(&self) {
        self.load.fetch_sub(UNANSWERED, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn leave(&self, answered: bool) {
        let call = if answered { 1 } else { UNANSWERED + 1 };
        self.load.fetch_sub(call, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn in_flight(&self) -> u32 {
        self.load.load(Ordering::Relaxed) as u32
    }

    /// Calls in flight, and the latency in ns by which the next one goes; `None` while nothing was
    /// measured.
    #[inline]
    pub(super) fn burden(&self, now: u64, decay: f32) -> (u32, Option<f32>) {
        let load = self.load.load(Ordering::Relaxed);
        // Whoever owes an answer is not forgiven: a latency that fades while nothing comes back
        // would draw all calls to an endpoint that hangs.
        let fades = load < UNANSWERED;
        (load as u32, self.latency.at(now, decay, fades))
    }

    /// It is given no calls, as it is ejected or unhealthy.
    #[inline]
    pub(super) fn is_out(&self, now: u64) -> bool {
        now < self.until()
    }

    pub(super) fn is_down(&self) -> bool {
        self.until() == DOWN
    }

    /// The end of the last ejection, 0 if there was none; or [`DOWN`].
    #[inline]
    pub(super) fn until(&self) -> u64 {
        self.until.load(Ordering::Relaxed)
    }

    /// Takes it out until then. Under the judge's lock.
    pub(super) fn leave_out(&self, until: u64) {
        self.until.store(until, Ordering::Relaxed);
        self.streak.store(0, Ordering::Relaxed);
        self.take_calls();
    }

    /// Lets it in before its time.
    pub(super) fn let_in(&self, now: u64) {
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
    pub(super) fn succeed(&self) {
        if self.streak.load(Ordering::Relaxed) != 0 {
            self.streak.store(0, Ordering::Relaxed);
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failure; how many there were in a row.
    #[inline]
    pub(super) fn fail(&self) -> u64 {
        self.calls.fetch_add(FAILURE, Ordering::Relaxed);
        self.streak.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Successes and failures of the interval, which begins anew. Under the judge's lock.
    pub(super) fn take_calls(&self) -> (u32, u32) {
        let (successes, failures) = unpack(self.calls.swap(0, Ordering::Relaxed));
        let record = &self.record;
        let add = |sum: &AtomicU64, more: u32| sum.fetch_add(more.into(), Ordering::Relaxed);
        add(&record.successes, successes);
        add(&record.failures, failures);
        (successes, failures)
    }

    /// Successes and failures since it came. Under the judge's lock.
    pub(super) fn totals(&self) -> (u64, u64) {
        let (successes, failures) = unpack(self.calls.load(Ordering::Relaxed));
        let Record {
            successes: sum,
            failures: failed,
            ..
        } = &self.record;
        (
            sum.load(Ordering::Relaxed) + u64::from(successes),
            failed.load(Ordering::Relaxed) + u64::from(failures),
        )
    }
}

/// Successes and failures.
fn unpack(calls: u64) -> (u32, u32) {
    (calls as u32, (calls >> 32) as u32)
}

/// The share with which a slow start begins.
const COLDEST: f64 = 0.1;
