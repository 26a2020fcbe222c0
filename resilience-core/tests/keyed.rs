//! Behaviour of the keyed limiter, seen from outside.

use std::{
    hash::{BuildHasherDefault, DefaultHasher},
    time::Duration,
};

use resilience_core::{
    clock::ManualClock,
    rate_limit::{KeyedRateLimiter, Quota, RateLimiter, check_all},
};

const SECOND: Duration = Duration::from_secs(1);
const NANOSECOND: Duration = Duration::from_nanos(1);

/// Places keys the same way in every run.
type Fixed = BuildHasherDefault<DefaultHasher>;

fn quota(per_second: u32, burst: u32) -> Quota {
    Quota::per_second(per_second).unwrap().burst(burst).unwrap()
}

fn limiter(quota: Quota, max_keys: usize) -> (KeyedRateLimiter<u64, Fixed>, ManualClock) {
    let clock = ManualClock::new();
    let limiter = KeyedRateLimiter::with_hasher(quota, max_keys, clock.clone(), Fixed::default());
    (limiter, clock)
}

#[test]
fn a_key_is_refused_until_exactly_the_wait_it_was_told() {
    let (limiter, clock) = limiter(quota(3, 2), 10);
    assert_eq!(limiter.try_acquire_n(&1, 2).unwrap().remaining, 0);
    let wait = limiter.try_acquire(&1).unwrap_err().retry_after.unwrap();
    clock.advance(wait - NANOSECOND);
    assert!(limiter.try_acquire(&1).is_err());
    clock.advance(NANOSECOND);
    assert!(limiter.try_acquire(&1).is_ok());
}

#[test]
fn keys_of_unsized_types_need_no_owned_copy() {
    let limiter = KeyedRateLimiter::<str>::with_clock(quota(1, 1), 10, ManualClock::new());
    assert!(limiter.try_acquire("a").is_ok());
    assert!(limiter.try_acquire(&String::from("a")).is_err());
    let bytes = KeyedRateLimiter::<[u8]>::with_clock(quota(1, 1), 10, ManualClock::new());
    assert!(bytes.try_acquire(b"a").is_ok());
    assert!(bytes.try_acquire(b"b").is_ok());
}

#[test]
fn clones_share_their_keys_and_their_quota() {
    let (limiter, _) = limiter(quota(1, 1), 10);
    let clone = limiter.clone();
    limiter.try_acquire(&1).unwrap();
    assert!(clone.try_acquire(&1).is_err());
    clone.set_quota(quota(2, 8));
    assert_eq!(limiter.quota(), quota(2, 8));
}

#[test]
fn the_cap_is_at_least_one_key() {
    let (limiter, _) = limiter(quota(1, 1), 0);
    limiter.try_acquire(&1).unwrap();
    assert_eq!(limiter.len(), 1);
    assert!(limiter.try_acquire(&1).is_err());
    assert_eq!(limiter.snapshot().max_keys, 1);
}

#[test]
fn only_a_call_that_takes_something_holds_a_place() {
    let (limiter, _) = limiter(quota(1, 2), 10);
    assert_eq!(limiter.try_acquire_n(&1, 0).unwrap().remaining, 2);
    assert_eq!(limiter.try_acquire_n(&1, 3).unwrap_err().retry_after, None);
    assert_eq!(limiter.peek(&1, 1).unwrap().remaining, 1);
    limiter.refund(&1, 1);
    assert!(limiter.is_empty());
    limiter.try_acquire(&1).unwrap();
    assert_eq!(limiter.len(), 1);
}

#[test]
fn peeking_answers_as_a_call_would_and_takes_nothing() {
    let (limiter, _) = limiter(quota(1, 3), 10);
    limiter.try_acquire_n(&1, 2).unwrap();
    let told = limiter.peek(&1, 2).unwrap_err();
    assert_eq!(told, limiter.try_acquire_n(&1, 2).unwrap_err());
    let told = limiter.peek(&1, 1).unwrap();
    assert_eq!(told, limiter.try_acquire(&1).unwrap());
    assert_eq!(limiter.peek(&1, 0).unwrap().remaining, 0);
}

#[test]
fn a_refund_is_spent_again_and_fills_at_most_to_the_burst() {
    let (limiter, _) = limiter(quota(1, 5), 10);
    limiter.try_acquire_n(&1, 5).unwrap();
    limiter.refund(&1, 2);
    assert!(limiter.try_acquire_n(&1, 3).is_err());
    limiter.try_acquire_n(&1, 2).unwrap();
    limiter.refund(&1, u32::MAX);
    assert!(limiter.try_acquire_n(&1, 6).is_err());
    limiter.try_acquire_n(&1, 5).unwrap();
    assert!(limiter.try_acquire(&1).is_err());
}

