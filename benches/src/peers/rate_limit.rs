//! Rate limiters: ours and the peers', each with all permits to spare or with none.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::QuantaClock;
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter};
use rate_net::{DirectLimiter, Eviction, RateLimiter as RateNet};
use resilience_core::rate_limit::{KeyedRateLimiter, LeasedRateLimiter, Quota, RateLimiter};

use super::{NEVER_USED_UP, USED_UP};

/// A quota of ours that a machine cannot use up.
#[must_use]
pub fn ample() -> Quota {
    Quota::per_second(NEVER_USED_UP).expect("this quota is in range")
}

/// A quota of ours of one permit, which does not come back during a measurement.
#[must_use]
pub fn scarce() -> Quota {
    Quota::new(1, USED_UP).expect("this quota is in range")
}

/// Ours, always admitting.
#[must_use]
pub fn direct() -> RateLimiter {
    RateLimiter::new(ample())
}

/// Ours with leases: threads hold up to 256 permits in advance. Always admitting.
#[must_use]
pub fn leased() -> LeasedRateLimiter {
    LeasedRateLimiter::new(ample(), 256, 4).expect("the burst is above what is leased")
}

/// Ours, always refusing.
#[must_use]
pub fn direct_used_up() -> RateLimiter {
    let limiter = RateLimiter::new(scarce());
    assert!(limiter.try_acquire().is_ok());
    limiter
}

/// Ours by key.
#[must_use]
pub fn keyed(max_keys: usize) -> KeyedRateLimiter<u64> {
    KeyedRateLimiter::new(ample(), max_keys)
}

/// Ours by key, with a quota that is full again after a second.
#[must_use]
pub fn keyed_slow(max_keys: usize) -> KeyedRateLimiter<u64> {
    let quota = Quota::per_second(10).expect("this quota is in range");
    KeyedRateLimiter::new(quota, max_keys)
}

/// `governor` on its CPU-counter clock, always admitting.
#[must_use]
pub fn governor() -> DefaultDirectRateLimiter {
    DefaultDirectRateLimiter::direct_with_clock(governor_ample(), QuantaClock::default())
}

/// `governor`, always refusing.
#[must_use]
pub fn governor_used_up() -> DefaultDirectRateLimiter {
    let quota = governor::Quota::with_period(USED_UP).expect("the period is above zero");
    let limiter = DefaultDirectRateLimiter::direct_with_clock(quota, QuantaClock::default());
    assert!(limiter.check().is_ok());
    limiter
}

/// `governor` by key, on its default store (`dashmap`) and CPU-counter clock. It has no cap.
#[must_use]
pub fn governor_keyed() -> DefaultKeyedRateLimiter<u64> {
    DefaultKeyedRateLimiter::dashmap(governor_ample())
}

/// `governor` by key, with a quota that is full again after a second.
#[must_use]
pub fn governor_keyed_slow() -> DefaultKeyedRateLimiter<u64> {
    let burst = NonZeroU32::new(10).expect("above zero");
    DefaultKeyedRateLimiter::dashmap(governor::Quota::per_second(burst))
}

fn governor_ample() -> governor::Quota {
    let permits = NonZeroU32::new(NEVER_USED_UP).expect("above zero");
    governor::Quota::per_second(permits)
}

/// `rate-net` without keys, on its default algorithm (a token bucket) and the system clock:
/// its coarse clock reads the system clock as well.
#[must_use]
pub fn rate_net() -> DirectLimiter {
    DirectLimiter::per_second(NEVER_USED_UP)
}

/// `rate-net`, always refusing.
#[must_use]
pub fn rate_net_used_up() -> DirectLimiter {
    let limiter = RateNet::builder().quota(1, USED_UP).build_direct();
    assert!(limiter.check().is_allow());
    limiter
}

/// `rate-net` by key, without a cap.
#[must_use]
pub fn rate_net_keyed() -> RateNet {
    RateNet::per_second(NEVER_USED_UP).with_eviction(Eviction::unbounded())
}

/// `rate-net` by key with a cap, and a quota that is full again after a second.
#[must_use]
pub fn rate_net_capped(max_keys: usize) -> RateNet {
    RateNet::builder()
        .quota(10, Duration::from_secs(1))
        .eviction(Eviction::capacity(max_keys))
        .build()
}
