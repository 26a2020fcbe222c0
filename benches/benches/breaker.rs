//! The breaker alone: a call and its success while closed, by kind of window; a refusal while
//! open; what reading a clock would add. One breaker for all threads.

use std::sync::atomic::{AtomicU64, Ordering};

use benches::Contest;
use benches::peers::{COUNT_WINDOW, breaker};
use benches::service::{Noop, answered, refused};
use criterion::{Criterion, criterion_group, criterion_main};
use resilience_core::breaker::{OwnedPermit, Permit};
use resilience_core::clock::{Clock, FastClock, StdClock};
use resilience_tower::breaker::Breaker;

fn closed_count(c: &mut Criterion) {
    let counter = AtomicU64::new(0);
    let ours = breaker::count();
    let recloser = breaker::recloser(COUNT_WINDOW);
    let throttle_net = breaker::throttle_count(COUNT_WINDOW);
    Contest::new("breaker/closed_count")
        .threads("fetch_add", || || add(&counter))
        .threads("ours", || || breaker::call(&ours, Permit::success))
        .threads("ours_owned", || {
            || ours.try_acquire_owned().map(OwnedPermit::success).is_ok()
        })
        .threads("recloser", || || breaker::recloser_success(&recloser))
        .threads("throttle_net", || {
            || breaker::throttle_call(&throttle_net, true)
        })
        .run(c);
}

fn closed_time(c: &mut Criterion) {
    let counter = AtomicU64::new(0);
    let ours = breaker::time();
    let failsafe = breaker::failsafe();
    let throttle_net = breaker::throttle_time();
    Contest::new("breaker/closed_time")
        .threads("fetch_add", || || add(&counter))
        .threads("ours", || || breaker::call(&ours, Permit::success))
        .threads("failsafe", || || breaker::failsafe_success(&failsafe))
        .threads("throttle_net", || {
            || breaker::throttle_call(&throttle_net, true)
        })
        .run(c);
}

/// The peer is a layer over a no-op service, as `ours_layer` is; no other peer knows slow
/// calls.
fn closed_slow(c: &mut Criterion) {
    let counter = AtomicU64::new(0);
    let ours_count = breaker::count_slow();
    let ours_time = breaker::time_slow();
    let ours_layer = Breaker::new(Noop, breaker::count_slow());
    let tower_resilience = breaker::tower_resilience_slow();
    Contest::new("breaker/closed_slow")
        .threads("fetch_add", || || add(&counter))
        .threads("ours_count", || {
            || breaker::call(&ours_count, Permit::success)
        })
        .threads("ours_time", || {
            || breaker::call(&ours_time, Permit::success)
        })
        .threads("ours_layer", || {
            let mut service = ours_layer.clone();
            move || answered(&mut service)
        })
        .threads("tower_resilience", || {
            let mut service = tower_resilience.clone();
            move || answered(&mut service)
        })
        .run(c);
}

fn refusal(c: &mut Criterion) {
    let counter = AtomicU64::new(0);
    let ours = breaker::open();
    let recloser = breaker::recloser_open();
    let failsafe = breaker::failsafe_open();
    let throttle_net = breaker::throttle_open();
    let tower_resilience = breaker::tower_resilience_open();
    Contest::new("breaker/refusal")
        .threads("fetch_add", || || add(&counter))
        .threads("ours", || || ours.try_acquire().is_err())
        .threads("recloser", || || !breaker::recloser_success(&recloser))
        .threads("failsafe", || || !breaker::failsafe_success(&failsafe))
        .threads("throttle_net", || {
            || !breaker::throttle_call(&throttle_net, true)
        })
        // Not on two threads: it sleeps for a millisecond whenever two callers meet.
        .sized("tower_resilience", 1, || {
            let mut service = tower_resilience.clone();
            move || refused(&mut service)
        })
        .run(c);
}

/// One read of each clock, beside the counter it would be added to.
fn clock_only(c: &mut Criterion) {
    let counter = AtomicU64::new(0);
    let std_clock = StdClock::new();
    let fast_clock = FastClock::new();
    Contest::new("breaker/clock_only")
        .threads("fetch_add", || || add(&counter))
        .threads("std", || || read(&std_clock))
        .threads("fast", || || read(&fast_clock))
        .run(c);
}

fn add(counter: &AtomicU64) -> bool {
    // ORDERING: Relaxed, the cheapest; nothing is published.
    counter.fetch_add(1, Ordering::Relaxed) < u64::MAX
}

fn read(clock: &impl Clock) -> bool {
    !std::hint::black_box(clock.now()).is_zero()
}

criterion_group! {
    name = benches;
    config = benches::criterion();
    targets = closed_count, closed_time, closed_slow, refusal, clock_only
}
criterion_main!(benches);
