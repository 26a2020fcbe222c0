//! Bytes per key of the keyed limiters, and allocations per call of the layers, by a counting
//! allocator.
//!
//! A program of its own, because it counts every allocation: no time is measured here. What
//! lies in the figure of a key: everything a limiter of a million keys holds, once a million
//! were seen, divided by the keys it holds then.

use std::time::Duration;

use allocation_counter::measure;
use benches::peers::{layer, policies, rate_limit, read_write, webhook};
use benches::program::{Arguments, report};
use benches::results::Name;
use benches::service::answered;
use tower_service::Service;
use webhook_verify::replay::{MemoryReplayStore, ReplayStore, Reserve, Times};

const KEYS: u64 = 1_000_000;
/// Calls over which allocations are averaged.
const CALLS: u32 = 1_000;

fn main() {
    let arguments = Arguments::of_process();
    if arguments.wants("keyed/memory") {
        let keys = if arguments.quick() { 1_000 } else { KEYS };
        bytes_per_key(&arguments, keys);
    }
    if arguments.wants("layer/breaker_allocations") {
        let group = "layer/breaker_allocations";
        allocations(&arguments, group, "ours", layer::breaker());
        let peer = layer::tower_resilience_breaker();
        allocations(&arguments, group, "tower_resilience", peer);
    }
    if arguments.wants("layer/stack_allocations") {
        let group = "layer/stack_allocations";
        let runtime = layer::runtime();
        let _entered = runtime.enter();
        allocations(&arguments, group, "ours", layer::stack());
        let peer = layer::tower_resilience_stack();
        allocations(&arguments, group, "tower_resilience", peer);
    }
    if arguments.wants("policies/read_write_allocations") {
        let group = "policies/read_write_allocations";
        let runtime = layer::runtime();
        let cluster = read_write::cluster(&runtime);
        allocations(&arguments, group, "ours", read_write::per_call(&cluster));
        let lease = read_write::lease(&cluster, &runtime);
        allocations_of(&arguments, group, "ours_lease", lease);
        allocations(&arguments, group, "tower", policies::tower_balance());
    }
    if arguments.wants("webhook/heap") {
        heap_calls(&arguments);
    }
    if arguments.wants("webhook/replay_bytes") {
        let deliveries = if arguments.quick() { 1_000 } else { KEYS };
        bytes_per_delivery(&arguments, deliveries);
    }
}

/// Heap calls of one verification of 256 bytes.
fn heap_calls(arguments: &Arguments) {
    let body = [b'x'; 256];
    for scheme in webhook::schemes() {
        let (parts, verifier) = webhook::signed(&scheme, &body);
        count(arguments, scheme.name(), || {
            verifier.verify(&parts, None, &body).is_ok()
        });
        if scheme.name() == "standard_webhooks" {
            let peer = webhook::standardwebhooks();
            count(arguments, "standardwebhooks", || {
                peer.verify(&body, &parts.headers).is_ok()
            });
        }
        for (ours, what, provider) in webhook::REGISTRY {
            if ours == scheme.name() {
                let verify = webhook::registry(provider);
                count(arguments, what, || verify(&parts.headers, &body));
            }
        }
    }
}

fn count(arguments: &Arguments, what: &str, verify: impl Fn() -> bool) {
    // What the first call does once is not counted.
    assert!(verify());
    let info = measure(|| assert!((0..CALLS).all(|_| verify())));
    let each = info.count_total as f64 / f64::from(CALLS);
    let name = Name::new("webhook/heap", what, 1);
    report(arguments, &name, "heap calls per delivery", &[each]);
}

/// What a store of so many deliveries takes, filled as far as it can be, for each one held.
fn bytes_per_delivery(arguments: &Arguments, deliveries: u64) {
    let times = Times {
        now: Duration::ZERO,
        lease: Duration::from_secs(60),
        lifetime: Duration::from_secs(600),
    };
    let mut filled = None;
    let info = measure(|| {
        let store = MemoryReplayStore::new(usize::try_from(deliveries).unwrap_or(usize::MAX));
        for number in 0..deliveries {
            // Evenly spread, as hashes are.
            let word = |i: u64| {
                (number * 4 + i)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .rotate_left(32)
            };
            let mut key = [0; 32];
            for (i, bytes) in key.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                *bytes = word(i as u64).to_le_bytes();
            }
            if let Ok(Reserve::Reserved(token)) = store.reserve(key, times).now() {
                assert!(store.commit(key, token, times).now().is_ok());
            }
        }
        filled = Some(store);
    });
    let held = filled.as_ref().map_or(1, MemoryReplayStore::len);
    let name = Name::new("webhook/replay_bytes", "ours", 1);
    let each = info.bytes_current as f64 / held as f64;
    report(arguments, &name, "bytes per delivery held", &[each]);
}

fn bytes_per_key(arguments: &Arguments, keys: u64) {
    let cap = usize::try_from(keys).unwrap_or(usize::MAX);
    held(arguments, "ours", || {
        let limiter = rate_limit::keyed_slow(cap);
        (0..keys).for_each(|key| assert!(limiter.try_acquire(&key).is_ok()));
        let held = limiter.len();
        (Box::new(limiter), held)
    });
    held(arguments, "governor", || {
        let limiter = rate_limit::governor_keyed_slow();
        (0..keys).for_each(|key| assert!(limiter.check_key(&key).is_ok()));
        let held = limiter.len();
        (Box::new(limiter), held)
    });
    held(arguments, "rate_net", || {
        let limiter = rate_limit::rate_net_capped(cap);
        (0..keys).for_each(|key| assert!(limiter.check(key).is_allow()));
        let held = limiter.tracked_keys();
        (Box::new(limiter), held)
    });
}

/// Reports what `fill` leaves allocated, per key that it holds.
fn held<T>(arguments: &Arguments, what: &str, fill: impl FnOnce() -> (Box<T>, usize)) {
    let mut filled = None;
    let info = measure(|| filled = Some(fill()));
    let keys = filled.as_ref().map_or(1, |(_, keys)| *keys);
    let bytes = info.bytes_current as f64 / keys as f64;
    let name = Name::new("keyed/memory", what, 1);
    report(arguments, &name, "bytes per key held", &[bytes]);
}

fn allocations<S: Service<u64>>(arguments: &Arguments, group: &str, what: &str, mut service: S) {
    allocations_of(arguments, group, what, || answered(&mut service));
}

fn allocations_of(arguments: &Arguments, group: &str, what: &str, mut call: impl FnMut() -> bool) {
    // What the first call does once is not counted.
    assert!(call());
    let info = measure(|| assert!((0..CALLS).all(|_| call())));
    let each = info.count_total as f64 / f64::from(CALLS);
    let name = Name::new(group, what, 1);
    report(arguments, &name, "allocations per call", &[each]);
}