#[test]
fn a_key_that_is_reset_has_its_whole_burst_and_no_place() {
    let (limiter, _) = limiter(quota(1, 2), 10);
    limiter.try_acquire_n(&1, 2).unwrap();
    limiter.try_acquire_n(&2, 2).unwrap();
    assert!(limiter.reset(&1));
    assert!(!limiter.reset(&1));
    assert_eq!(limiter.len(), 1);
    limiter.try_acquire_n(&1, 2).unwrap();
    assert!(limiter.try_acquire(&2).is_err());
}

#[test]
fn a_changed_quota_keeps_the_share_that_is_left() {
    let (limiter, _) = limiter(quota(1, 10), 10);
    limiter.try_acquire_n(&1, 10).unwrap();
    limiter.try_acquire_n(&2, 5).unwrap();
    limiter.set_quota(quota(7, 100));
    assert_eq!(limiter.peek(&1, 0).unwrap().remaining, 0);
    assert_eq!(limiter.peek(&2, 0).unwrap().remaining, 50);
    assert_eq!(limiter.peek(&3, 0).unwrap().remaining, 100);
    // A key is judged by the new quota, and there and back nothing is gained.
    assert_eq!(limiter.try_acquire_n(&2, 40).unwrap().remaining, 10);
    limiter.set_quota(quota(1, 10));
    assert_eq!(limiter.try_acquire(&2).unwrap().remaining, 0);
    assert!(limiter.try_acquire(&1).is_err());
}

#[test]
fn a_cost_above_the_burst_may_be_admitted_after_a_change_of_quota() {
    let (limiter, _) = limiter(quota(1, 2), 10);
    assert_eq!(limiter.try_acquire_n(&1, 3).unwrap_err().retry_after, None);
    limiter.set_quota(quota(1, 3));
    assert!(limiter.try_acquire_n(&1, 3).is_ok());
}

#[test]
fn a_key_is_judged_by_the_quota_its_caller_names() {
    let (limiter, _) = limiter(quota(1, 1), 10);
    let (free, paid) = (quota(1, 2), quota(10, 20));
    assert!(limiter.try_acquire_with(&1, 2, free).is_ok());
    assert!(limiter.try_acquire_with(&1, 1, free).is_err());
    assert_eq!(
        limiter.try_acquire_with(&2, 10, paid).unwrap().remaining,
        10
    );
    // The tariff changes: half of the burst is left.
    assert_eq!(limiter.peek_with(&2, 0, free).unwrap().remaining, 1);
    assert!(limiter.try_acquire_with(&2, 1, free).is_ok());
    assert!(limiter.try_acquire_with(&2, 1, free).is_err());
    limiter.refund_with(&2, 1, free);
    assert_eq!(limiter.peek_with(&2, 0, paid).unwrap().remaining, 10);
    // Keys without a tariff of their own keep to the common quota.
    assert_eq!(limiter.try_acquire(&3).unwrap().burst, 1);
}

#[test]
fn recovered_keys_are_evicted_and_the_others_kept() {
    let (limiter, clock) = limiter(quota(1, 10), 200);
    for key in 0..100 {
        limiter.try_acquire(&key).unwrap();
    }
    clock.advance(SECOND);
    for key in 100..200 {
        limiter.try_acquire_n(&key, 10).unwrap();
    }
    // The first hundred has recovered, the second is spent.
    for key in 200..250 {
        limiter.try_acquire_n(&key, 10).unwrap();
        assert!(limiter.len() <= 200);
    }
    let snapshot = limiter.snapshot();
    assert_eq!(snapshot.evicted_early, 0);
    assert!(snapshot.evicted_recovered >= 50);
    assert!((100..250).all(|key| limiter.try_acquire(&key).is_err()));
}

// Of the places that a new key may take, it takes that of the key nearest to its whole burst.
#[test]
fn a_flood_of_new_keys_does_not_free_a_key_that_has_spent_more() {
    let (limiter, _) = limiter(quota(1, 10), 500);
    let spent = 1_000_000;
    limiter.try_acquire_n(&spent, 10).unwrap();
    let flood = if cfg!(miri) { 1000 } else { 100_000 };
    for key in 0..flood {
        limiter.try_acquire(&key).unwrap();
    }
    assert!(limiter.try_acquire(&spent).is_err());
    let snapshot = limiter.snapshot();
    assert_eq!(snapshot.keys, 500);
    assert_eq!(snapshot.evicted_early, flood + 1 - 500);
}

