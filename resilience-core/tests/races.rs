//! Small races of two threads, few steps each: small enough for Miri, which runs them under many
//! interleavings and with its emulation of weak memory (`make miri`).

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use resilience_core::{breaker::*, clock::ManualClock, rate_limit::*};

const ROUNDS: usize = if cfg!(miri) { 1 } else { 300 };
const RESET: Duration = Duration::from_secs(1);

/// Runs both at once; the sum of what they count.
fn both(one: impl Fn() -> usize + Sync, other: impl Fn() -> usize + Sync) -> usize {
    thread::scope(|scope| {
        let one = scope.spawn(&one);
        let other = scope.spawn(&other);
        one.join().unwrap() + other.join().unwrap()
    })
}

fn small() -> ConfigBuilder {
    Config::builder()
        .count_window(8)
        .minimum_calls(2)
        .half_open_permits(1)
        .reset_timeout(RESET)
}

fn quota(burst: u32) -> Quota {
    Quota::per_second(1).unwrap().burst(burst).unwrap()
}

#[test]
fn two_failures_that_cross_the_threshold_open_once() {
    for _ in 0..ROUNDS {
        for config in [
            small().consecutive_failures(2).failure_rate(None),
            small().failure_rate(1.0),
            small().time_window(RESET).count_window(None),
            small().failure_count(2).failure_rate(None),
        ] {
            let config = config.build().unwrap();
            let breaker = CircuitBreaker::with_clock("race", config, ManualClock::new());
            let (_subscription, events) = breaker.subscribe_channel(4);
            let fail = || {
                breaker
                    .try_acquire_owned()
                    .map(OwnedPermit::failure)
                    .is_ok()
                    .into()
            };
            assert_eq!(both(fail, fail), 2);
            assert_eq!(breaker.state(), State::Open);
            assert_eq!(events.try_iter().count(), 1);
        }
    }
}

#[test]
fn one_of_two_callers_gets_the_only_probe() {
    for _ in 0..ROUNDS {
        let clock = ManualClock::new();
        let config = small().consecutive_failures(1).build().unwrap();
        let breaker = CircuitBreaker::with_clock("race", config, clock.clone());
        breaker.try_acquire().unwrap().failure();
        clock.advance(RESET);
        let held = Mutex::new(Vec::new());
        let probe = || match breaker.try_acquire_owned() {
            Ok(permit) => {
                assert!(permit.is_probe());
                held.lock().unwrap().push(permit);
                1
            }
            Err(_) => 0,
        };
        assert_eq!(both(probe, probe), 1);
    }
}

#[test]
fn an_outcome_beside_a_reset_counts_in_one_generation_or_none() {
    for _ in 0..ROUNDS {
        let config = small().failure_rate(None).build().unwrap();
        let breaker = CircuitBreaker::with_clock("race", config, ManualClock::new());
        let permit = Mutex::new(breaker.try_acquire_owned().ok());
        let fail = || {
            let permit = permit.lock().unwrap().take();
            permit.map(OwnedPermit::failure).is_some().into()
        };
        let reset = || {
            breaker.reset();
            0
        };
        both(fail, reset);
        // The window of before is gone, so it is stale or forgotten, never in the new window.
        let seen = breaker.snapshot();
        assert_eq!((seen.calls, seen.generation), (0, 1));
        assert!(seen.stale <= 1);
    }
}

#[test]
fn settings_that_grow_beside_outcomes_lose_no_failure() {
    for _ in 0..ROUNDS {
        let off = small().failure_rate(None);
        let breaker =
            CircuitBreaker::with_clock("race", off.clone().build().unwrap(), ManualClock::new());
        let fail = || {
            breaker.try_acquire().unwrap().failure();
            breaker.try_acquire().unwrap().failure();
            2
        };
        let larger = off.count_window(100).build().unwrap();
        let change = || {
            breaker.set_config(larger.clone());
            0
        };
        both(fail, change);
        let seen = breaker.snapshot();
        assert_eq!((seen.calls, seen.failures), (2, 2));
    }
}

#[test]
fn one_of_two_promotions_wins() {
    for _ in 0..ROUNDS {
        let breaker =
            CircuitBreaker::with_clock("race", small().build().unwrap(), ManualClock::new());
        breaker.set_shadow(small().consecutive_failures(3).build().unwrap());
        let promote = || usize::from(breaker.promote_shadow());
        assert_eq!(both(promote, promote), 1);
        assert_eq!(breaker.config().consecutive_failures(), Some(3));
    }
}

#[test]
fn two_threads_never_take_more_than_the_burst() {
    for _ in 0..ROUNDS {
        let limiter = RateLimiter::with_clock(quota(3), ManualClock::new());
        let take = || (0..2).filter(|_| limiter.try_acquire().is_ok()).count();
        assert_eq!(both(take, take), 3);
    }
}

#[test]
fn a_quota_that_changes_beside_calls_gives_none_twice() {
    for _ in 0..ROUNDS {
        let limiter = RateLimiter::with_clock(quota(4), ManualClock::new());
        let taken = AtomicUsize::new(0);
        let take = || {
            for _ in 0..4 {
                if let Ok(admitted) = limiter.try_acquire() {
                    // As shares of the burst of its time: quarters and halves.
                    taken.fetch_add(4 / admitted.burst as usize, Ordering::Relaxed);
                }
            }
            0
        };
        let change = || {
            limiter.set_quota(quota(2));
            0
        };
        both(take, change);
        assert!(taken.load(Ordering::Relaxed) <= 4);
    }
}

#[test]
fn two_threads_that_bring_the_same_new_key_share_one_bucket() {
    for _ in 0..ROUNDS {
        let limiter = KeyedRateLimiter::<u8>::with_clock(quota(2), 4, ManualClock::new());
        let take = || (0..2).filter(|_| limiter.try_acquire(&7).is_ok()).count();
        assert_eq!(both(take, take), 2);
        assert_eq!(limiter.len(), 1);
    }
}

#[test]
fn keys_that_push_each_other_out_never_exceed_the_cap() {
    for _ in 0..ROUNDS {
        let limiter = KeyedRateLimiter::<u8>::with_clock(quota(2), 1, ManualClock::new());
        let take = |key: u8| {
            (0..3)
                .filter(|_| {
                    let _ = limiter.try_acquire(&key);
                    limiter.len() > 1
                })
                .count()
        };
        assert_eq!(both(|| take(1), || take(2)), 0);
    }
}
