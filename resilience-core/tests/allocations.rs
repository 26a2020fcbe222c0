//! The call path touches no heap: these tests count.
//!
//! A thread's first calls may set up what it counts in, so each test makes a few before.

use std::{hint::black_box, time::Duration};

use allocation_counter::measure;
use resilience_core::{
    breaker::*,
    clock::ManualClock,
    rate_limit::{KeyedRateLimiter, Quota, RateLimiter},
};

const SECOND: Duration = Duration::from_secs(1);
const CALLS: u32 = 1_000;

/// Allocations of a thousand runs of `call`, after a few that are not counted.
fn allocations(mut call: impl FnMut()) -> u64 {
    (0..4).for_each(|_| call());
    measure(|| (0..CALLS).for_each(|_| call())).count_total
}

fn breaker(config: ConfigBuilder) -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::with_clock("heap", config.build().unwrap(), clock.clone());
    (breaker, clock)
}

/// Every kind of window and of threshold; none opens in these tests.
fn settings() -> Vec<ConfigBuilder> {
    let base = || Config::builder().failure_rate(1.0).minimum_calls(100);
    let time = || base().count_window(None).time_window(SECOND * 10);
    vec![
        base(),
        base().consecutive_failures(5),
        base().failure_count(90),
        base().on_cancel(OnCancel::FailureAfter(SECOND)),
        time(),
        time().slow_call(SECOND),
        base().slow_call(SECOND).time_window(SECOND * 10),
    ]
}

#[test]
fn calls_of_a_closed_breaker_allocate_nothing() {
    for config in settings() {
        let (breaker, clock) = breaker(config.clone());
        let mut turn = 0;
        let calls = allocations(|| {
            turn += 1;
            let permit = breaker.try_acquire().unwrap();
            // Through all segments of a time window, several times.
            clock.advance(SECOND / 10);
            match turn % 4 {
                0 => permit.failure(),
                1 => drop(permit),
                2 => permit.ignore(),
                _ => permit.success(),
            }
        });
        assert_eq!(calls, 0, "{config:?}");
        assert_eq!(breaker.state(), State::Closed);
    }
}

#[test]
fn slow_calls_and_owned_permits_allocate_nothing() {
    for config in settings() {
        let (breaker, clock) = breaker(config.clone().slow_call_rate(None));
        let calls = allocations(|| {
            let permit = breaker.try_acquire_owned().unwrap();
            clock.advance(SECOND * 2);
            permit.success();
        });
        assert_eq!(calls, 0, "{config:?}");
    }
}

#[test]
fn refusals_allocate_nothing() {
    let opens = Config::builder().failure_rate(None).consecutive_failures(1);
    let (open, _) = breaker(opens.clone());
    open.try_acquire().unwrap().failure();
    assert_eq!(
        allocations(|| assert!(black_box(open.try_acquire()).is_err())),
        0
    );

    let (half_open, clock) = breaker(opens.half_open_permits(1));
    half_open.try_acquire().unwrap().failure();
    clock.advance(SECOND * 30);
    let _probe = half_open.try_acquire().unwrap();
    assert_eq!(
        allocations(|| assert!(half_open.try_acquire_owned().is_err())),
        0
    );

    let (forced, _) = breaker(Config::builder());
    forced.set_mode(Mode::ForcedOpen);
    assert_eq!(allocations(|| assert!(forced.try_acquire().is_err())), 0);
}

#[test]
fn probes_allocate_nothing() {
    let config = Config::builder().failure_rate(None).consecutive_failures(1);
    let (breaker, clock) = breaker(config);
    breaker.try_acquire().unwrap().failure();
    clock.advance(SECOND * 30);
    assert_eq!(allocations(|| breaker.try_acquire().unwrap().ignore()), 0);
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[test]
fn calls_in_every_mode_allocate_nothing() {
    for mode in [Mode::ForcedClosed, Mode::Disabled, Mode::ObserveOnly] {
        let (breaker, _) = breaker(Config::builder().failure_rate(None));
        breaker.set_mode(mode);
        let mut turn = 0;
        let calls = allocations(|| {
            turn += 1;
            let permit = breaker.try_acquire().unwrap();
            if turn % 2 == 0 {
                permit.success();
            } else {
                permit.failure();
            }
        });
        assert_eq!(calls, 0, "{mode:?}");
    }
}

#[test]
fn calls_with_a_shadow_allocate_nothing() {
    let (breaker, _) = breaker(Config::builder());
    breaker.set_shadow(Config::builder().failure_rate(0.9).build().unwrap());
    assert_eq!(allocations(|| breaker.try_acquire().unwrap().success()), 0);
}

#[test]
fn a_call_through_the_registry_allocates_nothing_for_a_known_key() {
    let registry: Registry<u64> = Registry::builder(Config::default()).max(100).build();
    (0..100).for_each(|key| drop(registry.get(&key).unwrap()));
    let mut key = 0;
    let mut next = || {
        key = (key + 1) % 100;
        key
    };
    assert_eq!(allocations(|| drop(registry.get(&next()).unwrap())), 0);
    let call = || {
        let permit = registry.with(&next(), CircuitBreaker::try_acquire_owned);
        permit.unwrap().unwrap().success();
    };
    // Each of the hundred sets up this thread's counters once.
    let mut call = call;
    (0..100).for_each(|_| call());
    assert_eq!(allocations(call), 0);
}

#[test]
fn a_new_key_that_is_refused_by_a_full_registry_allocates_nothing() {
    let registry: Registry<u64> = Registry::builder(Config::default()).max(50).build();
    let _held: Vec<_> = (0..50).map(|key| registry.get(&key).unwrap()).collect();
    let mut key = 50;
    let calls = allocations(|| {
        key += 1;
        assert!(registry.get(&key).is_err());
    });
    assert_eq!(calls, 0);
}

#[test]
fn a_limiter_allocates_nothing_whether_it_admits_or_refuses() {
    let plenty = RateLimiter::new(Quota::per_second(1_000_000).unwrap());
    assert_eq!(allocations(|| assert!(plenty.try_acquire().is_ok())), 0);
    let scarce = RateLimiter::new(Quota::new(1, SECOND * 3_600).unwrap());
    scarce.try_acquire().unwrap();
    assert_eq!(allocations(|| assert!(scarce.try_acquire().is_err())), 0);
}

#[test]
fn a_keyed_limiter_allocates_nothing_for_a_known_key() {
    let plenty = KeyedRateLimiter::new(Quota::per_second(1_000_000).unwrap(), 1_000);
    let mut key = 0_u64;
    let mut admit = || {
        key = (key + 1) % 100;
        assert!(plenty.try_acquire(&key).is_ok());
    };
    (0..100).for_each(|_| admit());
    assert_eq!(allocations(admit), 0);
    let scarce = KeyedRateLimiter::new(Quota::new(1, SECOND * 3_600).unwrap(), 1_000);
    scarce.try_acquire(&1).unwrap();
    assert_eq!(allocations(|| assert!(scarce.try_acquire(&1).is_err())), 0);
}
