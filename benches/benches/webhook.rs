//! Verifying one delivery beside the hash itself: HMAC-SHA256 over the same bytes with a
//! precomputed key. The parameter is the size of the body in bytes.

use std::hint::black_box;

use benches::Contest;
use criterion::{Criterion, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit, Mac};
use http::Request;
use http::request::Parts;
use sha2::Sha256;
use webhook_verify::{Scheme, Secret, Signer, Verifier, presets};

const KEY: &[u8] = b"SKJN-a-server-key-of-a-profile-000000000";
const SIZES: [usize; 3] = [256, 4 << 10, 1 << 20];

fn verify(c: &mut Criterion) {
    let bodies = SIZES.map(|size| vec![b'x'; size]);
    let deliveries: Vec<_> = bodies
        .iter()
        .flat_map(|body| {
            [presets::paytabs_callback(), presets::timestamped()]
                .map(|scheme| (body, signed(&scheme, body)))
        })
        .collect();
    let names = ["paytabs_callback", "timestamped"].into_iter().cycle();
    let mut contest = Contest::new("webhook/verify");
    for body in &bodies {
        let keyed = Hmac::<Sha256>::new_from_slice(KEY).expect("HMAC takes keys of any length");
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
    for (name, (body, (parts, verifier))) in names.zip(&deliveries) {
        contest = contest.sized(name, body.len(), move || {
            move || verifier.verify(parts, None, black_box(body)).is_ok()
        });
    }
    contest.run(c);
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