#[test]
fn with_up_to_eight_keys_the_nearest_to_its_burst_of_all_is_evicted() {
    let (limiter, clock) = limiter(quota(1, 10), 8);
    for key in 0..8 {
        limiter.try_acquire_n(&key, 10 - key as u32).unwrap();
    }
    limiter.try_acquire_n(&8, 10).unwrap();
    assert_eq!(limiter.peek(&7, 0).unwrap().remaining, 10);
    for key in 0..7 {
        assert_eq!(limiter.peek(&key, 0).unwrap().remaining, key as u32);
    }
    clock.advance(4 * SECOND);
    // Key 6 has recovered now.
    limiter.try_acquire_n(&9, 10).unwrap();
    assert_eq!(limiter.snapshot().evicted_recovered, 1);
    assert_eq!(limiter.peek(&5, 0).unwrap().remaining, 9);
}

#[test]
fn below_the_cap_no_key_is_evicted_early() {
    for max_keys in [1, 8, 9, 24, 25, 96, 192, 1000, 20_000] {
        if cfg!(miri) && max_keys > 200 {
            continue;
        }
        let (limiter, _) = limiter(quota(1, 1), max_keys);
        for key in 0..max_keys as u64 {
            limiter.try_acquire(&key).unwrap();
        }
        assert_eq!(limiter.len(), max_keys);
        assert_eq!(limiter.snapshot().evicted_early, 0);
        assert!((0..max_keys as u64).all(|key| limiter.try_acquire(&key).is_err()));
    }
}

#[test]
fn an_evicted_key_gains_nothing_when_the_clock_steps_back() {
    let (limiter, clock) = limiter(quota(1, 1), 1);
    clock.advance(10 * SECOND);
    limiter.try_acquire(&1).unwrap();
    clock.advance(SECOND);
    // Key 1 has recovered at 11 s, and makes room.
    limiter.try_acquire(&2).unwrap();
    clock.set(SECOND * 21 / 2);
    let wait = limiter.try_acquire(&1).unwrap_err().retry_after;
    assert_eq!(wait, Some(SECOND / 2));
    assert_eq!(limiter.peek(&1, 1).unwrap_err().retry_after, wait);
}

#[test]
fn any_clock_reading_is_survived() {
    let (limiter, clock) = limiter(quota(1, 1), 2);
    for at in [Duration::MAX, Duration::ZERO, Duration::MAX, SECOND] {
        clock.set(at);
        for key in 0..10 {
            let _ = limiter.try_acquire(&key);
            limiter.refund(&key, 1);
            limiter.set_quota(quota(1, 1 + key as u32));
        }
        assert!(limiter.len() <= 2);
    }
}

#[test]
fn keys_and_limits_are_taken_from_together_or_not_at_all() {
    let (all, _) = (
        RateLimiter::with_clock(quota(1, 10), ManualClock::new()),
        (),
    );
    let (each, _) = limiter(quota(1, 3), 10);
    assert!(check_all(&[&all, &each.cost(&1, 2)]).is_ok());
    let refused = check_all(&[&all, &each.cost(&1, 2)]).unwrap_err();
    assert_eq!(refused.refused_by, 1);
    assert_eq!(refused.limited.retry_after, Some(SECOND));
    assert_eq!(all.snapshot().remaining, 9);
    // A key that is named twice pays for both.
    assert!(check_all(&[&each.cost(&2, 2), &all, &each.cost(&2, 2)]).is_err());
    assert!(each.peek(&2, 3).is_ok());
    assert!(check_all(&[&each.cost(&2, 1), &each.cost(&2, 2)]).is_ok());
    assert!(each.try_acquire(&2).is_err());
    // A key by a quota of its own.
    assert!(check_all(&[&all, &each.cost_with(&3, 20, quota(1, 20))]).is_ok());
    assert!(each.try_acquire(&3).is_err());
}

#[test]
fn no_call_allocates() {
    let (limiter, clock) = limiter(quota(1, 2), 1000);
    let other = quota(5, 9);
    let info = allocation_counter::measure(|| {
        for key in 0..if cfg!(miri) { 50 } else { 5000 } {
            clock.advance(Duration::from_millis(1));
            assert!(limiter.try_acquire(&key).is_ok());
            assert!(limiter.try_acquire_n(&key, 3).is_err());
            assert!(limiter.peek(&key, 1).is_ok());
            assert!(check_all(&[&limiter.cost(&key, 1)]).is_ok());
            limiter.refund(&key, 2);
            assert!(limiter.try_acquire_with(&key, 9, other).is_ok());
            limiter.set_quota(quota(1, 2 + key as u32 % 2));
            assert!(limiter.snapshot().keys <= 1000);
        }
    });
    assert_eq!(info.count_total, 0);
}
