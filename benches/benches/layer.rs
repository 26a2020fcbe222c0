//! The layers over a service that does nothing: what a call through them costs. Every thread
//! has its own clone of the service; all clones share one policy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use benches::Contest;
use benches::peers::{NEVER_USED_UP, USED_UP, layer, rate_limit};
use benches::service::{Noop, NoopHttp, answered, status, within};
use criterion::{Criterion, criterion_group, criterion_main};
use http::{Request, Response, StatusCode};
use resilience_tower::rate_limit::RateLimit;
use tower_service::Service;

/// A permit for every nanosecond.
const AMPLE: Duration = Duration::from_nanos(1);

fn breaker(c: &mut Criterion) {
    let counter = AtomicU64::new(0);
    let ours = layer::breaker();
    let tower_resilience = layer::tower_resilience_breaker();
    Contest::new("layer/breaker")
        .threads("fetch_add", || {
            || counter.fetch_add(1, Ordering::Relaxed) < u64::MAX
        })
        .threads("noop", || call(Noop))
        .threads("ours", || call(ours.clone()))
        .threads("tower_resilience", || call(tower_resilience.clone()))
        .run(c);
}

/// The limiter's layer with room to spare.
fn rate_limit(c: &mut Criterion) {
    let counter = AtomicU64::new(0);
    let ours = RateLimit::new(Noop, rate_limit::direct());
    Contest::new("layer/rate_limit")
        .threads("fetch_add", || {
            || counter.fetch_add(1, Ordering::Relaxed) < u64::MAX
        })
        .threads("ours", || call(ours.clone()))
        .run(c);
}

/// Limits that answer with a response: what a refusal costs beside an admission.
fn limit(c: &mut Criterion) {
    let ours = layer::limited(rate_limit::direct());
    let ours_used_up = layer::limited(rate_limit::direct_used_up());
    let plain = layer::limited_plain(rate_limit::direct());
    let plain_used_up = layer::limited_plain(rate_limit::direct_used_up());
    let tower_governor = layer::tower_governor(AMPLE, NEVER_USED_UP);
    let tower_governor_used_up = layer::tower_governor(USED_UP, 1);
    let governor_plain = layer::tower_governor_plain(AMPLE, NEVER_USED_UP);
    let governor_plain_used_up = layer::tower_governor_plain(USED_UP, 1);
    Contest::new("layer/limit")
        .threads("noop", || admitted(NoopHttp))
        .threads("ours_admitted", || admitted(ours.clone()))
        .threads("ours_refused", || refused(ours_used_up.clone()))
        .threads("ours_plain_admitted", || admitted(plain.clone()))
        .threads("ours_plain_refused", || refused(plain_used_up.clone()))
        .threads("tower_governor_admitted", || {
            admitted(tower_governor.clone())
        })
        .threads("tower_governor_refused", || {
            refused(tower_governor_used_up.clone())
        })
        .threads("tower_governor_plain_admitted", || {
            admitted(governor_plain.clone())
        })
        .threads("tower_governor_plain_refused", || {
            refused(governor_plain_used_up.clone())
        })
        .run(c);
}

/// Timeout, bulkhead, rate limit and breaker, one stack. The timers of both belong to one runtime.
fn stack(c: &mut Criterion) {
    let runtime = layer::runtime();
    let counter = AtomicU64::new(0);
    let ours = layer::stack();
    let tower_resilience = layer::tower_resilience_stack();
    Contest::new("layer/stack")
        .threads("fetch_add", || {
            || counter.fetch_add(1, Ordering::Relaxed) < u64::MAX
        })
        .threads("ours", || within(&runtime, ours.clone()))
        .threads("tower_resilience", || {
            within(&runtime, tower_resilience.clone())
        })
        .run(c);
}

fn call<S: Service<u64>>(mut service: S) -> impl FnMut() -> bool {
    move || answered(&mut service)
}

fn admitted<S, B>(mut service: S) -> impl FnMut() -> bool
where
    S: Service<Request<()>, Response = Response<B>>,
{
    move || status(&mut service) == Some(StatusCode::OK)
}

/// The first permit is taken before.
fn refused<S, B>(mut service: S) -> impl FnMut() -> bool
where
    S: Service<Request<()>, Response = Response<B>>,
{
    status(&mut service);
    move || status(&mut service) == Some(StatusCode::TOO_MANY_REQUESTS)
}

criterion_group! {
    name = benches;
    config = benches::criterion();
    targets = breaker, rate_limit, limit, stack
}
criterion_main!(benches);
