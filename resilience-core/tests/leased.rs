//! The leased limiter, seen from outside.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use proptest::prelude::*;
use resilience_core::{
    clock::{Clock, ManualClock, SharedClock},
    rate_limit::*,
};

fn quota(micros: u64, burst: u32) -> Quota {
    let quota = Quota::new(1, Duration::from_micros(micros)).unwrap();
    quota.burst(burst).unwrap()
}

fn leased(burst: u32, block: u32, threads: u32) -> (LeasedRateLimiter, ManualClock) {
    let clock = ManualClock::new();
    let limiter = LeasedRateLimiter::with_clock(quota(1000, burst), block, threads, clock.clone());
    (limiter.unwrap(), clock)
}

fn admitted(limiter: &LeasedRateLimiter) -> u32 {
    (0..100_000)
        .map_while(|_| limiter.try_acquire().ok())
        .count() as u32
}

#[test]
fn a_thread_takes_a_block_and_spends_it_alone() {
    let (limiter, _) = leased(100, 10, 2);
    limiter.try_acquire().unwrap();
    let snapshot = limiter.snapshot();
    assert_eq!((snapshot.remaining, snapshot.leased), (70, 9));
    for _ in 0..9 {
        limiter.try_acquire().unwrap();
    }
    let snapshot = limiter.snapshot();
    assert_eq!((snapshot.remaining, snapshot.leased), (70, 0));
}

#[test]
fn while_time_stands_still_the_burst_less_the_reserve_is_admitted() {
    let (limiter, clock) = leased(100, 10, 2);
    assert_eq!(admitted(&limiter), 80);
    clock.advance(Duration::from_secs(10));
    // A full lease beside a full common bucket.
    limiter.try_acquire().unwrap();
    clock.advance(Duration::from_secs(10));
    assert_eq!(admitted(&limiter), 89);
}

#[test]
fn a_refusal_tells_the_exact_wait_of_this_thread() {
    let (limiter, clock) = leased(30, 10, 1);
    assert_eq!(admitted(&limiter), 20);
    clock.advance(Duration::from_millis(3));
    limiter.try_acquire_n(2).unwrap();
    let limited = limiter.try_acquire_n(5).unwrap_err();
    assert_eq!((limited.burst, limited.remaining), (30, 1));
    let wait = limited.retry_after.unwrap();
    assert_eq!(wait, Duration::from_millis(4));
    clock.advance(wait - Duration::from_nanos(1));
    assert!(limiter.try_acquire_n(5).is_err());
    clock.advance(Duration::from_nanos(1));
    assert!(limiter.try_acquire_n(5).is_ok());
    assert!(limiter.try_acquire().is_err());
}

#[test]
fn a_cost_above_what_the_common_bucket_holds_is_never_admitted() {
    let (limiter, _) = leased(100, 10, 2);
    assert_eq!(limiter.max_cost(), 80);
    limiter.try_acquire().unwrap();
    // Even while a lease would make up for it.
    for n in [81, 85, 100, 101, u32::MAX] {
        assert_eq!(limiter.try_acquire_n(n).unwrap_err().retry_after, None);
    }
    assert!(limiter.try_acquire_n(0).is_ok());
    assert_eq!(limiter.snapshot().leased, 9);
    assert!(limiter.try_acquire_n(79).is_ok());
}

#[test]
fn only_so_many_threads_hold_leases() {
    let (limiter, _) = leased(100, 10, 1);
    limiter.try_acquire().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| limiter.try_acquire().unwrap());
    });
    let snapshot = limiter.snapshot();
    assert_eq!((snapshot.remaining, snapshot.leased), (79, 9));
}

#[test]
fn a_thread_may_give_its_lease_back() {
    let (limiter, _) = leased(100, 10, 2);
    limiter.try_acquire().unwrap();
    limiter.give_back();
    limiter.give_back();
    let snapshot = limiter.snapshot();
    assert_eq!((snapshot.remaining, snapshot.leased), (79, 0));
    assert_eq!(admitted(&limiter), 79);
}

#[test]
fn what_a_thread_leaves_is_not_lost() {
    let (limiter, clock) = leased(1000, 10, 31);
    let threads = if cfg!(miri) { 10 } else { 200 };
    for _ in 0..threads {
        thread::scope(|scope| {
            scope.spawn(|| limiter.try_acquire().unwrap());
        });
    }
    let snapshot = limiter.snapshot();
    assert_eq!(
        u64::from(snapshot.remaining) + snapshot.leased,
        690 - threads
    );
    clock.advance(Duration::from_secs(100));
    assert_eq!(limiter.snapshot().remaining, 690);
}

#[test]
fn a_change_of_quota_leaves_leases_and_keeps_the_rest_in_proportion() {
    let (limiter, _) = leased(100, 10, 2);
    limiter.try_acquire_n(31).unwrap();
    limiter.give_back();
    limiter.try_acquire().unwrap();
    let snapshot = limiter.snapshot();
    assert_eq!((snapshot.remaining, snapshot.leased), (39, 9));
    limiter.set_quota(quota(1000, 180)).unwrap();
    let snapshot = limiter.snapshot();
    assert_eq!((snapshot.quota, snapshot.leased), (quota(1000, 180), 9));
    assert_eq!(snapshot.remaining, 77);
    let error = limiter.set_quota(quota(1000, 29)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "burst is 29, allowed: 30 (block × (threads + 1)) or more"
    );
    assert_eq!(limiter.quota(), quota(1000, 180));
    limiter.set_quota(quota(1000, 30)).unwrap();
    assert_eq!(limiter.max_cost(), 10);
}

