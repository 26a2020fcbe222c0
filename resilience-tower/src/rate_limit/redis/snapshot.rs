use resilience_core::breaker::State;
use resilience_core::rate_limit::{Quota, store::LeaseSnapshot};

/// The figures of a [`RedisLimiter`](super::RedisLimiter) at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct RedisSnapshot {
    /// The quota in force.
    pub quota: Quota,
    /// What this process holds without a key; `None` when each call is decided by Redis.
    pub lease: Option<LeaseSnapshot>,
    /// Keys that this process holds a lease of.
    pub keys: usize,
    /// The most of them; 0 when each call is decided by Redis.
    pub max_keys: usize,
    /// Keys whose lease was given up as they were idle.
    pub evicted: usize,
    /// Calls of keys without a lease for want of room, which Redis decided.
    pub no_room: u64,
    /// Of the breaker in front of Redis: closed while it answers.
    pub state: State,
    /// Questions that Redis answered.
    pub answered: u64,
    /// Questions that it did not answer, or not in time, or not by what can be read.
    pub failed: u64,
    /// Calls admitted without an answer, by [`OnOutage::Open`](super::OnOutage::Open).
    pub outage_open: u64,
    /// Calls refused for want of an answer.
    pub outage_closed: u64,
    /// Calls admitted by this process's share, by [`OnOutage::Local`](super::OnOutage::Local).
    pub outage_local: u64,
}
