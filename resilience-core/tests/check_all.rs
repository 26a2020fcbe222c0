//! Several limits at once: all or none.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use proptest::prelude::*;
use resilience_core::{
    clock::{Clock, ManualClock, SharedClock},
    rate_limit::*,
};

fn limiter(interval: u64, burst: u32, clock: &ManualClock) -> RateLimiter {
    let quota = Quota::new(1, Duration::from_nanos(interval)).unwrap();
    RateLimiter::with_clock(quota.burst(burst).unwrap(), clock.clone())
}

fn left(limiter: &RateLimiter) -> u32 {
    limiter.snapshot().remaining
}

#[test]
fn a_refusal_takes_nothing_and_tells_the_longest_wait() {
    let clock = ManualClock::new();
    let (a, b, c) = (
        limiter(10, 5, &clock),
        limiter(100, 1, &clock),
        limiter(20, 1, &clock),
    );
    b.try_acquire().unwrap();
    c.try_acquire().unwrap();
    let refused = check_all(&[&a.cost(2), &c, &b]).unwrap_err();
    assert_eq!(refused.refused_by, 2);
    assert_eq!(refused.limited.retry_after, Some(Duration::from_nanos(100)));
    assert_eq!(left(&a), 5);
    clock.set(Duration::from_nanos(99));
    assert!(check_all(&[&a.cost(2), &c, &b]).is_err());
    clock.set(Duration::from_nanos(100));
    let admitted = check_all(&[&a.cost(2), &c, &b]).unwrap().unwrap();
    assert_eq!((admitted.tightest, admitted.admitted.remaining), (1, 0));
    assert_eq!((left(&a), left(&b), left(&c)), (3, 0, 0));
}

#[test]
fn never_is_longer_than_any_wait() {
    let clock = ManualClock::new();
    let (a, b) = (limiter(1_000_000, 1, &clock), limiter(1, 1, &clock));
    a.try_acquire().unwrap();
    let refused = check_all(&[&a, &b.cost(2)]).unwrap_err();
    assert_eq!(refused.refused_by, 1);
    assert_eq!(refused.limited.retry_after, None);
}

#[test]
fn a_limit_that_is_named_twice_is_asked_for_both() {
    let clock = ManualClock::new();
    let a = limiter(10, 5, &clock);
    let same = a.clone();
    assert!(check_all(&[&a.cost(2), &same.cost(3)]).is_ok());
    assert_eq!(left(&a), 0);
    clock.set(Duration::from_nanos(40));
    let refused = check_all(&[&a.cost(2), &same.cost(3)]).unwrap_err();
    assert_eq!(refused.limited.retry_after, Some(Duration::from_nanos(10)));
    let refused = check_all(&[&a.cost(u32::MAX), &same.cost(3)]).unwrap_err();
    assert_eq!(refused.limited.retry_after, None);
    assert_eq!(left(&a), 4);
}

#[test]
fn no_limit_admits_everything() {
    assert_eq!(check_all(&[]), Ok(None));
    let none: Limits = [].into_iter().collect();
    assert_eq!(none.try_acquire(), Ok(None));
}

#[test]
fn several_limits_in_one_handle_are_all_met() {
    let clock = ManualClock::new();
    let limits: Limits = [limiter(10, 2, &clock), limiter(1000, 3, &clock)]
        .into_iter()
        .collect();
    assert!(limits.try_acquire_n(2).is_ok());
    clock.set(Duration::from_nanos(20));
    assert!(limits.try_acquire().is_ok());
    let refused = limits.clone().try_acquire().unwrap_err();
    assert_eq!(refused.refused_by, 1);
    assert_eq!(refused.limited.retry_after, Some(Duration::from_nanos(980)));
    assert_eq!(left(&limits.limiters()[0]), 1);
    limits.refund(1);
    assert!(limits.try_acquire().is_ok());
}

#[test]
fn a_key_and_a_common_limit_go_together() {
    let clock = ManualClock::new();
    let all = limiter(1000, 3, &clock);
    let quota = Quota::new(2, Duration::from_secs(1)).unwrap();
    let each = KeyedRateLimiter::<str>::with_clock(quota, 100, clock.clone());
    assert!(check_all(&[&all, &each.cost("ada", 2)]).is_ok());
    let refused = check_all(&[&each.cost("ada", 1), &all]).unwrap_err();
    assert_eq!(refused.refused_by, 0);
    assert_eq!(left(&all), 2);
    assert!(check_all(&[&each.cost("bob", 1), &all.cost(2)]).is_ok());
    let refused = check_all(&[&each.cost("bob", 1), &all]).unwrap_err();
    assert_eq!(refused.refused_by, 1);
    assert_eq!(each.peek("bob", 1).unwrap().remaining, 0);
}

#[test]
fn deciding_over_several_limits_allocates_nothing() {
    let clock = ManualClock::new();
    let (a, b) = (limiter(10, 1, &clock), limiter(10, 1, &clock));
    let limits: Limits = [a.clone(), b.clone()].into_iter().collect();
    let info = allocation_counter::measure(|| {
        assert!(check_all(&[&a, &b]).is_ok());
        assert!(check_all(&[&a, &b]).is_err());
        assert!(limits.try_acquire().is_err());
    });
    assert_eq!(info.count_total, 0);
}