#[test]
fn settings_that_cannot_be_are_named() {
    let error = |block, threads| {
        let limiter = LeasedRateLimiter::new(quota(1000, 100), block, threads);
        limiter.unwrap_err().to_string()
    };
    assert_eq!(error(0, 1), "block is 0, allowed: 1 or more");
    assert_eq!(error(1, 0), "threads is 0, allowed: 1 to 31");
    assert_eq!(error(1, 32), "threads is 32, allowed: 1 to 31");
    let burst = "burst is 100, allowed: 102 (block × (threads + 1)) or more";
    assert_eq!(error(34, 2), burst);
    assert!(error(u32::MAX, 31).starts_with("burst is 100, allowed: 137438953440"));
}

#[test]
fn a_call_allocates_nothing() {
    let (limiter, _) = leased(20, 5, 2);
    let info = allocation_counter::measure(|| {
        assert!(limiter.try_acquire().is_ok());
        assert!(limiter.try_acquire_n(9).is_ok());
        assert!(limiter.try_acquire_n(9).is_err());
        limiter.give_back();
    });
    assert_eq!(info.count_total, 0);
}

/// A clock that calls the limiter that reads it.
#[derive(Debug, Default)]
struct Reentrant {
    limiter: Mutex<Option<LeasedRateLimiter>>,
    busy: AtomicBool,
    admitted: AtomicU32,
}

#[test]
fn a_clock_that_calls_the_limiter_gains_nothing() {
    #[derive(Debug)]
    struct Handle(Arc<Reentrant>);
    impl Clock for Handle {
        fn now(&self) -> Duration {
            let this = &*self.0;
            let limiter = this.limiter.lock().unwrap().clone();
            if let Some(limiter) = limiter
                && !this.busy.swap(true, Ordering::Relaxed)
            {
                if limiter.try_acquire().is_ok() {
                    this.admitted.fetch_add(1, Ordering::Relaxed);
                }
                this.busy.store(false, Ordering::Relaxed);
            }
            Duration::ZERO
        }
    }
    let state = Arc::new(Reentrant::default());
    let clock = SharedClock::new(Handle(Arc::clone(&state)));
    let limiter = LeasedRateLimiter::with_clock(quota(1000, 100), 10, 2, clock).unwrap();
    *state.limiter.lock().unwrap() = Some(limiter.clone());
    let mut count = 0;
    for round in 0..100 {
        let n = 1 + round % 3;
        if limiter.try_acquire_n(n).is_ok() {
            count += n;
        }
    }
    assert_eq!(count + state.admitted.load(Ordering::Relaxed), 80);
    // The limiter owns the clock.
    *state.limiter.lock().unwrap() = None;
}

proptest! {
    #[test]
    fn admitted_in_any_span_is_at_most_burst_plus_rate_with_leases(
        block in 1..6_u32, threads in 1..4_u32, spare in 0..10_u32,
        steps in prop::collection::vec((0..4000_u64, 0..8_u32, 0..12_u32), 1..150),
    ) {
        let burst = block * (threads + 1) + spare;
        let clock = ManualClock::new();
        let limiter = LeasedRateLimiter::with_clock(quota(1, burst), block, threads, clock.clone());
        let limiter = limiter.unwrap();
        let (mut now, mut log) = (0_u64, Vec::new());
        for (wait, cost, what) in steps {
            now += wait;
            clock.set(Duration::from_nanos(now));
            if what == 0 {
                limiter.give_back();
            }
            if limiter.try_acquire_n(cost).is_ok() {
                prop_assert!(cost <= limiter.max_cost());
                log.push((now, u64::from(cost)));
            }
            let snapshot = limiter.snapshot();
            prop_assert!(snapshot.leased <= u64::from(block));
        }
        for from in 0..log.len() {
            let mut sum = 0;
            for (at, cost) in &log[from..] {
                sum += cost;
                prop_assert!(sum <= u64::from(burst) + (at - log[from].0) / 1000);
            }
        }
    }
}

/// Calls of each thread; few where each instruction is checked.
const CALLS: u64 = if cfg!(miri) { 100 } else { 30_000 };

#[test]
fn threads_with_leases_never_admit_more_than_burst_plus_rate() {
    let (limiter, clock) = leased(500, 20, 3);
    let total = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..5_u64 {
            let (limiter, clock, total) = (&limiter, &clock, &total);
            scope.spawn(move || {
                for call in 0..CALLS {
                    let n = 1 + ((call + thread) % 3) as u32;
                    if limiter.try_acquire_n(n).is_ok() {
                        total.fetch_add(n.into(), Ordering::Relaxed);
                    }
                    if call % 100 == 7 {
                        limiter.give_back();
                    }
                    if call % 500 == thread {
                        clock.advance(Duration::from_millis(1));
                    }
                }
            });
        }
    });
    // A permit comes back in each of the milliseconds that the threads moved the clock on.
    let passed = 5 * CALLS.div_ceil(500);
    let snapshot = limiter.snapshot();
    let total = total.into_inner();
    assert!(total <= 500 + passed, "{total} {passed}");
    // And nothing is lost: what was not admitted is still there.
    let there = u64::from(snapshot.remaining) + snapshot.leased;
    assert!(total + there >= 440, "{total} {there}");
    if snapshot.remaining < limiter.max_cost() {
        assert!(total + there <= 440 + passed);
    }
}
