//! For any history the limiters equal the plainest code that could be right.

use std::{collections::HashMap, thread, time::Duration};

use proptest::prelude::*;
use resilience_core::{clock::ManualClock, rate_limit::*};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// By this many nanoseconds forwards.
    Wait(u64),
    /// By this many nanoseconds backwards.
    Back(u64),
    /// A call of `key` with this cost.
    Call(u8, u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..700_000_000_u64).prop_map(Step::Wait),
        1 => (0..700_000_000_u64).prop_map(Step::Back),
        6 => (0..12_u8, 0..7_u32).prop_map(|(key, cost)| Step::Call(key, cost)),
    ]
}

fn history() -> impl Strategy<Value = (u32, u32, Vec<Step>)> {
    (1..20_u32, 1..6_u32, prop::collection::vec(step(), 0..200))
}

/// A bucket that is filled by hand: what was missing from it, in nanoseconds of refill, when it
/// last admitted a call.
#[derive(Clone, Copy, Default)]
struct Bucket {
    missing: u64,
    latest: u64,
}

impl Bucket {
    /// What is missing at `now`. A clock that has stepped back has to make up for that first.
    fn missing_at(self, now: u64) -> u64 {
        if now < self.latest {
            self.missing + (self.latest - now)
        } else {
            self.missing.saturating_sub(now - self.latest)
        }
    }

    /// The answer: admitted or the wait (`None` = never), then what is left.
    fn call(&mut self, now: u64, cost: u32, quota: &Quota) -> (Result<(), Option<u64>>, u32) {
        let interval = quota.replenish_interval().as_nanos() as u64;
        let full = interval * u64::from(quota.burst_size());
        let missing = self.missing_at(now) + interval * u64::from(cost);
        let answer = if cost == 0 {
            Ok(())
        } else if cost > quota.burst_size() {
            Err(None)
        } else if missing <= full {
            (self.missing, self.latest) = (missing, now);
            Ok(())
        } else {
            Err(Some(missing - full))
        };
        let left = full.saturating_sub(self.missing_at(now)) / interval;
        (answer, left as u32)
    }
}

fn told(real: Result<Admitted, Limited>) -> (Result<(), Option<u64>>, u32) {
    match real {
        Ok(admitted) => (Ok(()), admitted.remaining),
        Err(limited) => {
            let wait = limited.retry_after.map(|wait| wait.as_nanos() as u64);
            (Err(wait), limited.remaining)
        }
    }
}

fn quota(permits: u32, burst: u32) -> Quota {
    Quota::per_second(permits).unwrap().burst(burst).unwrap()
}

