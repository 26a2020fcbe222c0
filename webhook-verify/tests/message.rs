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

mod published {
    //! The requests of RFC 9421, with their own keys.

    use super::*;

    const VECTORS: &str = include_str!("vectors/rfc9421.json");

    fn key(all: &Json, algorithm: &str, id: &str) -> Option<Secret> {
        let text = all["public_keys"][id].as_str().unwrap();
        match algorithm {
            "hmac-sha256" => Some(Secret::base64(id, text).unwrap()),
            #[cfg(feature = "ed25519")]
            "ed25519" => {
                let der = text.lines().nth(1).unwrap();
                let der = STANDARD.decode(der).unwrap();
                let key = der.last_chunk().unwrap();
                Some(Secret::ed25519_public(id, key).unwrap())
            }
            #[cfg(feature = "ecdsa")]
            "ecdsa-p256-sha256" => Some(Secret::pem(id, text).unwrap()),
            #[cfg(feature = "rsa")]
            "rsa-pss-sha512" => Some(Secret::pem(id, text).unwrap()),
            _ => None,
        }
    }

    #[test]
    fn signatures_of_the_rfc_have_its_answers() {
        let all: Json = serde_json::from_str(VECTORS).unwrap();
        let mut seen = 0;
        for vector in all["vectors"].as_array().unwrap() {
            let get = |name: &str| vector[name].as_str().unwrap();
            let message = &vector["message"];
            let key = key(&all, get("alg"), get("keyid"));
            let (Some(key), Some(method)) = (key, message["method"].as_str()) else {
                continue;
            };
            let target = message["target"].as_str().unwrap();
            let mut request = Request::builder()
                .method(method)
                .uri(target)
                .header("signature-input", get("signature_input"))
                .header("signature", get("signature"));
            let mut origin = String::new();
            for header in message["headers"].as_array().unwrap() {
                let [name, value] = [0, 1].map(|at| header[at].as_str().unwrap());
                request = request.header(name, value);
                if name == "Host" {
                    origin = format!("https://{value}");
                }
            }
            let parts = request.body(()).unwrap().into_parts().0;
            let body = message["body"].as_str().unwrap().as_bytes();
            let scheme = presets::http_message(&origin).insecure_any_components();
            let verifier = verifier_at(&scheme.build().unwrap(), &[&key], 1_618_884_475);
            let expected = match (get("name"), vector["valid"].as_bool().unwrap()) {
                // Signs nothing: the one rule in which we differ.
                ("B.2.1", _) => Err(Reason::NotCovered("@method".into())),
                (_, true) => Ok(()),
                (_, false) => Err(Reason::SignatureMismatch),
            };
            assert_eq!(verify(&verifier, &parts, body), expected, "{}", get("name"));
            seen += 1;
        }
        let mut expected = 2;
        if cfg!(feature = "ed25519") {
            expected += 8;
        }
        if cfg!(feature = "ecdsa") {
            expected += 2;
        }
        if cfg!(feature = "rsa") {
            expected += 4;
        }
        assert_eq!(seen, expected);
    }
}

#[test]
fn what_is_signed_here_is_what_the_rfc_says() {
    let parts = signed("/hook?a=1");
    let digest = sha_256(BODY);
    assert_eq!(text(&parts, "content-digest"), digest);
    let input = "(\"@method\" \"@authority\" \"@path\" \"@query\" \"content-digest\")\
                 ;created=1700000000;keyid=\"k\";alg=\"hmac-sha256\"";
    assert_eq!(text(&parts, "signature-input"), format!("sig1={input}"));
    let base = format!(
        "\"@method\": POST\n\"@authority\": hooks.example\n\"@path\": /hook\n\"@query\": ?a=1\n\
         \"content-digest\": {digest}\n\"@signature-params\": {input}"
    );
    assert_eq!(text(&parts, "signature"), format!("sig1={}", hmac(&base)));
    assert_eq!(verify(&verifier(), &parts, BODY), Ok(()));
    let verified = verifier().verify(&parts, None, BODY).unwrap();
    assert_eq!(
        (verified.key_id(), verified.scheme()),
        ("k", "http_message")
    );
    assert_eq!(verified.timestamp(), Some(NOW));
}

