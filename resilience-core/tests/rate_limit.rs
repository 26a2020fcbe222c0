//! Behaviour of the limiters, seen from outside.

use std::time::Duration;

use proptest::prelude::*;
use resilience_core::{clock::ManualClock, rate_limit::*};

fn limiter(permits: u32, burst: u32) -> (RateLimiter, ManualClock) {
    let clock = ManualClock::new();
    let quota = Quota::per_second(permits).unwrap().burst(burst).unwrap();
    (RateLimiter::with_clock(quota, clock.clone()), clock)
}

#[test]
fn a_refusal_tells_the_exact_wait() {
    let (limiter, clock) = limiter(3, 2);
    assert_eq!(limiter.try_acquire_n(2).unwrap().remaining, 0);
    let wait = limiter.try_acquire().unwrap_err().retry_after.unwrap();
    clock.advance(wait - Duration::from_nanos(1));
    assert!(limiter.try_acquire().is_err());
    clock.advance(Duration::from_nanos(1));
    assert!(limiter.try_acquire().is_ok());
}

#[test]
fn a_cost_above_the_burst_is_never_admitted_and_says_so() {
    let (limiter, _) = limiter(3, 2);
    assert_eq!(limiter.try_acquire_n(3).unwrap_err().retry_after, None);
}

#[test]
fn a_clock_that_steps_back_gives_no_credit() {
    let (limiter, clock) = limiter(1, 1);
    clock.set(Duration::from_secs(10));
    limiter.try_acquire().unwrap();
    clock.set(Duration::ZERO);
    assert!(limiter.try_acquire().is_err());
    clock.set(Duration::MAX);
    assert!(limiter.try_acquire().is_ok());
    assert!(limiter.try_acquire().is_err());
}

#[test]
fn keys_are_counted_alone_and_never_exceed_the_cap() {
    let clock = ManualClock::new();
    let quota = Quota::per_second(1).unwrap();
    let limiter = KeyedRateLimiter::with_clock(quota, 100, clock.clone());
    assert!(limiter.try_acquire(&0).is_ok());
    assert!(limiter.try_acquire(&0).is_err());
    for key in 1..if cfg!(miri) { 300 } else { 10_000 } {
        assert!(limiter.try_acquire(&key).is_ok());
        assert!(limiter.len() <= 100);
    }
}

#[test]
fn a_recovered_key_is_evicted_before_one_that_is_not() {
    let clock = ManualClock::new();
    let quota = Quota::per_second(1).unwrap();
    let limiter = KeyedRateLimiter::with_clock(quota, 2, clock.clone());
    limiter.try_acquire(&"old").unwrap();
    clock.advance(Duration::from_secs(1));
    limiter.try_acquire(&"busy").unwrap();
    limiter.try_acquire(&"new").unwrap();
    assert!(limiter.try_acquire(&"busy").is_err());
}

#[test]
fn deciding_allocates_nothing() {
    let (limiter, _) = limiter(1, 1);
    let info = allocation_counter::measure(|| {
        assert!(limiter.try_acquire().is_ok());
        assert!(limiter.try_acquire().is_err());
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn a_bad_quota_is_named() {
    let error = Quota::per_second(0).unwrap_err();
    assert_eq!(error.to_string(), "permits is 0, allowed: 1 or more");
    let quota: Quota = serde_json::from_str(r#"{"permits": 5, "per": "1m"}"#).unwrap();
    assert_eq!(quota.replenish_interval(), Duration::from_secs(12));
}

proptest! {
    #[test]
    fn any_span_admits_at_most_burst_plus_rate(
        permits in 1..50_u32, burst in 1..20_u32,
        steps in prop::collection::vec((0..300_000_000_u64, 1..5_u32), 1..200),
    ) {
        let (limiter, clock) = limiter(permits, burst);
        let (mut now, mut log) = (0_u64, Vec::new());
        for (wait, cost) in steps {
            now += wait;
            clock.set(Duration::from_nanos(now));
            if limiter.try_acquire_n(cost).is_ok() {
                log.push((now, u64::from(cost)));
            }
        }
        for from in 0..log.len() {
            let mut sum = 0;
            for (at, cost) in &log[from..] {
                sum += cost;
                let span = u128::from(at - log[from].0);
                let most = u128::from(burst) + span * u128::from(permits) / 1_000_000_000;
                prop_assert!(u128::from(sum) <= most);
            }
        }
    }
}
