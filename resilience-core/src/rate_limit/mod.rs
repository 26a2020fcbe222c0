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
//! A call of a key that [`KeyedRateLimiter`] holds takes no lock; a new key takes the short lock of
//! its shard.

mod cell;
mod check;
mod keyed;
mod leased;
mod limiter;
mod limits;
mod line;
#[cfg(all(test, resilience_loom))]
mod loom_tests;
mod quota;
mod ticks;
pub mod wait;
mod word;

use std::time::Duration;

pub use self::{
    check::{AllAdmitted, Check, Cost, NotAll, check_all},
    keyed::{KeyedCost, KeyedRateLimiter, KeyedSnapshot},
    leased::{LeasedRateLimiter, LeasedSnapshot},
    limiter::RateLimiter,
    limits::Limits,
    quota::{Quota, QuotaError},
};

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

/// The figures of a limiter at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The quota in force.
    pub quota: Quota,
    /// What would be admitted at once, if nobody waited in line.
    pub remaining: u32,
    /// The time until the whole burst is back, if nobody waited in line.
    pub reset_after: Duration,
    /// What those who wait in line ask for, in all; see [`wait`].
    pub queued: u64,
}
