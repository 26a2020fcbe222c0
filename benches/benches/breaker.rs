//! The breaker alone: acquire and record while closed, refuse while open, and what reading
//! the clock would add. One breaker for all threads.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use benches::on_threads;
use criterion::{Criterion, criterion_group, criterion_main};
use resilience_core::breaker::{CircuitBreaker, Config, State};
use resilience_core::clock::{Clock, FastClock, StdClock};

fn closed(c: &mut Criterion) {
    let mut group = c.benchmark_group("breaker/closed");
    let counter = AtomicU64::new(0);
    on_threads(&mut group, "fetch_add", || {
        || counter.fetch_add(1, Ordering::Relaxed)
    });

    let breaker = CircuitBreaker::new("bench");
    on_threads(&mut group, "acquire_success", || {
        || {
            if let Ok(permit) = breaker.try_acquire() {
                permit.success();
            }
        }
    });
    on_threads(&mut group, "acquire_owned_success", || {
        || {
            if let Ok(permit) = breaker.try_acquire_owned() {
                permit.success();
            }
        }
    });
    assert_eq!(breaker.state(), State::Closed);
    group.finish();
}

fn open(c: &mut Criterion) {
    let mut group = c.benchmark_group("breaker/open");
    let counter = AtomicU64::new(0);
    on_threads(&mut group, "fetch_add", || {
        || counter.fetch_add(1, Ordering::Relaxed)
    });

    let breaker = CircuitBreaker::with_config("bench", open_for_long());
    while let Ok(permit) = breaker.try_acquire() {
        permit.failure();
    }
    on_threads(&mut group, "refusal", || || breaker.try_acquire().is_err());
    assert_eq!(breaker.state(), State::Open);
    group.finish();
}

fn open_for_long() -> Config {
    Config::builder()
        .consecutive_failures(Some(1))
        .reset_timeout(Duration::from_secs(86_400))
        .build()
        .expect("these settings are in range")
}

/// One read of each clock, beside the counter it would be added to.
fn clock_only(c: &mut Criterion) {
    let mut group = c.benchmark_group("breaker/clock_only");
    let counter = AtomicU64::new(0);
    let std_clock = StdClock::new();
    let fast_clock = FastClock::new();
    on_threads(&mut group, "fetch_add", || {
        || counter.fetch_add(1, Ordering::Relaxed)
    });
    on_threads(&mut group, "std", || || black_box(&std_clock).now());
    on_threads(&mut group, "fast", || || black_box(&fast_clock).now());
    group.finish();
}

criterion_group! {
    name = benches;
    config = benches::criterion();
    targets = closed, open, clock_only
}
criterion_main!(benches);
