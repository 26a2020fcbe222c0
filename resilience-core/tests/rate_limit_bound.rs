//! The bound: admitted in any span t ≤ burst + rate × t, whatever happens in between.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use proptest::prelude::*;
use resilience_core::{clock::ManualClock, rate_limit::*};

/// Divisible by all numbers up to 18, and so by all bursts below; shares of a bucket are counted
/// in parts of this, so that nothing is rounded.
const WHOLE: u128 = 12_252_240;

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Back(u64),
    Call(u32),
    Refund(u32),
    Change(u64, u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..12_000_u64).prop_map(Step::Wait),
        1 => (0..6_000_u64).prop_map(Step::Back),
        8 => (0..8_u32).prop_map(Step::Call),
        1 => (0..5_u32).prop_map(Step::Refund),
        1 => (1..4_u64, 1..7_u32).prop_map(|(micros, burst)| Step::Change(micros, burst)),
    ]
}

fn quota(micros: u64, burst: u32) -> Quota {
    let quota = Quota::new(1, Duration::from_micros(micros)).unwrap();
    quota.burst(burst).unwrap()
}

/// What a step gave or took, in parts of a whole bucket × 1 µs² so that all is whole.
fn part(nanos: u64, quota: &Quota) -> u128 {
    // A fill time is whole microseconds, at most 18 of them.
    u128::from(nanos) * WHOLE / (quota.fill_time().as_micros())
}

proptest! {
    // Over any span, what is admitted less what is refunded, each as a share of the burst it was
    // counted under, is at most 1 plus the time that passed as a share of the fill time. With one
    // quota that is burst + rate × t. A clock that steps back counts for nothing.
    #[test]
    fn admitted_in_any_span_is_at_most_burst_plus_rate_over_refunds_changes_and_steps_back(
        micros in 1..4_u64, burst in 1..7_u32,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let clock = ManualClock::new();
        let mut quota = quota(micros, burst);
        let limiter = RateLimiter::with_clock(quota, clock.clone());
        let mut now = 0_u64;
        // Taken (+) and given back or earned (−) in the order they happened.
        let mut log: Vec<(u128, u128)> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(by) => {
                    now += by;
                    log.push((0, part(by, &quota)));
                }
                Step::Back(by) => now = now.saturating_sub(by),
                Step::Call(n) => {
                    if limiter.try_acquire_n(n).is_ok() {
                        prop_assert!(n <= quota.burst_size());
                        let cost = quota.replenish_interval().as_nanos() as u64 * u64::from(n);
                        log.push((part(cost, &quota), 0));
                    }
                }
                Step::Refund(n) => {
                    limiter.refund(n);
                    let cost = quota.replenish_interval().as_nanos() as u64 * u64::from(n);
                    log.push((0, part(cost, &quota)));
                }
                Step::Change(micros, burst) => {
                    quota = self::quota(micros, burst);
                    limiter.set_quota(quota);
                    prop_assert_eq!(limiter.quota(), quota);
                }
            }
            clock.set(Duration::from_nanos(now));
        }
        // The most over all spans that end here: that of the step before, or a new one. A whole
        // bucket is 1000 × WHOLE parts.
        let mut most = 0_i128;
        for (took, gave) in log {
            // Divisions above round down by less than 1 each; never in favour of the limiter.
            most = most.max(0) + took as i128 - gave as i128 - 1;
            prop_assert!(most <= WHOLE as i128 * 1000);
        }
    }

    #[test]
    fn a_refusal_is_exact_over_refunds_changes_and_steps_back(
        micros in 1..4_u64, burst in 1..7_u32,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let clock = ManualClock::new();
        let limiter = RateLimiter::with_clock(quota(micros, burst), clock.clone());
        let mut now = 0_u64;
        for step in steps {
            match step {
                Step::Wait(by) => now += by,
                Step::Back(by) => now = now.saturating_sub(by),
                Step::Refund(n) => limiter.refund(n),
                Step::Change(micros, burst) => limiter.set_quota(quota(micros, burst)),
                Step::Call(n) => {
                    let told = limiter.peek(n);
                    prop_assert_eq!(limiter.try_acquire_n(n).is_ok(), told.is_ok());
                    if let Err(limited) = told {
                        prop_assert!(limited.remaining < n);
                        if let Some(wait) = limited.retry_after {
                            clock.set(Duration::from_nanos(now) + wait - Duration::from_nanos(1));
                            prop_assert!(limiter.peek(n).is_err());
                            clock.set(Duration::from_nanos(now) + wait);
                            prop_assert!(limiter.peek(n).is_ok());
                        } else {
                            prop_assert!(n > limiter.quota().burst_size());
                        }
                    }
                }
            }
            clock.set(Duration::from_nanos(now));
        }
    }

    #[test]
    fn a_full_bucket_stays_full_and_an_empty_one_empty(
        changes in prop::collection::vec((1..1000_u64, 1..1000_u32), 1..40), wait in 0..10_u64,
    ) {
        let clock = ManualClock::new();
        clock.set(Duration::from_secs(1));
        let full = RateLimiter::with_clock(quota(7, 7), clock.clone());
        let empty = RateLimiter::with_clock(quota(7, 7), clock.clone());
        empty.try_acquire_n(7).unwrap();
        for (micros, burst) in changes {
            clock.advance(Duration::from_nanos(wait));
            full.set_quota(quota(micros, burst));
            prop_assert_eq!(full.snapshot().remaining, burst);
            if wait == 0 {
                empty.set_quota(quota(micros, burst));
                prop_assert_eq!(empty.snapshot().remaining, 0);
                prop_assert!(empty.peek(1).is_err());
            }
        }
    }
}