#[test]
fn each_kind_of_key_signs_what_it_verifies() {
    let mut keys = vec![(secret(), "hmac-sha256")];
    #[cfg(feature = "ed25519")]
    keys.push((Secret::ed25519_private("e", &[7; 32]).unwrap(), "ed25519"));
    #[cfg(feature = "ecdsa")]
    keys.push((
        Secret::pem("p", include_str!("vectors/keys/p256.pem")).unwrap(),
        "ecdsa-p256-sha256",
    ));
    let all: Vec<&Secret> = keys.iter().map(|(key, _)| key).collect();
    let verifier = verifier_at(&scheme(), &all, NOW);
    for (key, algorithm) in &keys {
        let mut parts = request("/hook");
        let signer = Signer::new(scheme(), key.clone());
        let headers = signer.sign_request(&parts, None, AT, BODY).unwrap();
        parts.headers.extend(headers);
        let alg = format!(";alg=\"{algorithm}\"");
        assert!(text(&parts, "signature-input").ends_with(&alg));
        let verified = verifier.verify(&parts, None, BODY).unwrap();
        assert_eq!(verified.key_id(), key.id());
        // Under another name the key is not asked.
        let input = text(&parts, "signature-input").replace("keyid=\"", "keyid=\"x");
        set(&mut parts, "signature-input", &input);
        assert_eq!(
            verify(&verifier, &parts, BODY),
            Err(Reason::SignatureMismatch)
        );
    }
}

#[test]
fn every_component_that_is_signed_is_protected() {
    type Change = fn(&mut Parts);
    let good = {
        let scheme = policy()
            .require(HeaderName::from_static("content-type"))
            .build()
            .unwrap();
        let mut parts = request("/hook?a=1");
        let signer = Signer::new(scheme, secret());
        let headers = signer.sign_request(&parts, None, AT, BODY).unwrap();
        parts.headers.extend(headers);
        parts
    };
    assert_eq!(verify(&verifier(), &good, BODY), Ok(()));
    let changes: [Change; 9] = [
        |parts| parts.method = Method::PUT,
        |parts| parts.uri = "/hooK?a=1".parse().unwrap(),
        |parts| parts.uri = "/hook?a=2".parse().unwrap(),
        |parts| parts.uri = "/hook?".parse().unwrap(),
        |parts| parts.uri = "/hook".parse().unwrap(),
        |parts| set(parts, "content-type", "application/jsom"),
        |parts| add(parts, "content-type", "application/json"),
        |parts| {
            let digests = format!("{}, md5=:AAAA:", text(parts, "content-digest"));
            set(parts, "content-digest", &digests);
        },
        |parts| {
            let input = text(parts, "signature-input").replace("1700000000", "1700000001");
            set(parts, "signature-input", &input);
        },
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut parts = good.clone();
        change(&mut parts);
        let answer = verify(&verifier(), &parts, BODY);
        assert_eq!(answer, Err(Reason::SignatureMismatch), "change {i}");
    }
    // Another receiver, with the same key.
    let other = presets::http_message("https://other.example").build();
    let other = verifier_at(&other.unwrap(), &[&secret()], NOW);
    assert_eq!(verify(&other, &good, BODY), Err(Reason::SignatureMismatch));
}

#[test]
fn a_query_that_was_not_there_when_it_was_signed_is_refused() {
    let mut parts = signed("/hook");
    for target in ["/hook?a=1", "/hook?"] {
        parts.uri = target.parse().unwrap();
        let refused = Err(Reason::NotCovered("@query".into()));
        assert_eq!(verify(&verifier(), &parts, BODY), refused);
    }
}

#[test]
fn headers_that_are_not_signed_may_change() {
    let mut parts = signed("/hook");
    parts.headers.remove("x-other");
    set(&mut parts, "content-type", "text/plain");
    set(&mut parts, "host", "other.example");
    set(&mut parts, "forwarded", "host=other.example;proto=http");
    set(&mut parts, "x-forwarded-host", "other.example");
    assert_eq!(verify(&verifier(), &parts, BODY), Ok(()));
}

