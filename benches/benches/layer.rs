//! The layers over a service that does nothing: what a call through the stack costs.
//! Every thread has its own clone of the service; all clones share one policy.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use benches::on_threads;
use criterion::{Criterion, criterion_group, criterion_main};
use resilience_core::breaker::CircuitBreaker;
use resilience_core::rate_limit::{Quota, RateLimiter};
use resilience_tower::breaker::Breaker;
use resilience_tower::rate_limit::RateLimit;
use tower_service::Service;

/// Answers at once with the request.
#[derive(Clone)]
struct Noop;

impl Service<u64> for Noop {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        ready(Ok(request))
    }
}

/// Ready, call, and the one poll that completes; whether the call was answered.
fn once<S: Service<u64>>(service: &mut S) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(())) = service.poll_ready(&mut context) else {
        return false;
    };
    let call = pin!(service.call(black_box(7)));
    matches!(call.poll(&mut context), Poll::Ready(Ok(_)))
}

fn noop(c: &mut Criterion) {
    let mut group = c.benchmark_group("layer/noop_service");
    let counter = AtomicU64::new(0);
    on_threads(&mut group, "fetch_add", || {
        || counter.fetch_add(1, Ordering::Relaxed)
    });
    on_threads(&mut group, "bare", || {
        let mut service = Noop;
        move || once(&mut service)
    });

    let breaker = Breaker::new(Noop, CircuitBreaker::new("bench"));
    on_threads(&mut group, "breaker", || {
        let mut service = breaker.clone();
        move || once(&mut service)
    });

    let limited = RateLimit::new(Noop, RateLimiter::new(never_used_up()));
    on_threads(&mut group, "rate_limit", || {
        let mut service = limited.clone();
        move || once(&mut service)
    });
    group.finish();
}

/// More than a machine can call, so that only admissions are measured.
fn never_used_up() -> Quota {
    Quota::per_second(1_000_000_000).expect("this quota is in range")
}

criterion_group! {
    name = benches;
    config = benches::criterion();
    targets = noop
}
criterion_main!(benches);
