//! The other policies: what a call costs that none of them holds back, as nearly all calls are.
//! Layers over a service that does nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use benches::Contest;
use benches::peers::{layer, policies, read_write};
use benches::service::{answered, within};
use criterion::{Criterion, criterion_group, criterion_main};
use resilience_core::breaker::Outcome;
use resilience_core::load_shed::Class;
use tower_service::Service;

fn bulkhead(c: &mut Criterion) {
    let runtime = layer::runtime();
    let counter = AtomicU64::new(0);
    let bare = policies::bulkhead();
    let ours = policies::bulkhead_layer();
    let tower = policies::concurrency_limit();
    let tower_resilience = policies::tower_resilience_bulkhead();
    Contest::new("policies/bulkhead")
        .threads("fetch_add", || {
            || counter.fetch_add(1, Ordering::Relaxed) < u64::MAX
        })
        .threads("ours_bare", || || bare.try_acquire().is_ok())
        .threads("ours", || call(ours.clone()))
        .threads("tower", || call(tower.clone()))
        .threads("tower_resilience", || {
            within(&runtime, tower_resilience.clone())
        })
        .run(c);
}

/// The first attempt succeeds.
fn retry(c: &mut Criterion) {
    let runtime = layer::runtime();
    let counter = AtomicU64::new(0);
    let ours = policies::retry();
    let tower = policies::tower_retry();
    let tower_resilience = policies::tower_resilience_retry();
    Contest::new("policies/retry")
        .threads("fetch_add", || {
            || counter.fetch_add(1, Ordering::Relaxed) < u64::MAX
        })
        .threads("ours", || call(ours.clone()))
        .threads("tower", || call(tower.clone()))
        .threads("tower_resilience", || {
            within(&runtime, tower_resilience.clone())
        })
        .run(c);
}

fn adaptive(c: &mut Criterion) {
    let runtime = layer::runtime();
    let counter = AtomicU64::new(0);
    let ours = policies::adaptive();
    let tower_resilience = policies::tower_resilience_adaptive();
    Contest::new("policies/adaptive")
        .threads("fetch_add", || {
            || counter.fetch_add(1, Ordering::Relaxed) < u64::MAX
        })
        .threads("ours", || call(ours.clone()))
        .threads("tower_resilience", || {
            within(&runtime, tower_resilience.clone())
        })
        .run(c);
}

/// Nobody is shed. `tower`'s sheds when the service within is not ready, and knows no classes.
fn load_shed(c: &mut Criterion) {
    let counter = AtomicU64::new(0);
    let bare = policies::load_shed();
    let ours = policies::load_shed_layer();
    let tower = policies::tower_load_shed();
    Contest::new("policies/load_shed")
        .threads("fetch_add", || {
            || counter.fetch_add(1, Ordering::Relaxed) < u64::MAX
        })
        .threads("ours_bare", || || bare.try_acquire(Class::Normal).is_ok())
        .threads("ours", || call(ours.clone()))
        .threads("tower", || call(tower.clone()))
        .run(c);
}

fn call<S: Service<u64>>(mut service: S) -> impl FnMut() -> bool {
    move || answered(&mut service)
}

/// Three endpoints. `tower`'s cannot be shared: each thread has its own.
fn balance(c: &mut Criterion) {
    let bare = policies::balancer();
    let ours = policies::balance();
    Contest::new("policies/balance")
        .threads("ours_pick", || {
            || bare.pick().map(|pick| pick.end(Outcome::Success)).is_ok()
        })
        .threads("ours", || call(ours.clone()))
        .threads("tower", || call(policies::tower_balance()))
        .run(c);
}

/// A read of three nodes, by a token that both replicas have, except for `ours_pick_any`. `tower`'s
/// does not know of tokens.
fn split(c: &mut Criterion) {
    let runtime = layer::runtime();
    let router = read_write::router();
    let cluster = read_write::cluster(&runtime);
    let ours = read_write::per_call(&cluster);
    Contest::new("policies/read_write")
        .threads("ours_pick_any", || || read_write::pick_any(&router))
        .threads("ours_pick", || || read_write::pick_by_token(&router))
        .threads("ours", || call(ours.clone()))
        .threads("ours_lease", || read_write::lease(&cluster, &runtime))
        .threads("tower", || call(policies::tower_balance()))
        .run(c);
}

/// Nothing is slow enough for a second attempt.
fn hedge(c: &mut Criterion) {
    let runtime = layer::runtime();
    let counter = AtomicU64::new(0);
    let ours = policies::hedge();
    let tower_resilience = policies::tower_resilience_hedge();
    Contest::new("policies/hedge")
        .threads("fetch_add", || {
            || counter.fetch_add(1, Ordering::Relaxed) < u64::MAX
        })
        .threads("ours", || call(ours.clone()))
        .threads("tower_resilience", || {
            within(&runtime, tower_resilience.clone())
        })
        .run(c);
}

/// The call succeeds.
fn fallback(c: &mut Criterion) {
    let counter = AtomicU64::new(0);
    let ours = policies::fallback();
    let tower_resilience = policies::tower_resilience_fallback();
    Contest::new("policies/fallback")
        .threads("fetch_add", || {
            || counter.fetch_add(1, Ordering::Relaxed) < u64::MAX
        })
        .threads("ours", || call(ours.clone()))
        .threads("tower_resilience", || call(tower_resilience.clone()))
        .run(c);
}

/// Nobody else asks for the same.
fn coalesce(c: &mut Criterion) {
    let runtime = layer::runtime();
    let counter = AtomicU64::new(0);
    let ours = policies::coalesce();
    let tower_resilience = policies::tower_resilience_coalesce();
    Contest::new("policies/coalesce")
        .threads("fetch_add", || {
            || counter.fetch_add(1, Ordering::Relaxed) < u64::MAX
        })
        .threads("ours", || call(ours.clone()))
        .threads("tower_resilience", || {
            within(&runtime, tower_resilience.clone())
        })
        .run(c);
}

fn outbound(c: &mut Criterion) {
    let runtime = layer::runtime();
    let counter = AtomicU64::new(0);
    let ours = policies::outbound();
    Contest::new("policies/outbound")
        .threads("fetch_add", || {
            || counter.fetch_add(1, Ordering::Relaxed) < u64::MAX
        })
        .threads("ours", || within(&runtime, ours.clone()))
        .run(c);
}

/// The answer is there.
fn cache(c: &mut Criterion) {
    let counter = AtomicU64::new(0);
    let ours = policies::cache();
    let tower_resilience = policies::tower_resilience_cache();
    Contest::new("policies/cache_hit")
        .threads("fetch_add", || {
            || counter.fetch_add(1, Ordering::Relaxed) < u64::MAX
        })
        .threads("ours", || call(ours.clone()))
        .threads("tower_resilience", || call(tower_resilience.clone()))
        .run(c);
}

criterion_group! {
    name = benches;
    config = benches::criterion();
    targets = bulkhead, retry, adaptive, load_shed, balance, split, hedge, fallback, coalesce, cache, outbound
}
criterion_main!(benches);
