//! Threads on one keyed limiter. Under Miri with fewer rounds.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use resilience_core::{
    clock::ManualClock,
    rate_limit::{KeyedRateLimiter, Quota},
};

const THREADS: usize = if cfg!(miri) { 2 } else { 4 };

fn quota(per_second: u32, burst: u32) -> Quota {
    Quota::per_second(per_second).unwrap().burst(burst).unwrap()
}

fn rounds(many: usize) -> usize {
    if cfg!(miri) { many / 200 } else { many }
}

/// Runs `work` on all threads; the sum of what they answer.
fn on_threads(work: impl Fn(usize) -> usize + Sync) -> usize {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..THREADS).map(|t| scope.spawn(move || work(t))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    })
}

// The table is filled to its cap while others call the keys that are there, so places are moved
// under them all the time.
#[test]
fn threads_that_fill_the_table_admit_exactly_the_burst_of_each_key() {
    const BURST: usize = 3;
    let keys = rounds(40_000);
    let limiter = KeyedRateLimiter::with_clock(quota(1, BURST as u32), keys, ManualClock::new());
    let admitted = on_threads(|thread| {
        let calls = (0..keys * 2).flat_map(|call| {
            // A new key, the one before, and one from long ago.
            [
                call / 2,
                call / 2,
                (call / 2).wrapping_mul(31 + thread) % (call / 2 + 1),
            ]
        });
        calls.filter(|key| limiter.try_acquire(key).is_ok()).count()
    });
    let snapshot = limiter.snapshot();
    assert_eq!((snapshot.keys, snapshot.evicted_early), (keys, 0));
    assert_eq!(admitted, keys * BURST);
}

#[test]
fn a_flood_never_exceeds_the_cap_and_frees_no_key_that_has_spent_most() {
    for max_keys in [1, 8, 30, 5000] {
        let limiter = KeyedRateLimiter::with_clock(quota(1, 9), max_keys, ManualClock::new());
        // With one place every new key takes it.
        let spent: &[usize] = if max_keys < 8 {
            &[]
        } else {
            &[usize::MAX, usize::MAX - 1]
        };
        for key in spent {
            limiter.try_acquire_n(key, 9).unwrap();
        }
        let freed = on_threads(|thread| {
            let mut freed = 0;
            for call in 0..rounds(20_000) {
                limiter.try_acquire(&(call * THREADS + thread)).unwrap();
                assert!(limiter.len() <= max_keys);
                freed += spent
                    .iter()
                    .filter(|key| limiter.try_acquire(*key).is_ok())
                    .count();
            }
            freed
        });
        assert_eq!(freed, 0);
        assert_eq!(
            limiter.len(),
            max_keys.min(rounds(20_000) * THREADS + spent.len())
        );
    }
}

// Over any changes of quota, what a key was admitted, each permit as a share of the burst it was
// admitted under, sums up to at most one whole (time stands still).
#[test]
fn changing_quotas_grant_no_key_more_than_one_burst() {
    const KEYS: usize = 16;
    // Shares of 1 / 600: exact for both.
    let quotas = [quota(1, 100), quota(7, 60)];
    let limiter = KeyedRateLimiter::with_clock(quotas[0], KEYS, ManualClock::new());
    let spent: [AtomicU64; KEYS] = std::array::from_fn(|_| AtomicU64::new(0));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let changer = scope.spawn(|| {
            let mut changes = 0;
            while !done.load(Ordering::Relaxed) {
                limiter.set_quota(quotas[changes % 2]);
                changes += 1;
                thread::yield_now();
            }
            changes
        });
        on_threads(|thread| {
            for call in 0..rounds(40_000) {
                let key = call % KEYS;
                let own = (call % 5 == 0).then(|| quotas[(call + thread) % 2]);
                let answer = match own {
                    Some(own) => limiter.try_acquire_with(&key, 1, own),
                    None => limiter.try_acquire(&key),
                };
                if let Ok(admitted) = answer {
                    let share = 600 / u64::from(admitted.burst);
                    spent[key].fetch_add(share, Ordering::Relaxed);
                }
            }
            0
        });
        done.store(true, Ordering::Relaxed);
        assert!(changer.join().unwrap() > 0);
    });
    for spent in spent {
        let spent = spent.into_inner();
        assert!(spent <= 600, "spent {spent} of 600");
        // Rounding costs at most a nanosecond per change, so nearly all of it.
        assert!(cfg!(miri) || spent >= 580, "spent {spent} of 600");
    }
}

#[test]
fn whatever_threads_do_the_cap_holds_and_nothing_panics() {
    for max_keys in [1, 9, 300] {
        let clock = ManualClock::new();
        let limiter = KeyedRateLimiter::with_clock(quota(10, 3), max_keys, clock.clone());
        on_threads(|thread| {
            let mut random = 0x9e37_79b9_u64 + thread as u64;
            for call in 0..rounds(30_000) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let key = random % (max_keys as u64 * 2);
                match random >> 60 {
                    0 => drop(limiter.reset(&key)),
                    1 | 2 => limiter.refund(&key, 1),
                    3 => drop(limiter.try_acquire_with(&key, 2, quota(5, 8))),
                    4 => drop(limiter.peek(&key, 1)),
                    5 => limiter.set_quota(quota(10, 3 + (call % 3) as u32)),
                    6 => clock.advance(Duration::from_millis(20)),
                    _ => drop(limiter.try_acquire(&key)),
                }
                assert!(limiter.len() <= max_keys);
            }
            0
        });
        // What is held can be forgotten, and then nothing is held.
        for key in 0..max_keys as u64 * 2 {
            limiter.reset(&key);
        }
        assert!(limiter.is_empty());
    }
}
