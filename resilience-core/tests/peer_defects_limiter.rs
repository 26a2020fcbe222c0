//! One test for each defect that limiters in the field have, named after what must not happen.

use std::time::Duration;

use resilience_core::{
    clock::ManualClock,
    rate_limit::{KeyedRateLimiter, Quota, RateLimiter},
};

const SECOND: Duration = Duration::from_secs(1);

fn keyed(burst: u32, max_keys: usize) -> (KeyedRateLimiter<u64>, ManualClock) {
    let clock = ManualClock::new();
    let quota = Quota::per_second(1).unwrap().burst(burst).unwrap();
    (
        KeyedRateLimiter::with_clock(quota, max_keys, clock.clone()),
        clock,
    )
}

// Seen elsewhere: cleaning up a million keys stops all callers for 15 ms. Here an insertion drops
// what it meets in its own places (at most one key) and among the next eight keys or so.
#[test]
fn no_call_cleans_up_more_than_a_few_keys() {
    let max_keys = if cfg!(miri) { 300 } else { 200_000 };
    let (limiter, clock) = keyed(1, max_keys);
    for key in 0..max_keys as u64 {
        limiter.try_acquire(&key).unwrap();
    }
    // All have recovered at once.
    clock.advance(SECOND);
    let mut before = limiter.snapshot();
    for key in 0..1000 {
        limiter.try_acquire(&(u64::MAX - key)).unwrap();
        let after = limiter.snapshot();
        let dropped = after.evicted_recovered - before.evicted_recovered;
        assert!(dropped <= 12, "one call dropped {dropped} keys");
        before = after;
    }
    // But as many as came, at the least.
    assert!(before.evicted_recovered >= 1000);
    assert_eq!(before.evicted_early, 0);
}

// Seen elsewhere: the number of keys grows with the clients, until memory ends.
#[test]
fn no_number_of_clients_grows_the_table() {
    let (limiter, _) = keyed(1, 1000);
    let clients = if cfg!(miri) { 1500 } else { 300_000 };
    let info = allocation_counter::measure(|| {
        for client in 0..clients {
            limiter.try_acquire(&client).unwrap();
            assert!(limiter.len() <= 1000);
        }
    });
    assert_eq!(info.bytes_max, 0);
    assert_eq!(limiter.len(), 1000);
}

// Seen elsewhere: 145 bytes per key for a bounded table.
#[test]
fn a_key_costs_no_more_than_48_bytes_with_cap_and_eviction() {
    for max_keys in [250, 1000, 10_000, 300_000] {
        if cfg!(miri) && max_keys > 1000 {
            continue;
        }
        let mut kept = None;
        let info = allocation_counter::measure(|| {
            let (limiter, _) = keyed(1, max_keys);
            for key in 0..max_keys as u64 {
                limiter.try_acquire(&key).unwrap();
            }
            assert_eq!(limiter.len(), max_keys);
            kept = Some(limiter);
        });
        let per_key = info.bytes_current as f64 / max_keys as f64;
        assert!(per_key <= 48.0, "{per_key} bytes per key of {max_keys}");
        // The table alone, where the fixed part no longer counts.
        assert!(
            max_keys < 10_000 || per_key <= 24.0,
            "{per_key} bytes per key"
        );
    }
}

// Seen elsewhere: a refusal costs 290 times an admission. Here it allocates nothing and holds no
// place.
#[test]
fn a_refusal_allocates_nothing_and_holds_nothing() {
    let (limiter, _) = keyed(2, 100);
    limiter.try_acquire_n(&1, 2).unwrap();
    let before = limiter.snapshot();
    let info = allocation_counter::measure(|| {
        for _ in 0..100 {
            assert!(limiter.try_acquire(&1).is_err());
            assert!(limiter.try_acquire_n(&2, 3).is_err());
        }
    });
    assert_eq!(info.count_total, 0);
    assert_eq!(limiter.snapshot(), before);
}

// Seen elsewhere: a clock that steps back makes the elapsed time huge, and the bucket full.
#[test]
fn a_clock_that_steps_back_never_adds_credit() {
    let clock = ManualClock::new();
    let quota = Quota::per_second(1).unwrap().burst(3).unwrap();
    let one = RateLimiter::with_clock(quota, clock.clone());
    let many = KeyedRateLimiter::<u64>::with_clock(quota, 10, clock.clone());
    clock.set(100 * SECOND);
    one.try_acquire_n(3).unwrap();
    many.try_acquire_n(&1, 3).unwrap();
    for at in [99, 50, 1, 0, 100] {
        clock.set(at * SECOND);
        assert!(one.try_acquire().is_err());
        assert!(many.try_acquire(&1).is_err());
    }
    clock.set(101 * SECOND);
    assert!(one.try_acquire().is_ok() && one.try_acquire().is_err());
    assert!(many.try_acquire(&1).is_ok() && many.try_acquire(&1).is_err());
}

// Seen elsewhere: who asks for more than the burst waits for ever, or is told a wait that does not
// help.
#[test]
fn a_cost_above_the_burst_is_not_told_to_wait() {
    let (many, clock) = keyed(3, 10);
    let one = RateLimiter::with_clock(many.quota(), clock.clone());
    for _ in 0..3 {
        assert_eq!(one.try_acquire_n(4).unwrap_err().retry_after, None);
        assert_eq!(many.try_acquire_n(&1, 4).unwrap_err().retry_after, None);
        clock.advance(100 * SECOND);
    }
    assert!(one.try_acquire_n(3).is_ok() && many.try_acquire_n(&1, 3).is_ok());
}

// Seen elsewhere: the least recently used key is evicted, so that a flood of new keys gives every
// spent one its burst back.
#[test]
fn a_flood_does_not_refill_spent_keys_while_recovered_ones_are_held() {
    let (limiter, clock) = keyed(5, 1000);
    for key in 0..700 {
        limiter.try_acquire(&key).unwrap();
    }
    clock.advance(SECOND);
    let spent = 10_000..10_300_u64;
    for key in spent.clone() {
        limiter.try_acquire_n(&key, 5).unwrap();
    }
    for key in 20_000..20_300 {
        limiter.try_acquire(&key).unwrap();
    }
    assert!(
        spent
            .into_iter()
            .all(|key| limiter.try_acquire(&key).is_err())
    );
}