#[test]
fn a_change_keeps_the_share_that_is_missing() {
    let clock = ManualClock::new();
    let limiter = RateLimiter::with_clock(quota(1000, 9), clock.clone());
    limiter.try_acquire_n(3).unwrap();
    limiter.set_quota(quota(10, 900));
    // Two thirds are left, less the nanosecond that every change takes.
    assert_eq!(limiter.snapshot().remaining, 599);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(limiter.snapshot().remaining, 600);
    assert_eq!(limiter.snapshot().quota, quota(10, 900));
}

#[test]
fn a_change_after_a_step_back_keeps_the_time_that_is_to_be_made_up() {
    let clock = ManualClock::new();
    clock.set(Duration::from_millis(900));
    let limiter = RateLimiter::with_clock(quota(1000, 5), clock.clone());
    limiter.try_acquire_n(5).unwrap();
    clock.set(Duration::from_millis(200));
    limiter.set_quota(quota(10, 50));
    let wait = limiter.try_acquire().unwrap_err().retry_after.unwrap();
    // The step, an interval, and the nanosecond that every change takes.
    assert_eq!(wait, Duration::from_nanos(700_010_001));
}

#[test]
fn a_refund_never_gives_more_than_was_taken() {
    let clock = ManualClock::new();
    let limiter = RateLimiter::with_clock(quota(1000, 5), clock.clone());
    limiter.try_acquire_n(5).unwrap();
    limiter.refund(2);
    assert_eq!(limiter.snapshot().remaining, 2);
    limiter.refund(u32::MAX);
    assert_eq!(limiter.snapshot().remaining, 5);
    assert!(limiter.try_acquire_n(5).is_ok());
    assert!(limiter.try_acquire().is_err());
}

#[test]
fn a_refund_leaves_no_credit_behind_for_a_clock_that_steps_back() {
    let clock = ManualClock::new();
    clock.set(Duration::from_millis(50));
    let limiter = RateLimiter::with_clock(quota(1000, 5), clock.clone());
    clock.set(Duration::from_millis(100));
    limiter.try_acquire_n(1).unwrap();
    limiter.refund(5);
    // Full until 100 ms, and so 8 ms before then.
    clock.set(Duration::from_millis(92));
    assert_eq!(limiter.snapshot().remaining, 0);
    assert_eq!(limiter.snapshot().reset_after, Duration::from_millis(8));
}

#[test]
fn a_larger_burst_admits_what_was_never_admitted_before() {
    let limiter = RateLimiter::with_clock(quota(1, 5), ManualClock::new());
    assert_eq!(limiter.try_acquire_n(6).unwrap_err().retry_after, None);
    limiter.set_quota(quota(1, 6));
    assert!(limiter.try_acquire_n(6).is_ok());
}

#[test]
fn every_handle_sees_a_change_at_once() {
    let limiter = RateLimiter::with_clock(quota(1000, 5), ManualClock::new());
    let other = limiter.clone();
    for burst in 1..50 {
        limiter.set_quota(quota(1000, burst));
        assert_eq!(other.quota(), quota(1000, burst));
        assert_eq!(other.try_acquire_n(0).unwrap().burst, burst);
    }
}

#[test]
fn a_clock_that_counts_from_1970_is_as_good_as_any() {
    let clock = ManualClock::new();
    clock.set(Duration::from_secs(1_800_000_000));
    let limiter = RateLimiter::with_clock(quota(1000, 1), clock.clone());
    for _ in 0..3 {
        limiter.try_acquire().unwrap();
        assert!(limiter.try_acquire().is_err());
        clock.advance(Duration::from_millis(1));
    }
}

