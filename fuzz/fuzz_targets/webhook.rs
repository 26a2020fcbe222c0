//! Any headers and body through all presets: no panic, and no delivery passes that a plain
//! recomputation of the HMAC does not confirm.
#![no_main]

use std::{fmt::Write, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use libfuzzer_sys::fuzz_target;
use sha2::Sha256;
use webhook_verify::{Secret, Signer, Verifier, clock::ManualWallClock, presets};

const KEY: &[u8] = b"key";
const NOW: u64 = 1_700_000_000;
const NAMES: [&str; 9] = [
    "signature",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "x-webhook-signature",
    "x-webhook-timestamp",
    "content-length",
    "content-type",
    "svix-signature",
];

/// Which header, whether it replaces or is added, and its value.
type Change = (u8, bool, Vec<u8>);

fuzz_target!(|input: (bool, Vec<Change>, Vec<u8>, Vec<u8>)| {
    let (signed, changes, signed_body, tail) = input;
    let mut body = signed_body.clone();
    body.extend_from_slice(&tail);
    for scheme in [
        presets::paytabs_callback(),
        presets::standard_webhooks(),
        presets::timestamped(),
        presets::timestamped_body_only(),
    ] {
        let Ok(secret) = Secret::new("k", KEY) else {
            return;
        };
        let mut headers = HeaderMap::new();
        if signed {
            let signer = Signer::new(scheme.clone(), secret.clone());
            let at = Duration::from_secs(NOW);
            headers = signer
                .sign_with_id("msg_1", at, &signed_body)
                .expect("id and time are well formed");
        }
        for (which, replace, value) in &changes {
            let name = HeaderName::from_static(NAMES[usize::from(*which) % NAMES.len()]);
            match HeaderValue::from_bytes(value) {
                Ok(value) if *replace => drop(headers.insert(name, value)),
                Ok(value) => drop(headers.append(name, value)),
                Err(_) => {}
            }
        }
        let genuine = genuine(scheme.name(), &headers, &body);
        let (mut parts, ()) = Request::post("/").body(()).expect("a request").into_parts();
        parts.headers = headers;
        let verifier = Verifier::builder(scheme)
            .secret(secret)
            .clock(ManualWallClock::new(NOW))
            .build()
            .expect("these settings fit together");

        let whole = verifier.verify(&parts, None, &body).is_ok();
        assert!(genuine || !whole, "passed without a right signature");
        assert!(
            whole || !signed || !changes.is_empty() || !tail.is_empty(),
            "refused what the signer made"
        );
        let streamed = verifier.begin(&parts, None).and_then(|mut session| {
            body.chunks(7).try_for_each(|chunk| session.update(chunk))?;
            session.finish()
        });
        // A claimed length is judged in streams only.
        assert!(
            streamed.is_ok() == whole || parts.headers.contains_key("content-length"),
            "streaming says something else"
        );
        assert!(genuine || streamed.is_err());
    }
});

/// The slow, plain answer: is there a right signature, once, in time?
fn genuine(scheme: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    let one = |name: &str| {
        let values: Vec<_> = headers.get_all(name).iter().collect();
        match values[..] {
            [value] => Some(value.as_bytes()),
            _ => None,
        }
    };
    let (signature, stamp, id) = match scheme {
        "paytabs_callback" => ("signature", None, None),
        "timestamped_body_only" => ("x-webhook-signature", None, None),
        "timestamped" => ("x-webhook-signature", Some("x-webhook-timestamp"), None),
        _ => (
            "webhook-signature",
            Some("webhook-timestamp"),
            Some("webhook-id"),
        ),
    };
    let mut message = Vec::new();
    for name in [id, stamp].into_iter().flatten() {
        let Some(value) = one(name) else { return false };
        message.extend_from_slice(value);
        message.push(b'.');
    }
    if let Some(name) = stamp {
        let text = one(name).and_then(|value| std::str::from_utf8(value).ok());
        let future = if id.is_some() { 300 } else { 60 };
        let at = text.and_then(|text| text.parse::<u64>().ok());
        if !at.is_some_and(|at| (NOW - 300..=NOW + future).contains(&at)) {
            return false;
        }
    }
    message.extend_from_slice(body);
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).expect("HMAC takes keys of any length");
    mac.update(&message);
    let mac = mac.finalize().into_bytes();
    let Some(value) = one(signature) else {
        return false;
    };
    if id.is_some() {
        let right = format!("v1,{}", base64(&mac));
        value.split(|b| *b == b' ').any(|v| v == right.as_bytes())
    } else {
        let mut right = String::new();
        for byte in mac {
            let _ = write!(right, "{byte:02x}");
        }
        value == right.as_bytes()
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .chain([0, 0].iter())
            .take(3)
            .fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        for i in 0..4 {
            let digit = if i <= group.len() {
                DIGITS[bits >> (18 - 6 * i) & 63]
            } else {
                b'='
            };
            text.push(char::from(digit));
        }
    }
    text
}
