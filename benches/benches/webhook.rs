//! Verifying one delivery beside the hash itself: HMAC-SHA256 over the same bytes with a
//! precomputed key. The parameter is the size of the body in bytes.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit, Mac};
use http::Request;
use http::request::Parts;
use sha2::Sha256;
use webhook_verify::{Scheme, Secret, Signer, Verifier, presets};

const KEY: &[u8] = b"SKJN-a-server-key-of-a-profile-000000000";
const SIZES: [usize; 3] = [256, 4 << 10, 1 << 20];

fn verify(c: &mut Criterion) {
    let mut group = c.benchmark_group("webhook/verify");
    for size in SIZES {
        let body = vec![b'x'; size];
        group.throughput(Throughput::Bytes(size as u64));

        let keyed = Hmac::<Sha256>::new_from_slice(KEY).expect("HMAC takes keys of any length");
        let tag = keyed.clone().chain_update(&body).finalize().into_bytes();
        group.bench_function(BenchmarkId::new("bare_hmac", size), |b| {
            b.iter(|| {
                let mut mac = keyed.clone();
                mac.update(black_box(&body));
                mac.verify_slice(&tag).is_ok()
            });
        });

        for scheme in [presets::paytabs_callback(), presets::timestamped()] {
            let id = BenchmarkId::new(scheme.name(), size);
            let (parts, verifier) = signed(&scheme, &body);
            group.bench_function(id, |b| {
                b.iter(|| verifier.verify(&parts, None, black_box(&body)).is_ok());
            });
            assert!(verifier.verify(&parts, None, &body).is_ok());
        }
    }
    group.finish();
}

/// A delivery signed now, and who accepts it.
fn signed(scheme: &Scheme, body: &[u8]) -> (Parts, Verifier) {
    let secret = || Secret::new("bench", KEY).expect("the key is well formed");
    let (mut parts, ()) = Request::post("/")
        .body(())
        .expect("the request is well formed")
        .into_parts();
    parts.headers = Signer::new(scheme.clone(), secret())
        .sign(body)
        .expect("the scheme needs no id");
    let verifier = Verifier::builder(scheme.clone())
        .secret(secret())
        .body_limit(1 << 20)
        .build()
        .expect("these settings fit together");
    (parts, verifier)
}

criterion_group! {
    name = benches;
    config = benches::criterion();
    targets = verify
}
criterion_main!(benches);
