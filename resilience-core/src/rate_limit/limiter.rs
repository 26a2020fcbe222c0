//! One limit for all.

use std::{sync::Arc, task::Waker};

use parking_lot::Mutex;

use super::{
    Admitted, Limited, Snapshot,
    check::{Cost, Taken},
    line::Line,
    quota::Quota,
    ticks::Ticks,
    wait::WaitQueue,
    word::Bucket,
};
use crate::clock::SharedClock;

/// One rate limit; clones are handles on the same one.
///
/// # Concurrency
///
/// Lock-free: an attempt is repeated only because another call was admitted, refunded, or changed
/// the quota. An answer allocates nothing.
///
/// # Examples
///
/// ```
/// use resilience_core::rate_limit::{Quota, RateLimiter};
///
/// let limiter = RateLimiter::new(Quota::per_second(10)?.burst(2)?);
/// assert!(limiter.try_acquire_n(2).is_ok());
/// assert!(limiter.try_acquire().is_err());
/// # Ok::<(), resilience_core::rate_limit::QuotaError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RateLimiter {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) bucket: Bucket,
    ticks: Ticks,
    /// Held by those who wait or change the quota, never by those who take.
    pub(super) line: Mutex<Line>,
}

impl RateLimiter {
    /// A limiter with its whole burst, on the default clock.
    pub fn new(quota: Quota) -> Self {
        Self::with_clock(quota, SharedClock::default())
    }

    /// A limiter with its whole burst, on a clock of one's own.
    pub fn with_clock(quota: Quota, clock: impl Into<SharedClock>) -> Self {
        Self {
            inner: Arc::new(Inner {
                bucket: Bucket::new(quota),
                ticks: Ticks::new(clock.into()),
                line: Mutex::default(),
            }),
        }
    }

    /// The quota in force.
    pub fn quota(&self) -> Quota {
        self.inner.bucket.quota()
    }

    /// Changes the quota, for all handles at once. The balance is kept in proportion: a full bucket
    /// stays full, an empty one stays empty, and one that lacks a third of the old burst lacks a
    /// third of the new one.
    ///
    /// So changes to and fro gain nothing: over any span, the admitted permits, each as a share of
    /// the burst it was admitted under, sum up to at most 1 plus the time, as a share of the
    /// [fill time](Quota::fill_time) in force. A wait told before the change is no longer exact.
    ///
    /// # Concurrency
    ///
    /// Calls never see half a change; one that began before it decides again. Callers of this method
    /// exclude each other by a short lock. (Versions are counted modulo eight: a call that is caught
    /// between two of its instructions while the quota changes eight times, and that then finds the
    /// balance at the same nanosecond, is decided by the quota in force when it began. Every change
    /// moves the balance by a nanosecond at least, so that this takes refunds and chance as well.)
    pub fn set_quota(&self, quota: Quota) {
        let inner = &*self.inner;
        inner.with_line(|line, bucket| {
            if bucket.quota() != quota {
                bucket.set_quota(quota, || inner.now());
                line.advance(bucket, inner.now());
            }
        });
    }

    /// Admits one call now or refuses it, at once.
    ///
    /// # Errors
    ///
    /// [`Limited`], with the exact wait.
    #[inline]
    pub fn try_acquire(&self) -> Result<Admitted, Limited> {
        self.try_acquire_n(1)
    }

    /// Admits a call of cost `n` now or refuses it, all or nothing. Cost 0 is always admitted. A
    /// cost above the burst is never admitted, and is told so at once; a later
    /// [`set_quota`](Self::set_quota) may change that.
    ///
    /// # Errors
    ///
    /// [`Limited`], with the exact wait.
    #[inline]
    pub fn try_acquire_n(&self, n: u32) -> Result<Admitted, Limited> {
        let inner = &*self.inner;
        inner.bucket.take(n, inner.now())
    }

    /// What [`try_acquire_n`](Self::try_acquire_n) would answer now; takes nothing.
    ///
    /// # Errors
    ///
    /// [`Limited`], with the exact wait.
    pub fn peek(&self, n: u32) -> Result<Admitted, Limited> {
        self.inner.bucket.peek(n, self.inner.now())
    }

    /// Gives `n` permits back, for a call that was admitted and then did not take place.
    ///
    /// The bucket never becomes more than full, so at most what was taken, and has not come back
    /// by itself, is given back; that it is the caller's own is the caller's promise. It is counted
    /// in permits of the quota now in force. A refund un-admits: in any span, what is admitted
    /// *less what is refunded* is at most burst + rate × span.
    pub fn refund(&self, n: u32) {
        let inner = &*self.inner;
        if inner.bucket.refund(n, inner.now()) {
            inner.advance();
        }
    }

    /// A line of at most `max` for those who would rather wait than be refused; see
    /// [`wait`](super::wait).
    pub fn wait_queue(&self, max: usize) -> WaitQueue {
        WaitQueue::new(self.clone(), max)
    }

    /// The figures of now; takes nothing.
    pub fn snapshot(&self) -> Snapshot {
        let inner = &*self.inner;
        inner.bucket.snapshot(inner.now())
    }

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.inner);
        move || weak.upgrade().map(|inner| Self { inner })
    }

    /// This limit at cost `n`, for [`check_all`](super::check_all()).
    pub fn cost(&self, n: u32) -> Cost<'_> {
        Cost::new(self, n)
    }
}

impl Inner {
    #[inline]
    pub(super) fn now(&self) -> u64 {
        self.ticks.now()
    }

    pub(super) fn give_back(&self, taken: Taken) {
        if self.bucket.give_back(taken.nanos, taken.fill, self.now()) {
            self.advance();
        }
    }

    /// Does `work` with the lock of the line, and then wakes whom it says.
    pub(super) fn with_line<T>(&self, work: impl FnOnce(&mut Line, &Bucket) -> T) -> T {
        let mut line = self.line.lock();
        let done = work(&mut line, &self.bucket);
        let (wake, retired) = line.wakers();
        drop(line);
        wake.into_iter().for_each(Waker::wake);
        drop(retired);
        done
    }

    /// Gives the turns that are possible by now.
    fn advance(&self) {
        self.with_line(|line, bucket| line.advance(bucket, self.now()));
    }
}