#[test]
fn a_required_header_must_be_signed_and_there() {
    let content_type = HeaderName::from_static("content-type");
    let scheme = policy().require(content_type.clone()).build().unwrap();
    let verifier = verifier_at(&scheme, &[&secret()], NOW);
    assert_eq!(
        verify(&verifier, &signed("/hook"), BODY),
        Err(Reason::NotCovered("content-type".into()))
    );
    let mut parts = request("/hook");
    let signer = Signer::new(scheme, secret());
    let headers = signer.sign_request(&parts, None, AT, BODY).unwrap();
    parts.headers.extend(headers);
    assert_eq!(verify(&verifier, &parts, BODY), Ok(()));
    parts.headers.remove(&content_type);
    let missing = Err(Reason::Missing(content_type.clone()));
    assert_eq!(verify(&verifier, &parts, BODY), missing);
    let signed = signer.sign_request(&parts, None, AT, BODY);
    assert_eq!(signed.unwrap_err(), SignError::Header(content_type));
    assert_eq!(signer.sign_at(AT, BODY).unwrap_err(), SignError::Request);
}

#[test]
fn headers_of_the_scheme_must_be_there() {
    for name in ["signature-input", "signature", "content-digest"] {
        let mut parts = signed("/hook");
        parts.headers.remove(name);
        let missing = Err(Reason::Missing(HeaderName::from_static(name)));
        assert_eq!(verify(&verifier(), &parts, BODY), missing);
    }
}

#[test]
fn the_same_signature_twice_is_malformed() {
    for name in ["signature-input", "signature"] {
        let mut parts = signed("/hook");
        let again = text(&parts, name).to_owned();
        add(&mut parts, name, &again);
        let malformed = Err(Reason::Malformed(HeaderName::from_static(name)));
        assert_eq!(verify(&verifier(), &parts, BODY), malformed);
    }
    let mut parts = signed("/hook");
    let again = text(&parts, "content-digest").to_owned();
    add(&mut parts, "content-digest", &again);
    let content_digest = HeaderName::from_static("content-digest");
    assert_eq!(
        verify(&verifier(), &parts, BODY),
        Err(Reason::Malformed(content_digest))
    );
}

#[test]
fn the_body_is_the_one_of_every_digest_that_is_known() {
    let sha_512 = format!("sha-512=:{}:", STANDARD.encode(Sha512::digest(BODY)));
    let other = format!("sha-512=:{}:", STANDARD.encode(Sha512::digest(b"other")));
    let answer = |digest: &str, body: &[u8]| {
        let mut parts = request("/hook");
        set(&mut parts, "content-digest", digest);
        add_by_hand(&mut parts, "a", PARAMETERS);
        verify(&verifier(), &parts, body)
    };
    let right = sha_256(BODY);
    for good in [
        &*right,
        &sha_512,
        &format!("{right}, {sha_512}, md5=:AA==:"),
    ] {
        assert_eq!(answer(good, BODY), Ok(()), "{good}");
        assert_eq!(answer(good, b"{\"id\":2}"), Err(Reason::Digest), "{good}");
        assert_eq!(answer(good, b""), Err(Reason::Digest), "{good}");
    }
    assert_eq!(
        answer(&format!("{right}, {other}"), BODY),
        Err(Reason::Digest)
    );
    let md5 = answer("md5=:AA==:", BODY);
    let malformed = Reason::Malformed(HeaderName::from_static("content-digest"));
    assert_eq!(md5, Err(malformed));
}

