//! The limiters by key: one hot key, a thousand and a million keys in random order. All keys
//! are known before the measurement. Ours holds exactly as many as there are, the peers know
//! no cap here.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use benches::peers::rate_limit;
use benches::{Contest, keys::Keys};
use criterion::{Criterion, criterion_group, criterion_main};
use governor::DefaultKeyedRateLimiter;
use rate_net::RateLimiter as RateNet;
use resilience_core::rate_limit::KeyedRateLimiter;

fn hot(c: &mut Criterion) {
    contest(c, "keyed/hot", 1);
}

fn thousand(c: &mut Criterion) {
    contest(c, "keyed/thousand", 1_000);
}

fn million(c: &mut Criterion) {
    contest(c, "keyed/million", 1_000_000);
}

fn contest(c: &mut Criterion, group: &'static str, keys: u64) {
    let ours = LazyLock::new(|| {
        let limiter = rate_limit::keyed(usize::try_from(keys).unwrap_or(usize::MAX));
        (0..keys).for_each(|key| assert!(limiter.try_acquire(&key).is_ok()));
        limiter
    });
    let governor = LazyLock::new(|| {
        let limiter = rate_limit::governor_keyed();
        (0..keys).for_each(|key| assert!(limiter.check_key(&key).is_ok()));
        limiter
    });
    let rate_net = LazyLock::new(|| {
        let limiter = rate_limit::rate_net_keyed();
        (0..keys).for_each(|key| assert!(limiter.check(key).is_allow()));
        limiter
    });
    // Every thread of every sample has its own order.
    let seed = AtomicU64::new(1);
    let order = || Keys::new(seed.fetch_add(1, Ordering::Relaxed), keys);
    Contest::new(group)
        .threads("governor", || {
            let limiter: &DefaultKeyedRateLimiter<u64> = &governor;
            let mut order = order();
            move || limiter.check_key(&order.next_key()).is_ok()
        })
        .threads("ours", || {
            let limiter: &KeyedRateLimiter<u64> = &ours;
            let mut order = order();
            move || limiter.try_acquire(&order.next_key()).is_ok()
        })
        .threads("rate_net", || {
            let limiter: &RateNet = &rate_net;
            let mut order = order();
            move || limiter.check(order.next_key()).is_allow()
        })
        .run(c);
}

criterion_group! {
    name = benches;
    config = benches::criterion();
    targets = hot, thousand, million
}
criterion_main!(benches);