/// A clock that lets another call come in between when it is read for the fourth time.
#[derive(Clone, Debug, Default)]
struct Interrupted {
    reads: Arc<AtomicU32>,
    others: Arc<Mutex<Vec<RateLimiter>>>,
    admitted: Arc<AtomicU32>,
}

impl Clock for Interrupted {
    fn now(&self) -> Duration {
        if self.reads.fetch_add(1, Ordering::Relaxed) == 3 {
            let others = std::mem::take(&mut *self.others.lock().unwrap());
            let admitted = others.iter().filter(|other| other.try_acquire().is_ok());
            let admitted = admitted.count() as u32;
            self.admitted.fetch_add(admitted, Ordering::Relaxed);
        }
        Duration::ZERO
    }
}

#[test]
fn what_was_taken_goes_back_when_another_call_comes_in_between() {
    let clock = Interrupted::default();
    let quota = Quota::per_minute(1).unwrap();
    let limiter = |()| RateLimiter::with_clock(quota, SharedClock::new(clock.clone()));
    let [a, b] = [(); 2].map(limiter);
    *clock.others.lock().unwrap() = vec![a.clone(), b.clone()];
    // Both are asked, then one is taken from. Before the other is, somebody takes what it has.
    clock.reads.store(0, Ordering::Relaxed);
    let refused = check_all(&[&a, &b]).unwrap_err();
    assert_eq!(clock.admitted.load(Ordering::Relaxed), 1);
    assert_eq!(refused.limited.retry_after, Some(Duration::from_secs(60)));
    let mut left = [left(&a), left(&b)];
    assert_eq!(left[refused.refused_by], 0);
    left.sort_unstable();
    assert_eq!(left, [0, 1]);
}

proptest! {
    #[test]
    fn all_are_charged_or_none_like_limits_alone(
        bursts in prop::collection::vec(1..6_u32, 1..5),
        calls in prop::collection::vec((prop::collection::vec(0..4_u32, 5), 0..30_u64), 1..60),
    ) {
        let clock = ManualClock::new();
        let limits: Vec<_> = bursts.iter().map(|&burst| limiter(10, burst, &clock)).collect();
        let alone: Vec<_> = bursts.iter().map(|&burst| limiter(10, burst, &clock)).collect();
        for (costs, wait) in calls {
            clock.advance(Duration::from_nanos(wait));
            let parts: Vec<_> = limits.iter().zip(&costs).map(|(l, &n)| l.cost(n)).collect();
            let list: Vec<&dyn Check> = parts.iter().map(|part| part as &dyn Check).collect();
            let model: Vec<_> = alone.iter().zip(&costs).map(|(l, &n)| l.peek(n)).collect();
            let longest = model.iter().filter_map(|answer| answer.err());
            let longest = longest.map(|l| l.retry_after.unwrap_or(Duration::MAX)).max();
            match check_all(&list) {
                Ok(_) => {
                    prop_assert_eq!(longest, None);
                    for (limit, &n) in alone.iter().zip(&costs) {
                        limit.try_acquire_n(n).unwrap();
                    }
                }
                Err(refused) => {
                    let told = refused.limited.retry_after.unwrap_or(Duration::MAX);
                    prop_assert_eq!(Some(told), longest);
                    prop_assert_eq!(model[refused.refused_by].err(), Some(refused.limited));
                }
            }
            for (limit, alone) in limits.iter().zip(&alone) {
                prop_assert_eq!(limit.snapshot(), alone.snapshot());
            }
        }
    }
}

#[test]
fn threads_in_opposite_orders_admit_what_there_is_and_lose_no_credit() {
    // Few where each instruction is checked.
    const UNIT: u32 = if cfg!(miri) { 2 } else { 100 };
    let clock = ManualClock::new();
    let (a, b) = (
        limiter(10, 30 * UNIT, &clock),
        limiter(10, 20 * UNIT, &clock),
    );
    let count = AtomicU32::new(0);
    let alone = AtomicU32::new(0);
    thread::scope(|scope| {
        for thread in 0..3 {
            let (a, b, count, alone) = (&a, &b, &count, &alone);
            scope.spawn(move || {
                for _ in 0..25 * UNIT {
                    match thread {
                        0 if check_all(&[a, b]).is_ok() => count.fetch_add(1, Ordering::Relaxed),
                        1 if check_all(&[b, a]).is_ok() => count.fetch_add(1, Ordering::Relaxed),
                        2 if b.try_acquire().is_ok() => alone.fetch_add(1, Ordering::Relaxed),
                        _ => 0,
                    };
                }
            });
        }
    });
    let (count, alone) = (count.into_inner(), alone.into_inner());
    assert_eq!(count + alone, 20 * UNIT);
    assert_eq!(left(&a), 30 * UNIT - count);
    assert_eq!(left(&b), 0);
}