#[test]
fn time_is_judged_around_created_and_up_to_expires() {
    let parts = by_hand(PARAMETERS);
    for (now, expected) in [
        (NOW + 300, Ok(())),
        (NOW + 301, Err(Reason::TooOld { by_seconds: 1 })),
        (NOW - 300, Ok(())),
        (NOW - 301, Err(Reason::TooNew { by_seconds: 1 })),
    ] {
        let verifier = verifier_at(&scheme(), &[&secret()], now);
        assert_eq!(verify(&verifier, &parts, BODY), expected);
    }
    let parts = by_hand(&format!("{PARAMETERS};expires=1700000010"));
    for (now, expected) in [
        (NOW + 10, Ok(())),
        (NOW + 11, Err(Reason::TooOld { by_seconds: 1 })),
    ] {
        let verifier = verifier_at(&scheme(), &[&secret()], now);
        assert_eq!(verify(&verifier, &parts, BODY), expected);
    }
    // A long life does not stretch the tolerance.
    let parts = by_hand(&format!("{PARAMETERS};expires=1800000000"));
    let verifier = verifier_at(&scheme(), &[&secret()], NOW + 301);
    let too_old = Err(Reason::TooOld { by_seconds: 1 });
    assert_eq!(verify(&verifier, &parts, BODY), too_old);
}

#[test]
fn a_stale_delivery_is_refused_before_its_body_is_read() {
    let parts = by_hand(PARAMETERS);
    let verifier = verifier_at(&scheme(), &[&secret()], NOW + 301);
    let error = verifier.begin(&parts, None).unwrap_err();
    assert_eq!(error.step(), Step::Timestamp);
}

#[test]
fn a_signer_can_end_a_delivery_itself() {
    let scheme = policy().expires_after(Duration::from_millis(10_999));
    let scheme = scheme.build().unwrap();
    let mut parts = request("/hook");
    let signer = Signer::new(scheme.clone(), secret());
    let headers = signer.sign_request(&parts, None, AT, BODY).unwrap();
    parts.headers.extend(headers);
    assert!(text(&parts, "signature-input").contains(";expires=1700000010"));
    let late = verifier_at(&scheme, &[&secret()], NOW + 11);
    let too_old = Err(Reason::TooOld { by_seconds: 1 });
    assert_eq!(verify(&late, &parts, BODY), too_old);
}

#[test]
fn the_algorithm_is_that_of_the_key() {
    let named = |name: &str| by_hand(&format!("{PARAMETERS};alg=\"{name}\""));
    assert_eq!(verify(&verifier(), &named("hmac-sha256"), BODY), Ok(()));
    for name in ["ed25519", "ecdsa-p256-sha256", "rsa-pss-sha512"] {
        let answer = verify(&verifier(), &named(name), BODY);
        assert_eq!(answer, Err(Reason::SignatureMismatch), "{name}");
    }
    for name in ["", "none", "hmac-sha512", "rsa-v1_5-sha256", "HMAC-SHA256"] {
        let answer = verify(&verifier(), &named(name), BODY);
        assert_eq!(answer, Err(Reason::FieldMalformed("alg".into())), "{name}");
    }
}

/// The oldest trick: an HMAC under the bytes of a public key, which everybody knows.
#[cfg(feature = "ed25519")]
#[test]
fn a_public_key_is_no_shared_secret() {
    // RFC 8032, 7.1, test 1.
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let key = Secret::ed25519_hex("k", public).unwrap();
    let verifier = verifier_at(&scheme(), &[&key], NOW);
    let as_shared = Secret::hex("k", public).unwrap();
    let mut parts = request("/hook");
    let signer = Signer::new(scheme(), as_shared.clone());
    let headers = signer.sign_request(&parts, None, AT, BODY).unwrap();
    parts.headers.extend(headers);
    let mismatch = Err(Reason::SignatureMismatch);
    assert_eq!(verify(&verifier, &parts, BODY), mismatch);
    let fooled = verifier_at(&scheme(), &[&as_shared], NOW);
    assert_eq!(verify(&fooled, &parts, BODY), Ok(()));
}

