//! HTTP message signatures: what the RFC publishes, and what a stranger may try.

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, request::Parts};
use proptest::prelude::*;
use serde_json::Value as Json;
use sha2::{Digest, Sha256, Sha512};
use webhook_verify::{
    Error, KeySet, Reason, Scheme, SchemeError, Secret, SignError, Signer, Step, Verifier,
    clock::ManualWallClock,
    presets::{self, HttpMessage},
    replay::MemoryReplayStore,
};

mod covered;
mod parameters;
mod properties;
mod published;
mod several;

const NOW: u64 = 1_700_000_000;
const AT: Duration = Duration::from_secs(NOW);
const BODY: &[u8] = br#"{"id":1}"#;
const KEY: &[u8] = b"a secret of at least 32 random bytes";

fn policy() -> HttpMessage {
    presets::http_message("https://hooks.example")
}

fn scheme() -> Scheme {
    policy().build().unwrap()
}

fn secret() -> Secret {
    Secret::new("k", KEY).unwrap()
}

fn verifier_at(scheme: &Scheme, keys: &[&Secret], now: u64) -> Verifier {
    let keys = KeySet::new(keys.iter().map(|secret| (*secret).clone())).unwrap();
    let builder = Verifier::builder(scheme.clone()).clock(ManualWallClock::new(now));
    builder.methods([]).keys(keys).build().unwrap()
}

fn verifier() -> Verifier {
    verifier_at(&scheme(), &[&secret()], NOW)
}

/// Both ways to verify give one answer.
fn verify(verifier: &Verifier, parts: &Parts, body: &[u8]) -> Result<(), Reason> {
    let reason = |error: Error| error.reason().clone();
    let whole = verifier.verify(parts, None, body).map(drop).map_err(reason);
    let streamed = verifier.begin(parts, None).and_then(|mut session| {
        for chunk in body.chunks(3) {
            session.update(chunk)?;
        }
        session.finish()
    });
    assert_eq!(streamed.map(drop).map_err(reason), whole);
    whole
}

fn request(target: &str) -> Parts {
    let request = Request::post(target)
        .header("content-type", "application/json")
        .header("x-other", "1");
    request.body(()).unwrap().into_parts().0
}

fn set(parts: &mut Parts, name: &'static str, value: &str) {
    let value = HeaderValue::from_str(value).unwrap();
    parts.headers.insert(name, value);
}

fn add(parts: &mut Parts, name: &'static str, value: &str) {
    let value = HeaderValue::from_str(value).unwrap();
    parts.headers.append(name, value);
}

fn text<'a>(parts: &'a Parts, name: &str) -> &'a str {
    parts.headers[name].to_str().unwrap()
}

/// Signed by the crate itself.
fn signed(target: &str) -> Parts {
    let mut parts = request(target);
    let signer = Signer::new(scheme(), secret());
    let headers = signer.sign_request(&parts, None, AT, BODY).unwrap();
    parts.headers.extend(headers);
    parts
}

fn sha_256(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body)))
}

fn hmac(base: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(KEY).unwrap();
    let mac = mac.chain_update(base).finalize().into_bytes();
    format!(":{}:", STANDARD.encode(mac))
}

const COMPONENTS: &str = r#"("@method" "@authority" "@path" "content-digest")"#;
const PARAMETERS: &str = r#";created=1700000000;keyid="k""#;

/// Signed by hand, over the least that is needed, as one signature of the label `label`.
fn add_by_hand(parts: &mut Parts, label: &str, parameters: &str) {
    let digest = text(parts, "content-digest");
    let input = format!("{COMPONENTS}{parameters}");
    let base = format!(
        "\"@method\": POST\n\"@authority\": hooks.example\n\"@path\": /hook\n\
         \"content-digest\": {digest}\n\"@signature-params\": {input}"
    );
    let signature = hmac(&base);
    add(parts, "signature-input", &format!("{label}={input}"));
    add(parts, "signature", &format!("{label}={signature}"));
}

fn by_hand(parameters: &str) -> Parts {
    let mut parts = request("/hook");
    set(&mut parts, "content-digest", &sha_256(BODY));
    add_by_hand(&mut parts, "a", parameters);
    parts
}
