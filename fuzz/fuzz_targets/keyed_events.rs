//! Any sequence of calls on a keyed limiter. With room for all keys each has a plain bucket of its
//! own; with too few places the cap holds, and a key gets more than its quota only where the
//! limiter counts an early eviction.
#![no_main]

use std::{
    hash::{BuildHasherDefault, DefaultHasher, Hasher},
    time::Duration,
};

use libfuzzer_sys::fuzz_target;
use resilience_core::{clock::ManualClock, rate_limit::KeyedRateLimiter};
use resilience_fuzz::{
    Choices,
    bucket::{Bucket, Ledger},
    limits::{moved, quota, rate, shown, told},
};

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let _ = match choices.below(4) {
        Some(0) => exact(choices),
        Some(1) => crowded(choices, BuildHasherDefault::<Clumsy>::default()),
        _ => crowded(choices, BuildHasherDefault::<DefaultHasher>::default()),
    };
});

/// A hasher that spreads badly: most keys want the same few places.
#[derive(Default)]
struct Clumsy(u64);

impl Hasher for Clumsy {
    fn finish(&self) -> u64 {
        (self.0 << 40) | (self.0 % 3)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.0 = (self.0 << 3) ^ u64::from(*byte));
    }
}

fn exact(mut choices: Choices<'_>) -> Option<()> {
    const KEYS: usize = 12;
    let clock = ManualClock::new();
    let quota = quota(&mut choices)?;
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let limiter = KeyedRateLimiter::<u8, _>::with_hasher(quota, 100, clock.clone(), hasher);
    let mut buckets = [Bucket::new(rate(quota)); KEYS];
    let mut time = 1_u64;
    clock.set(Duration::from_nanos(time));
    while let Some(step) = choices.byte() {
        let key = step >> 3;
        let bucket = &mut buckets[usize::from(key) % KEYS];
        let key = key % KEYS as u8;
        let now = shown(time, 0);
        match step & 7 {
            0..=2 => {
                let n = u32::from(step & 7);
                assert_eq!(told(limiter.try_acquire_n(&key, n)), bucket.take(n, now));
            }
            3 => {
                let n = choices.byte()?.into();
                assert_eq!(
                    told(limiter.try_acquire_with(&key, n, quota)),
                    bucket.take(n, now)
                );
            }
            4 => {
                let n = choices.byte()?.into();
                limiter.refund(&key, n);
                bucket.refund(n, now);
            }
            5 => {
                limiter.reset(&key);
                *bucket = Bucket::new(rate(quota));
            }
            6 => {
                let n = choices.byte()?.into();
                assert_eq!(told(limiter.peek(&key, n)), bucket.peek(n, now));
            }
            _ => time += moved(&mut choices)?,
        }
        clock.set(Duration::from_nanos(time));
        assert!(limiter.len() <= KEYS);
    }
    assert_eq!(limiter.snapshot().evicted_early, 0);
    Some(())
}

/// One key: the most that it may have missing, and what it was admitted.
struct Key {
    bucket: Bucket,
    ledger: Ledger,
}

fn crowded<S: std::hash::BuildHasher>(mut choices: Choices<'_>, hasher: S) -> Option<()> {
    const KEYS: u8 = 32;
    let clock = ManualClock::new();
    let first = quota(&mut choices)?;
    let cap = choices.below(24)?;
    let limiter = KeyedRateLimiter::<u8, S>::with_hasher(first, cap, clock.clone(), hasher);
    let cap = cap.max(1);
    let mut keys: Vec<Key> = (0..KEYS)
        .map(|_| Key {
            bucket: Bucket::new(rate(first)),
            ledger: Ledger::new(rate(first)),
        })
        .collect();
    let mut common = first;
    // While the quota and the direction of time stay, a refusal is the key's own bucket's.
    let mut plain = true;
    let mut excused = 0;
    let mut changes = 0;
    let mut time = 1_u64;
    clock.set(Duration::from_nanos(time));
    while let Some(step) = choices.byte() {
        let number = (step >> 3) % KEYS;
        let key = &mut keys[usize::from(number)];
        let now = shown(time, 0);
        match step & 7 {
            kind @ 0..=3 => {
                let n = [1, 1, 3, choices.byte()?.into()][usize::from(kind)];
                let own = (kind == 2).then(|| quota(&mut choices)).flatten();
                let used = own.unwrap_or(common);
                let real = match own {
                    Some(own) => limiter.try_acquire_with(&number, n, own),
                    None => limiter.try_acquire_n(&number, n),
                };
                if rate(used) != key.bucket.rate() {
                    plain = false;
                    changes += 1;
                    key.bucket.set_rate(rate(used), now);
                    key.ledger.set_rate(rate(used));
                }
                let model = key.bucket.take(n, now);
                match told(real).answer {
                    Err(_) if plain => assert!(model.answer.is_err(), "refused without a reason"),
                    Err(wait) => assert!(wait.is_some() == (n <= used.burst_size())),
                    Ok(()) => {
                        assert!(n <= used.burst_size());
                        if model.answer.is_err() {
                            // At worst its bucket is empty now.
                            key.bucket.exhaust(now);
                        }
                        let share = f64::from(n) / f64::from(used.burst_size());
                        if !key.ledger.admitted(share, changes) {
                            excused += 1;
                            key.ledger = Ledger::new(rate(used));
                            assert!(key.ledger.admitted(share, changes));
                        }
                    }
                }
            }
            4 => match choices.below(4)? {
                0 => {
                    common = quota(&mut choices)?;
                    limiter.set_quota(common);
                    assert_eq!(limiter.quota(), common);
                }
                1 => {
                    time = time.saturating_sub(moved(&mut choices)?);
                    plain = false;
                }
                2 => {
                    limiter.reset(&number);
                    key.bucket = Bucket::new(rate(common));
                    key.ledger = Ledger::new(rate(common));
                }
                _ => {
                    let quota = quota(&mut choices)?;
                    let _ = limiter.peek_with(&number, 1, quota);
                    let seen = limiter.snapshot();
                    assert_eq!((seen.keys, seen.max_keys), (limiter.len(), cap));
                }
            },
            5 => {
                let n = choices.byte()?;
                limiter.refund(&number, n.into());
                // By the common quota, whatever the key was met under before.
                let share = f64::from(n) / f64::from(common.burst_size());
                key.ledger.refunded(share.min(1.0));
                key.bucket.set_rate(rate(common), now);
                key.ledger.set_rate(rate(common));
                key.bucket.refund(n.into(), now);
            }
            _ => {
                let by = moved(&mut choices)?;
                time += by;
                keys.iter_mut().for_each(|key| key.ledger.advance(by));
            }
        }
        clock.set(Duration::from_nanos(time));
        assert!(limiter.len() <= cap, "above the cap");
    }
    let early = limiter.snapshot().evicted_early;
    assert!(
        excused <= early,
        "{excused} keys above their quota, {early} early evictions"
    );
    Some(())
}
