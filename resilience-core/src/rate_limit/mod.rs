//! Rate limiting: a token bucket kept as one word (GCRA).
//!
//! The word is the *theoretical arrival time*: when the bucket will be full again. A call of cost n
//! moves it n emission intervals into the future, and is refused if that would be further from now
//! than the burst. So in any span t at most burst + rate × t is admitted; a refusal knows the exact
//! wait; and a clock that steps back never adds credit. Intervals are whole nanoseconds, rounded
//! up, so that the rate is never above what was asked.
//!
//! # Concurrency
//!
//! [`RateLimiter`] is lock-free: a compare-exchange fails only because another call was admitted.
//! [`KeyedRateLimiter`] takes the short lock of one shard.

mod cell;
mod keyed;
#[cfg(all(test, resilience_loom))]
mod loom_tests;
mod quota;

use std::{sync::Arc, time::Duration};

use self::{cell::Cell, quota::capped};
pub use self::{
    keyed::KeyedRateLimiter,
    quota::{Quota, QuotaError},
};
use crate::clock::SharedClock;

/// A call was admitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Admitted {
    /// The burst: the most that is admitted at once.
    pub limit: u32,
    /// What would be admitted at once now.
    pub remaining: u32,
    /// The time until the whole burst is back.
    pub reset_after: Duration,
}

/// A call was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("rate limit reached, {}", match .retry_after {
    Some(wait) => format!("retry in {wait:?}"),
    None => format!("a call of this cost is never admitted (burst {})", .limit),
})]
#[non_exhaustive]
pub struct Limited {
    /// The burst: the most that is admitted at once.
    pub limit: u32,
    /// What would be admitted at once now; less than was asked for.
    pub remaining: u32,
    /// The wait after which the same call is admitted, if no other comes first; `None` when its
    /// cost is above the burst and it is never admitted.
    pub retry_after: Option<Duration>,
    /// The time until the whole burst is back.
    pub reset_after: Duration,
}

/// One rate limit; clones are handles on the same one.
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
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    quota: Quota,
    clock: SharedClock,
    cell: Cell,
}

impl RateLimiter {
    /// A limiter with its whole burst, on the operating system's clock.
    pub fn new(quota: Quota) -> Self {
        Self::with_clock(quota, SharedClock::std())
    }

    /// A limiter with its whole burst, on a clock of one's own.
    pub fn with_clock(quota: Quota, clock: impl Into<SharedClock>) -> Self {
        Self {
            inner: Arc::new(Inner {
                quota,
                clock: clock.into(),
                cell: Cell::new(),
            }),
        }
    }

    /// The quota it was made with.
    pub fn quota(&self) -> Quota {
        self.inner.quota
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

    /// Admits a call of cost `n` now or refuses it, all or nothing. Cost 0 is always admitted.
    ///
    /// # Errors
    ///
    /// [`Limited`], with the exact wait.
    #[inline]
    pub fn try_acquire_n(&self, n: u32) -> Result<Admitted, Limited> {
        let inner = &*self.inner;
        inner
            .cell
            .try_acquire(n, capped(inner.clock.nanos()), &inner.quota)
    }
}