#[test]
fn a_clock_at_its_end_admits_a_burst_and_no_more() {
    let clock = ManualClock::new();
    let limiter = RateLimiter::with_clock(quota(1, 3), clock.clone());
    for end in [Duration::from_secs(1 << 31), Duration::MAX] {
        clock.set(end);
        let admitted = (0..10).filter(|_| limiter.try_acquire().is_ok());
        assert!(admitted.count() <= 3);
        assert!(limiter.try_acquire().is_err());
    }
}

#[test]
fn the_longest_fill_and_the_largest_burst_do_not_overflow() {
    let clock = ManualClock::new();
    let day = Duration::from_secs(86_400);
    let slow = Quota::new(1, day).unwrap().burst(365).unwrap();
    let fast = Quota::new(u32::MAX, Duration::from_secs(5)).unwrap();
    let limiter = RateLimiter::with_clock(slow, clock.clone());
    clock.set(Duration::MAX);
    for _ in 0..20 {
        assert!(limiter.try_acquire_n(u32::MAX).is_err() || limiter.quota() == fast);
        limiter.refund(u32::MAX);
        limiter.set_quota(fast);
        limiter.set_quota(slow);
    }
}

/// Rounds of the stress tests; few where each instruction is checked.
const ROUNDS: u32 = if cfg!(miri) { 50 } else { 20_000 };

// An answer tells its burst, so each admission is known by its share. All quotas fill in the same
// 200 s, so a share is the same number of nanoseconds under each, and a change adds one.
#[test]
fn every_admission_is_charged_under_the_quota_that_decided_it() {
    let quotas = [
        (1, 200_000_000),
        (2, 100_000_000),
        (4, 50_000_000),
        (8, 25_000_000),
    ];
    let clock = ManualClock::new();
    let limiter = RateLimiter::with_clock(quota(1, 200_000_000), clock);
    limiter.try_acquire().unwrap();
    let running = AtomicU64::new(2);
    let parts = AtomicU64::new(1);
    let mut changes = 0_usize;
    thread::scope(|scope| {
        for thread in 0..2_u32 {
            let (limiter, running, parts) = (&limiter, &running, &parts);
            scope.spawn(move || {
                for round in 0..5 * ROUNDS {
                    let n = 1 + (round + thread) % 3;
                    if let Ok(admitted) = limiter.try_acquire_n(n) {
                        let each = 200_000_000 / admitted.burst;
                        parts.fetch_add((n * each).into(), Ordering::Relaxed);
                    }
                }
                running.fetch_sub(1, Ordering::Relaxed);
            });
        }
        while running.load(Ordering::Relaxed) > 0 {
            changes += 1;
            let (micros, burst) = quotas[changes % 4];
            limiter.set_quota(quota(micros, burst));
        }
    });
    let missing = limiter.snapshot().reset_after.as_nanos();
    let charged = u128::from(parts.into_inner()) * 1000;
    assert_eq!(missing, charged + changes as u128);
}

#[test]
fn threads_that_take_and_refund_lose_nothing_and_gain_nothing() {
    let limiter = RateLimiter::with_clock(quota(1000, 8), ManualClock::new());
    let most = AtomicU64::new(0);
    let out = AtomicU64::new(0);
    thread::scope(|scope| {
        for n in [1, 2, 3] {
            let (limiter, most, out) = (&limiter, &most, &out);
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    if limiter.try_acquire_n(n).is_ok() {
                        let now = out.fetch_add(n.into(), Ordering::SeqCst) + u64::from(n);
                        most.fetch_max(now, Ordering::SeqCst);
                        out.fetch_sub(n.into(), Ordering::SeqCst);
                        limiter.refund(n);
                    }
                }
            });
        }
    });
    assert!(most.into_inner() <= 8);
    assert_eq!(limiter.snapshot().remaining, 8);
}

#[test]
fn threads_admit_at_most_burst_plus_rate_while_time_moves() {
    let clock = ManualClock::new();
    let limiter = RateLimiter::with_clock(quota(1000, 10), clock.clone());
    let admitted = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..3 {
            let (limiter, clock, admitted) = (&limiter, &clock, &admitted);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let n = 1 + (round + thread) % 3;
                    if limiter.try_acquire_n(n).is_ok() {
                        admitted.fetch_add(n.into(), Ordering::Relaxed);
                    }
                    if round % 10 == 0 {
                        clock.advance(Duration::from_micros(500));
                    }
                }
            });
        }
    });
    // A permit for every second of these steps, and none lost that was not full already.
    let passed = u64::from(3 * ROUNDS.div_ceil(10)) / 2;
    let (admitted, left) = (admitted.into_inner(), limiter.snapshot().remaining);
    assert!(admitted <= 10 + passed);
    assert!(admitted + u64::from(left) >= 10);
}
