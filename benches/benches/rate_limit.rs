//! The direct limiter beside `governor`, both on the same clock: admissions and refusals of
//! one limiter that all threads share.

use std::num::NonZeroU32;

use benches::on_threads;
use criterion::{Criterion, criterion_group, criterion_main};
use governor::clock::QuantaClock;
use resilience_core::clock::SharedClock;
use resilience_core::rate_limit::{Quota, RateLimiter};

/// More than a machine can call, so that only admissions are measured.
const NEVER_USED_UP: u32 = 1_000_000_000;

fn admitted(c: &mut Criterion) {
    let mut group = c.benchmark_group("rate_limit/direct");
    let peer = governor_limiter(NEVER_USED_UP);
    on_threads(&mut group, "governor", || || peer.check().is_ok());
    for (name, clock) in clocks() {
        let quota = Quota::per_second(NEVER_USED_UP).expect("this quota is in range");
        let limiter = RateLimiter::with_clock(quota, clock);
        on_threads(&mut group, name, || || limiter.try_acquire().is_ok());
    }
    group.finish();
}

fn refused(c: &mut Criterion) {
    let mut group = c.benchmark_group("rate_limit/refused");
    let peer = governor_limiter(1);
    on_threads(&mut group, "governor", || || peer.check().is_ok());
    for (name, clock) in clocks() {
        let quota = Quota::per_second(1).expect("this quota is in range");
        let limiter = RateLimiter::with_clock(quota, clock);
        on_threads(&mut group, name, || || limiter.try_acquire().is_ok());
    }
    group.finish();
}

/// `governor` reads a CPU counter (quanta) by default; ours reads it when told to.
fn clocks() -> [(&'static str, SharedClock); 2] {
    [
        ("ours_fast_clock", SharedClock::fast()),
        ("ours_std_clock", SharedClock::std()),
    ]
}

fn governor_limiter(per_second: u32) -> governor::DefaultDirectRateLimiter {
    let per_second = NonZeroU32::new(per_second).expect("every quota here is above zero");
    governor::RateLimiter::direct_with_clock(
        governor::Quota::per_second(per_second),
        QuantaClock::default(),
    )
}

criterion_group! {
    name = benches;
    config = benches::criterion();
    targets = admitted, refused
}
criterion_main!(benches);