proptest! {
    #[test]
    fn the_limiter_equals_a_bucket_filled_by_hand((permits, burst, steps) in history()) {
        let (clock, quota) = (ManualClock::new(), quota(permits, burst));
        let limiter = RateLimiter::with_clock(quota, clock.clone());
        let (mut bucket, mut now) = (Bucket::default(), 0_u64);
        for step in steps {
            match step {
                Step::Wait(by) => now += by,
                Step::Back(by) => now = now.saturating_sub(by),
                Step::Call(_, cost) => {
                    let model = bucket.call(now, cost, &quota);
                    prop_assert_eq!(told(limiter.try_acquire_n(cost)), model);
                }
            }
            clock.set(Duration::from_nanos(now));
        }
    }

    #[test]
    fn with_room_for_all_keys_each_has_a_bucket_of_its_own((permits, burst, steps) in history()) {
        let (clock, quota) = (ManualClock::new(), quota(permits, burst));
        let limiter = KeyedRateLimiter::with_clock(quota, 12, clock.clone());
        let (mut buckets, mut now) = (HashMap::<u8, Bucket>::new(), 0_u64);
        for step in steps {
            match step {
                Step::Wait(by) => now += by,
                Step::Back(by) => now = now.saturating_sub(by),
                Step::Call(key, cost) => {
                    let model = buckets.entry(key).or_default().call(now, cost, &quota);
                    prop_assert_eq!(told(limiter.try_acquire_n(&key, cost)), model);
                }
            }
            clock.set(Duration::from_nanos(now));
        }
    }

    // With fewer places than keys an evicted key starts afresh with its whole burst; a key is
    // never refused what its own bucket would give it.
    #[test]
    fn with_too_few_places_the_cap_holds_and_no_refusal_is_undeserved(
        (permits, burst, steps) in history(), cap in 1..8_usize,
    ) {
        let (clock, quota) = (ManualClock::new(), quota(permits, burst));
        let limiter = KeyedRateLimiter::with_clock(quota, cap, clock.clone());
        let (mut spent, mut now) = (HashMap::<u8, Bucket>::new(), 0_u64);
        for step in steps {
            match step {
                Step::Wait(by) => now += by,
                Step::Back(_) => {}
                Step::Call(key, cost) => {
                    let bucket = spent.entry(key).or_default();
                    let real = limiter.try_acquire_n(&key, cost);
                    let before = *bucket;
                    let (model, _) = bucket.call(now, cost, &quota);
                    if real.is_err() {
                        prop_assert!(model.is_err());
                    } else if model.is_err() {
                        // Only a key that was forgotten is let off. How full its bucket is now
                        // the model cannot know: at worst it is empty.
                        prop_assert!(before.missing_at(now) > 0);
                        let interval = quota.replenish_interval().as_nanos() as u64;
                        *bucket = Bucket {
                            missing: interval * u64::from(burst),
                            latest: now,
                        };
                    }
                    prop_assert!(limiter.len() <= cap);
                }
            }
            clock.set(Duration::from_nanos(now));
        }
    }
}

/// Calls of each thread; as few as the tests can do with where each instruction is checked.
const CALLS: usize = if cfg!(miri) { 1000 } else { 10_000 };

#[test]
fn threads_on_one_limiter_admit_exactly_the_burst() {
    let limiter = RateLimiter::with_clock(quota(1, 1000), ManualClock::new());
    let admitted = on_four_threads(|_| {
        let calls = (0..1000).filter(|_| limiter.try_acquire().is_ok());
        calls.count()
    });
    assert_eq!(admitted, 1000);
}

#[test]
fn threads_on_many_keys_never_exceed_the_cap_or_a_keys_burst() {
    const KEYS: usize = 40;
    const BURST: u32 = 25;
    let limiter = KeyedRateLimiter::with_clock(quota(1, BURST), KEYS, ManualClock::new());
    let admitted = on_four_threads(|thread| {
        let calls = (0..CALLS).filter(|call| {
            let key = (call * 7 + thread) % KEYS;
            limiter.try_acquire(&key).is_ok()
        });
        calls.count()
    });
    assert_eq!(admitted, KEYS * BURST as usize);
    assert_eq!(limiter.len(), KEYS);
}

#[test]
fn threads_with_ever_new_keys_never_exceed_the_cap() {
    for cap in [1, 3, 200] {
        let clock = ManualClock::new();
        let limiter = KeyedRateLimiter::with_clock(quota(10, 2), cap, clock.clone());
        on_four_threads(|thread| {
            for call in 0..CALLS / 2 {
                // A hot key of all threads among keys that come once or twice.
                let key = if call % 3 == 0 {
                    0
                } else {
                    call / 2 * 4 + thread
                };
                let _ = limiter.try_acquire_n(&key, 1 + (call % 2) as u32);
                assert!(call % 50 != 0 || limiter.len() <= cap);
                if call % 97 == 0 {
                    clock.advance(Duration::from_millis(30));
                }
            }
            0
        });
        // The last to come may have dropped several recovered keys to make room for its own.
        let full = cap.saturating_sub(16).max(1)..=cap;
        assert!(full.contains(&limiter.len()), "{} of {cap}", limiter.len());
    }
}

fn on_four_threads(work: impl Fn(usize) -> usize + Sync) -> usize {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..4).map(|t| scope.spawn(move || work(t))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    })
}
