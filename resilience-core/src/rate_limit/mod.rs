//! Rate limiting: a token bucket kept as one word (GCRA).
//!
//! | type | for |
//! |---|---|
//! | [`RateLimiter`] | one limit for all |
//! | [`KeyedRateLimiter`] | one limit per key, with a hard cap on keys |
//! | [`Limits`], [`check_all`] | several limits, all or none |
//! | [`LeasedRateLimiter`] | one limit for all on a hot path: threads hold permits in advance |
//! | [`store`] | one limit for several processes, which keep it in a store |
//! | [`wait::WaitQueue`] | for those who would rather wait in line than be refused |
//!
//! The word is the time at which the bucket is full again (the *theoretical arrival time*). A call
//! of cost n moves it n intervals into the future, and is refused if it would then be further from
//! now than an empty bucket takes to fill.
//!
//! # What is answered
//!
//! | question | answer |
//! |---|---|
//! | how much is admitted? | in any span t at most burst + rate × t, each call by its cost |
//! | when is a refused call admitted? | after exactly `retry_after`: one nanosecond before it is refused, then it is admitted if no other came first |
//! | a cost above the burst? | never, said at once (`retry_after` is `None`), until the burst is changed |
//! | cost 0? | always admitted, takes nothing |
//! | does a refusal cost anything? | no permits; nothing is written |
//! | a rate that does not divide a second? | the interval between permits is whole nanoseconds, rounded up: never above what was asked, less by under 1 ns per permit |
//! | a change of quota? | at once for all; the missing share of the bucket stays (full stays full, empty stays empty); see [`RateLimiter::set_quota`] |
//! | a refund? | never above the burst; un-admits, see [`RateLimiter::refund`] |
//! | several limits? | all or none; the longest wait is told, see [`check_all`] |
//! | a clock that steps back by d? | no credit: waits get longer, by d at most; the time is earned once it is passed again |
//! | a clock that jumps forward? | credit for the jump, at most the burst |
//! | a clock 34 years after the limiter was made? | stands still: what is left is admitted, then nothing |
//! | somebody waits in line? | calls that do not wait are refused until the line is served, see [`wait`] |
//! | figures in an answer? | of the moment of the decision, just after it |
//!
//! # Concurrency
//!
//! [`RateLimiter`] is lock-free: a compare-exchange fails only because another call was admitted,
//! refunded, or changed the quota. A call of a key that [`KeyedRateLimiter`] holds takes no lock; a
//! new key takes the short lock of its shard. Only those who wait in line, and changes of quota,
//! take a lock in a [`RateLimiter`].

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
pub mod store;
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
pub(crate) use self::{ticks::Ticks, word::Bucket};

/// A call was admitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Admitted {
    /// The burst: the most that is admitted at once.
    pub burst: u32,
    /// What would be admitted at once now.
    pub remaining: u32,
    /// The time until the whole burst is back.
    pub reset_after: Duration,
}

/// A call was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("rate limit reached, {}", match .retry_after {
    Some(wait) => format!("retry in {wait:?}"),
    None => format!("a call of this cost is never admitted (burst {})", .burst),
})]
#[non_exhaustive]
pub struct Limited {
    /// The burst: the most that is admitted at once.
    pub burst: u32,
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
