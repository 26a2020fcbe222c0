//! Verifying one delivery beside the hash itself (HMAC-SHA256 over the same bytes with a
//! precomputed key) and beside the peers; the parameter is the size of the body in bytes. And
//! remembering deliveries; the parameter is the number of threads.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use benches::Contest;
use benches::keys::Keys;
use benches::peers::webhook::{KEY, REGISTRY, registry, schemes, signed, standardwebhooks};
use criterion::{Criterion, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use webhook_verify::replay::{MemoryReplayStore, ReplayKey, ReplayStore, Reserve, Times};

const SIZES: [usize; 3] = [256, 4 << 10, 1 << 20];

/// Deliveries remembered while `webhook/replay` runs.
const REMEMBERED: u64 = 1_000_000;
/// Shards fill unevenly.
const ROOM: usize = 1_250_000;

fn verify(c: &mut Criterion) {
    let bodies = SIZES.map(|size| vec![b'x'; size]);
    let deliveries: Vec<_> = bodies
        .iter()
        .flat_map(|body| schemes().map(|scheme| (body, signed(&scheme, body))))
        .collect();
    let mut contest = Contest::new("webhook/verify");
    for body in &bodies {
        let keyed = Hmac::<Sha256>::new_from_slice(KEY.as_bytes());
        let keyed = keyed.expect("HMAC takes keys of any length");
        let tag = keyed.clone().chain_update(body).finalize().into_bytes();
        contest = contest.sized("bare_hmac", body.len(), move || {
            let keyed = keyed.clone();
            move || {
                let mut mac = keyed.clone();
                mac.update(black_box(body));
                mac.verify_slice(&tag).is_ok()
            }
        });
    }
    let names = schemes().map(|scheme| OURS.into_iter().find(|name| *name == scheme.name()));
    for (name, (body, (parts, verifier))) in names.into_iter().cycle().zip(&deliveries) {
        let name = name.expect("all are named");
        contest = contest.sized(name, body.len(), move || {
            move || verifier.verify(parts, None, black_box(body)).is_ok()
        });
        if name == "standard_webhooks" {
            contest = contest.sized("standardwebhooks", body.len(), move || {
                let peer = standardwebhooks();
                move || peer.verify(black_box(body), &parts.headers).is_ok()
            });
        }
        if let Some((_, what, provider)) = REGISTRY.into_iter().find(|(ours, ..)| *ours == name) {
            contest = contest.sized(what, body.len(), move || {
                let verify = registry(provider);
                move || verify(&parts.headers, black_box(body))
            });
        }
    }
    contest.run(c);
}

const OURS: [&str; 5] = [
    "paytabs_callback",
    "timestamped",
    "standard_webhooks",
    "stripe",
    "github",
];

/// A delivery is taken and remembered while a million others are, or refused as one of them.
fn replay(c: &mut Criterion) {
    let store = MemoryReplayStore::new(ROOM);
    let clock = AtomicU64::new(0);
    // A microsecond passes with each delivery, so that as many end as come.
    let lifetime = Duration::from_micros(REMEMBERED);
    let times = |now: u64, lifetime| Times {
        now: Duration::from_micros(now),
        lease: Duration::from_secs(60),
        lifetime,
    };
    let take = |key: ReplayKey, times: Times| match store.reserve(key, times).now() {
        Ok(Reserve::Reserved(token)) => store.commit(key, token, times).now().is_ok(),
        _ => false,
    };
    let next = || {
        let now = clock.fetch_add(1, Ordering::Relaxed);
        take(named(0, now), times(now, lifetime))
    };
    (0..REMEMBERED).for_each(|_| assert!(next(), "there is room"));
    let known = MemoryReplayStore::new(ROOM);
    let always = times(0, Duration::from_secs(1 << 30));
    for number in 0..REMEMBERED {
        let key = named(1, number);
        let Ok(Reserve::Reserved(token)) = known.reserve(key, always).now() else {
            panic!("there is room")
        };
        assert!(known.commit(key, token, always).now().is_ok());
    }
    Contest::new("webhook/replay")
        .threads("ours_new", || next)
        .threads("ours_duplicate", || {
            let mut numbers = Keys::new(7, REMEMBERED);
            let known = &known;
            move || {
                let key = named(1, numbers.next_key());
                matches!(known.reserve(key, always).now(), Ok(Reserve::Duplicate))
            }
        })
        .run(c);
}

/// The name of a delivery, as evenly spread as a hash.
fn named(series: u64, number: u64) -> ReplayKey {
    let mut key = ReplayKey::default();
    for (i, word) in key.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        // SplitMix64.
        let mut x = (number << 2 | i as u64).wrapping_add(series << 40);
        x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        *word = (x ^ x >> 31).to_le_bytes();
    }
    key
}

criterion_group! {
    name = benches;
    config = benches::criterion();
    targets = verify, replay
}
criterion_main!(benches);