#[test]
fn one_good_signature_among_others_suffices() {
    let strangers = [
        (r#"x=("@method");created=1"#, "x=:AAAA:"),
        (r#"x=("signature";key="a");created=1;keyid="y""#, "x=:AAAA:"),
        (
            r#"x=("@method" "@authority" "@path" "content-digest");created=1700000000;keyid="k""#,
            "x=:AAAA:",
        ),
        // Stale, and not signed.
        (
            r#"x=("@method" "@authority" "@path" "content-digest");created=1600000000;keyid="k""#,
            "x=:AAAA:",
        ),
        (
            r#"x=("@method" "@authority" "@path" "content-digest" "x-none");created=1;keyid="k""#,
            "x=:AAAA:",
        ),
        ("x=()", "x=\"\""),
    ];
    for (input, signature) in strangers {
        let mut behind = by_hand(PARAMETERS);
        add(&mut behind, "signature-input", input);
        add(&mut behind, "signature", signature);
        let mut before = request("/hook");
        set(&mut before, "content-digest", &sha_256(BODY));
        set(&mut before, "signature-input", input);
        set(&mut before, "signature", signature);
        add_by_hand(&mut before, "a", PARAMETERS);
        for parts in [behind, before] {
            assert_eq!(verify(&verifier(), &parts, BODY), Ok(()), "{input}");
            let verified = verifier().verify(&parts, None, BODY).unwrap();
            assert_eq!(verified.timestamp(), Some(NOW));
            let alone = verifier().verify(&by_hand(PARAMETERS), None, BODY).unwrap();
            assert_eq!(verified.replay_key(), alone.replay_key());
            let answer = verify(&verifier(), &parts, b"{}");
            assert_eq!(answer, Err(Reason::Digest));
        }
    }
}

#[test]
fn a_stale_signature_does_not_pass_in_the_company_of_a_fresh_one() {
    // Both are ours; the body of the fresh one is signed by a key that we do not know.
    let mut parts = by_hand(r#";created=1600000000;keyid="k""#);
    add_by_hand(&mut parts, "b", r#";created=1700000000;keyid="unknown""#);
    assert_eq!(
        verify(&verifier(), &parts, BODY),
        Err(Reason::SignatureMismatch)
    );
}

#[test]
fn a_signature_counts_under_its_own_label_only() {
    let good = by_hand(PARAMETERS);
    for (name, from, to) in [
        ("signature", "a=:", "b=:"),
        ("signature-input", "a=(", "b=("),
    ] {
        let mut parts = good.clone();
        let moved = text(&parts, name).replace(from, to);
        set(&mut parts, name, &moved);
        let malformed = Err(Reason::Malformed(HeaderName::from_static("signature")));
        assert_eq!(verify(&verifier(), &parts, BODY), malformed);
    }
    // Renamed in both it is the same signature.
    let mut parts = good.clone();
    for (name, from) in [("signature", "a=:"), ("signature-input", "a=(")] {
        let moved = text(&parts, name).replace(from, &from.replace('a', "zz"));
        set(&mut parts, name, &moved);
    }
    assert_eq!(verify(&verifier(), &parts, BODY), Ok(()));
    // The signature of one label does not prove the input of another.
    let mut parts = good;
    let inputs = format!(
        "{}, b={COMPONENTS};created=1700000001;keyid=\"k\"",
        text(&parts, "signature-input")
    );
    let swapped = text(&parts, "signature").replace("a=:", "b=:");
    set(&mut parts, "signature-input", &inputs);
    set(&mut parts, "signature", &format!("a=:AAAA:, {swapped}"));
    let mismatch = Err(Reason::SignatureMismatch);
    assert_eq!(verify(&verifier(), &parts, BODY), mismatch);
}

#[test]
fn a_tag_keeps_signatures_of_other_applications_out() {
    let scheme = policy().tag("hook").build().unwrap();
    let verifier = verifier_at(&scheme, &[&secret()], NOW);
    let tagged = |tag: &str| by_hand(&format!("{PARAMETERS}{tag}"));
    assert_eq!(verify(&verifier, &tagged(";tag=\"hook\""), BODY), Ok(()));
    for tag in ["", ";tag=\"Hook\"", ";tag=\"other\""] {
        let answer = verify(&verifier, &tagged(tag), BODY);
        assert_eq!(answer, Err(Reason::FieldMissing("tag".into())));
    }
    let mut parts = request("/hook");
    let signer = Signer::new(scheme, secret());
    let headers = signer.sign_request(&parts, None, AT, BODY).unwrap();
    parts.headers.extend(headers);
    assert_eq!(verify(&verifier, &parts, BODY), Ok(()));
    for bad in ["", "a\nb", "é"] {
        let bad = policy().tag(bad).build();
        assert_eq!(bad.unwrap_err(), SchemeError::Tag);
    }
}

#[test]
fn an_unknown_key_id_is_refused_also_when_a_key_made_the_signature() {
    let parts = by_hand(";created=1700000000;keyid=\"old\"");
    let mismatch = Err(Reason::SignatureMismatch);
    assert_eq!(verify(&verifier(), &parts, BODY), mismatch);
    let old = Secret::new("old", KEY).unwrap();
    let both = verifier_at(&scheme(), &[&secret(), &old], NOW);
    let verified = both.verify(&parts, None, BODY).unwrap();
    assert_eq!(verified.key_id(), "old");
}

#[test]
fn a_rotated_key_signs_until_its_end() {
    let new = Secret::new("new", b"another secret, of 32 random bytes").unwrap();
    let keys = KeySet::new([secret()]).unwrap();
    keys.rotate(&new, AT).unwrap();
    let at = |now: u64| {
        let builder = Verifier::builder(scheme()).clock(ManualWallClock::new(now));
        builder.keys(keys.clone()).build().unwrap()
    };
    let old = signed("/hook");
    assert_eq!(verify(&at(NOW - 1), &old, BODY), Ok(()));
    let mismatch = Err(Reason::SignatureMismatch);
    assert_eq!(verify(&at(NOW), &old, BODY), mismatch);
    let mut parts = request("/hook");
    let signer = Signer::new(scheme(), new);
    let headers = signer.sign_request(&parts, None, AT, BODY).unwrap();
    parts.headers.extend(headers);
    assert_eq!(verify(&at(NOW), &parts, BODY), Ok(()));
}

#[test]
fn sixteen_signatures_are_tried_and_seventeen_refused() {
    let mut parts = request("/hook");
    set(&mut parts, "content-digest", &sha_256(BODY));
    for i in 0..15 {
        let input = format!("x{i}={COMPONENTS}{PARAMETERS}");
        add(&mut parts, "signature-input", &input);
        add(&mut parts, "signature", &format!("x{i}=:AAAA:"));
    }
    add_by_hand(&mut parts, "a", PARAMETERS);
    assert_eq!(verify(&verifier(), &parts, BODY), Ok(()));
    add_by_hand(&mut parts, "b", PARAMETERS);
    let many = Err(Reason::TooManySignatures);
    assert_eq!(verify(&verifier(), &parts, BODY), many);
}

/// Work is bounded by the bytes that came, whatever they are. The bound on time is far above
/// what it takes, and far below what anything quadratic would.
#[test]
fn long_headers_end_soon() {
    let fill = |unit: &str| unit.repeat(65_536 / unit.len());
    let names = |count: usize| -> String {
        let all = (0..count).map(|i| format!("\"@query-param\";name=\"p{i}\""));
        all.collect::<Vec<_>>().join(" ")
    };
    let query: String = (0..1000).map(|i| format!("p{i}={i}&")).collect();
    let sixteen: Vec<_> = (0..16)
        .map(|i| format!("s{i}=(\"@method\" {}){PARAMETERS}", names(63)))
        .collect();
    let signatures: Vec<_> = (0..16).map(|i| format!("s{i}=:AAAA:")).collect();
    for (input, signature) in [
        (fill("a=(),"), "a=:AAAA:".to_owned()),
        (format!("a=({}", fill("\"x\" ")), "a=:AAAA:".to_owned()),
        (format!("a=(){}", fill(";a=1")), "a=:AAAA:".to_owned()),
        (format!("a={}", fill("(")), "a=:AAAA:".to_owned()),
        (
            format!("a=();keyid=\"{}", fill("\\\"")),
            "a=:AAAA:".to_owned(),
        ),
        (fill(" "), fill(" ")),
        (fill("a"), fill(":")),
        (format!("a=(){}", PARAMETERS), format!("a=:{}:", fill("A"))),
        (sixteen.join(", "), signatures.join(", ")),
    ] {
        let mut parts = request(&format!("/hook?{query}"));
        set(&mut parts, "content-digest", &sha_256(BODY));
        set(&mut parts, "signature-input", &input);
        set(&mut parts, "signature", &signature);
        let scheme = policy().insecure_any_components().build().unwrap();
        let lenient = verifier_at(&scheme, &[&secret()], NOW);
        let start = Instant::now();
        assert!(verify(&lenient, &parts, BODY).is_err());
        assert!(verify(&verifier(), &parts, BODY).is_err());
        let taken = start.elapsed();
        assert!(taken < Duration::from_secs(2), "{taken:?}");
    }
}

#[test]
fn a_nonce_is_taken_once_under_each_key() {
    let scheme = policy().nonce().build().unwrap();
    assert!(scheme.has_id());
    let builder = Verifier::builder(scheme.clone()).clock(ManualWallClock::new(NOW));
    let other = Secret::new("other", b"another secret, of 32 random bytes").unwrap();
    let builder = builder.secret(secret()).secret(other.clone());
    let builder = builder.replay(MemoryReplayStore::new(8));
    let verifier = builder.build().unwrap();
    let name = |key: &Secret, id: &str, at: u64, body: &[u8]| {
        let mut parts = request("/hook");
        let signer = Signer::new(scheme.clone(), key.clone());
        let at = Duration::from_secs(at);
        let headers = signer.sign_request(&parts, Some(id), at, body).unwrap();
        parts.headers.extend(headers);
        *verifier.verify(&parts, None, body).unwrap().replay_key()
    };
    let first = name(&secret(), "n1", NOW, BODY);
    // A retry is signed anew.
    assert_eq!(name(&secret(), "n1", NOW + 9, b"{}"), first);
    assert_ne!(name(&secret(), "n2", NOW, BODY), first);
    assert_ne!(name(&other, "n1", NOW, BODY), first);
    assert_eq!(
        verify(&verifier, &by_hand(PARAMETERS), BODY),
        Err(Reason::FieldMissing("nonce".into()))
    );
    let signer = Signer::new(scheme.clone(), secret());
    let without = signer.sign_request(&request("/hook"), None, AT, BODY);
    assert_eq!(without.unwrap_err(), SignError::Id);
}

#[test]
fn without_a_nonce_the_signed_bytes_name_the_delivery() {
    assert!(!scheme().has_id());
    let key = |parts: &Parts| *verifier().verify(parts, None, BODY).unwrap().replay_key();
    let first = key(&by_hand(PARAMETERS));
    assert_eq!(key(&by_hand(PARAMETERS)), first);
    let relabelled = {
        let mut parts = request("/hook");
        set(&mut parts, "content-digest", &sha_256(BODY));
        add_by_hand(&mut parts, "other", PARAMETERS);
        parts
    };
    assert_eq!(key(&relabelled), first);
    let white_space = {
        let mut parts = by_hand(PARAMETERS);
        let input = text(&parts, "signature-input").replace(';', ";  ");
        set(&mut parts, "signature-input", &input);
        parts
    };
    assert_eq!(key(&white_space), first);
    assert_ne!(key(&by_hand(";created=1700000001;keyid=\"k\"")), first);
}

#[test]
fn an_origin_that_is_none_is_refused() {
    for bad in [
        "hooks.example",
        "https://hooks.example/hook",
        "ftp://hooks.example",
        "",
    ] {
        let built = presets::http_message(bad).build();
        assert!(matches!(built, Err(SchemeError::Url(_))), "{bad}");
    }
    assert!(presets::http_message("http://[::1]:8080/").build().is_ok());
}

#[test]
fn rsa_keys_use_the_one_padding_that_is_chosen() {
    let v1_5 = policy().rsa_v1_5().build().unwrap();
    let parts = by_hand(&format!("{PARAMETERS};alg=\"rsa-v1_5-sha256\""));
    let verifier = verifier_at(&v1_5, &[&secret()], NOW);
    let mismatch = Err(Reason::SignatureMismatch);
    assert_eq!(verify(&verifier, &parts, BODY), mismatch);
    let parts = by_hand(&format!("{PARAMETERS};alg=\"rsa-pss-sha512\""));
    let malformed = Err(Reason::FieldMalformed("alg".into()));
    assert_eq!(verify(&verifier, &parts, BODY), malformed);
}

/// What a dictionary is made of, whole and in pieces.
fn scraps() -> impl Strategy<Value = String> {
    let scrap = prop::sample::select(vec![
        "a",
        "b=",
        "sig1=",
        "(",
        ")",
        "\"@method\"",
        "\"@path\"",
        "\"content-digest\"",
        " ",
        "\t",
        ";",
        ";created=1700000000",
        ";keyid=\"k\"",
        ";alg=\"ed25519\"",
        ";name=\"a\"",
        ",",
        ":",
        "AAAA",
        "=",
        "\"",
        "\\",
        "?1",
        "1.5",
        "-",
        "sha-256=",
        "*",
        "é",
        "@",
    ]);
    prop::collection::vec(scrap, 0..24).prop_map(|all| all.concat())
}

proptest! {
    #[test]
    fn whatever_the_headers_hold_is_judged(
        input in prop_oneof![scraps(), "\\PC{0,64}"],
        signature in prop_oneof![scraps(), "\\PC{0,64}"],
        digest in prop_oneof![scraps(), "\\PC{0,64}"],
        body in prop::collection::vec(any::<u8>(), 0..16),
    ) {
        let mut parts = request("/hook?a=1");
        for (name, value) in [
            ("signature-input", &input),
            ("signature", &signature),
            ("content-digest", &digest),
        ] {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                parts.headers.insert(name, value);
            }
        }
        prop_assert!(verify(&verifier(), &parts, &body).is_err());
        let scheme = policy().insecure_any_components().build().unwrap();
        let lenient = verifier_at(&scheme, &[&secret()], NOW);
        prop_assert!(verify(&lenient, &parts, &body).is_err());
    }

    #[test]
    fn what_is_signed_is_accepted_and_with_one_bit_changed_refused(
        target in "/[a-z0-9%+.~/-]{0,12}(\\?[a-z0-9%+.~&=-]{0,12})?",
        value in "[ -~]{0,12}",
        id in "[ -~]{1,16}",
        body in prop::collection::vec(any::<u8>(), 0..32),
        bit in any::<prop::sample::Index>(),
    ) {
        let x_name = HeaderName::from_static("x-name");
        let scheme = policy().require(x_name).nonce().tag("t").build().unwrap();
        let mut parts = request(&target);
        set(&mut parts, "x-name", &value);
        let signer = Signer::new(scheme.clone(), secret());
        let headers = signer.sign_request(&parts, Some(&id), AT, &body).unwrap();
        parts.headers.extend(headers);
        let verifier = verifier_at(&scheme, &[&secret()], NOW);
        prop_assert_eq!(verify(&verifier, &parts, &body), Ok(()));

        if !body.is_empty() {
            let mut other = body.clone();
            flip(&mut other, bit);
            prop_assert_eq!(verify(&verifier, &parts, &other), Err(Reason::Digest));
        }
        for name in ["signature-input", "signature", "content-digest"] {
            let mut bytes = parts.headers[name].as_bytes().to_vec();
            flip(&mut bytes, bit);
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut parts = parts.clone();
                parts.headers.insert(name, value);
                prop_assert!(verify(&verifier, &parts, &body).is_err(), "{} {:?}", name, bytes);
            }
        }
    }
}

fn flip(bytes: &mut [u8], bit: prop::sample::Index) {
    let at = bit.index(bytes.len() * 8);
    bytes[at / 8] ^= 1 << (at % 8);
}

#[test]
fn headers_that_a_signer_adds_replace_those_that_were_there() {
    let mut parts = request("/hook");
    set(&mut parts, "content-digest", &sha_256(b"other"));
    set(&mut parts, "signature", "old=:AAAA:");
    let signer = Signer::new(scheme(), secret());
    let headers: HeaderMap = signer.sign_request(&parts, None, AT, BODY).unwrap();
    assert_eq!(headers.len(), 3);
    parts.headers.extend(headers);
    assert_eq!(verify(&verifier(), &parts, BODY), Ok(()));
}
