//! Schemes of one's own: what they sign, and that it is all protected.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, Method, Request, request::Parts};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
#[cfg(feature = "ed25519")]
use webhook_verify::{BuildError, KeySet};
use webhook_verify::{
    Encoding, Hash, Part, Reason, Scheme, Secret, SignError, Signer, TimeUnit, Verifier,
    clock::ManualWallClock, presets, replay::MemoryReplayStore,
};

const NOW: u64 = 1_700_000_000;
const BODY: &[u8] = br#"{"id":1}"#;

fn secret() -> Secret {
    Secret::new("k", "key").unwrap()
}

fn verifier(scheme: &Scheme, now: Duration) -> Verifier {
    let clock = ManualWallClock::new(0);
    clock.set(now);
    let builder = Verifier::builder(scheme.clone()).clock(clock);
    builder.methods([]).secret(secret()).build().unwrap()
}

fn request(uri: &str) -> Parts {
    let request = Request::post(uri).header("x-shop", "one.example");
    request.body(()).unwrap().into_parts().0
}

fn hmac<M: Mac + KeyInit>(text: &[u8]) -> String {
    let mac = <M as KeyInit>::new_from_slice(b"key").unwrap();
    let bytes = mac.chain_update(text).finalize().into_bytes();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Method, URL, body and a time in milliseconds after the body, in base64: the form of
/// HubSpot's third version.
fn request_scheme() -> Scheme {
    Scheme::custom("request")
        .signature_header("x-signature")
        .encoding(Encoding::Base64)
        .timestamp_header("x-time")
        .timestamp_unit(TimeUnit::Milliseconds)
        .signs([
            Part::Method,
            Part::literal("https://hooks.example"),
            Part::Target,
            Part::Header(HeaderName::from_static("x-shop")),
            Part::Body,
            Part::Timestamp,
        ])
        .build()
        .unwrap()
}

#[test]
fn every_part_of_the_request_that_is_signed_is_protected() {
    let scheme = request_scheme();
    let at = Duration::from_millis(1_700_000_000_123);
    let mut good = request("/hook?a=1");
    let signer = Signer::new(scheme.clone(), secret());
    let headers = signer.sign_request(&good, None, at, BODY).unwrap();
    good.headers.extend(headers);
    let text = b"POSThttps://hooks.example/hook?a=1one.example{\"id\":1}1700000000123";
    let mac = Hmac::<Sha256>::new_from_slice(b"key").unwrap();
    let mac = mac.chain_update(text).finalize().into_bytes();
    assert_eq!(good.headers["x-signature"], STANDARD.encode(mac));
    assert_eq!(good.headers["x-time"], "1700000000123");

    let verifier = verifier(&scheme, at);
    let verified = verifier.verify(&good, None, BODY).unwrap();
    assert_eq!(verified.timestamp(), Some(NOW));
    let mut session = verifier.begin(&good, None).unwrap();
    BODY.chunks(2)
        .for_each(|chunk| session.update(chunk).unwrap());
    assert_eq!(
        session.finish().unwrap().replay_key(),
        verified.replay_key()
    );

    let changes: [fn(&mut Parts); 5] = [
        |parts| parts.method = Method::PUT,
        |parts| parts.uri = "/hook?a=2".parse().unwrap(),
        |parts| parts.uri = "/hook".parse().unwrap(),
        |parts| {
            drop(
                parts
                    .headers
                    .insert("x-shop", "two.example".parse().unwrap()),
            )
        },
        |parts| {
            drop(
                parts
                    .headers
                    .insert("x-time", "1700000000124".parse().unwrap()),
            )
        },
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut parts = good.clone();
        change(&mut parts);
        let error = verifier.verify(&parts, None, BODY).unwrap_err();
        assert_eq!(error.reason(), &Reason::SignatureMismatch, "change {i}");
    }
    let shop = HeaderName::from_static("x-shop");
    let mut parts = good.clone();
    parts
        .headers
        .append("x-shop", "one.example".parse().unwrap());
    let twice = verifier.verify(&parts, None, BODY).unwrap_err();
    assert_eq!(twice.reason(), &Reason::Malformed(shop.clone()));
    parts.headers.remove("x-shop");
    let none = verifier.verify(&parts, None, BODY).unwrap_err();
    assert_eq!(none.reason(), &Reason::Missing(shop.clone()));

    assert_eq!(signer.sign_at(at, BODY).unwrap_err(), SignError::Request);
    let absent = signer.sign_request(&parts, None, at, BODY);
    assert_eq!(absent.unwrap_err(), SignError::Header(shop));
}

#[test]
fn milliseconds_are_judged_to_the_millisecond() {
    let scheme = request_scheme();
    let at = Duration::from_millis(1_700_000_000_123);
    let mut parts = request("/");
    let signer = Signer::new(scheme.clone(), secret());
    let headers = signer.sign_request(&parts, None, at, BODY).unwrap();
    parts.headers.extend(headers);
    let span = Duration::from_secs(300);
    let milli = Duration::from_millis(1);
    let too_old = Err(Reason::TooOld { by_seconds: 1 });
    let too_new = Err(Reason::TooNew { by_seconds: 1 });
    for (now, expected) in [
        (at + span, Ok(())),
        (at + span + milli, too_old),
        (at - span, Ok(())),
        (at - span - milli, too_new),
    ] {
        let answer = verifier(&scheme, now).verify(&parts, None, BODY).map(drop);
        assert_eq!(answer.map_err(|error| error.reason().clone()), expected);
    }
    let late = signer.sign_request(
        &request("/"),
        None,
        Duration::from_secs(1_000_000_000_000),
        BODY,
    );
    assert_eq!(late.unwrap_err(), SignError::Time);
}

/// Without fixed digits the same signature would fit another border, as the first half shows.
#[test]
fn a_time_of_fixed_digits_keeps_its_border_to_the_body() {
    let scheme = |digits: Option<usize>| {
        let scheme = Scheme::custom("close")
            .signature_header("x-signature")
            .timestamp_header("x-time")
            .signs([Part::Timestamp, Part::Body]);
        let scheme = digits
            .into_iter()
            .fold(scheme, |s, d| s.timestamp_digits(d));
        let for_ever = Duration::from_secs(1 << 40);
        scheme.tolerance(for_ever, for_ever).build().unwrap()
    };
    let now = Duration::from_secs(NOW);
    for (digits, moves) in [(None, true), (Some(10), false)] {
        let signer = Signer::new(scheme(digits), secret());
        let mut parts = request("/");
        parts.headers = signer.sign_at(now, b"12").unwrap();
        let verifier = verifier(&scheme(digits), now);
        verifier.verify(&parts, None, b"12").unwrap();
        for (time, body) in [("17000000001", &b"2"[..]), ("170000000", b"012")] {
            parts.headers.insert("x-time", time.parse().unwrap());
            let answer = verifier.verify(&parts, None, body);
            assert_eq!(answer.is_ok(), moves, "{digits:?} {time}");
        }
        let early = signer.sign_at(Duration::from_secs(1), b"12");
        assert_eq!(early.is_ok(), moves);
    }
    let early = Signer::new(scheme(Some(10)), secret()).sign_at(Duration::from_secs(1), b"");
    assert_eq!(early.unwrap_err(), SignError::Time);
}

#[test]
fn each_hash_makes_its_own_length_and_takes_no_other() {
    let of = |hash| {
        let scheme = Scheme::custom("hash").signature_header("x-signature");
        scheme.hmac(hash, "h=").build().unwrap()
    };
    let texts = [
        (Hash::Sha1, hmac::<Hmac<Sha1>>(BODY)),
        (Hash::Sha256, hmac::<Hmac<Sha256>>(BODY)),
        (Hash::Sha512, hmac::<Hmac<Sha512>>(BODY)),
    ];
    for (hash, _) in &texts {
        let scheme = of(*hash);
        let verifier = verifier(&scheme, Duration::ZERO);
        for (other, text) in &texts {
            let mut parts = request("/");
            parts
                .headers
                .insert("x-signature", format!("h={text}").parse().unwrap());
            let answer = verifier.verify(&parts, None, BODY);
            assert_eq!(answer.is_ok(), hash == other, "{hash:?} {other:?}");
            // A tag that is cut short proves less than it should.
            let cut = &text[..text.len() - 2];
            parts
                .headers
                .insert("x-signature", format!("h={cut}").parse().unwrap());
            assert!(verifier.verify(&parts, None, BODY).is_err());
        }
        let signed = Signer::new(scheme, secret()).sign(BODY).unwrap();
        let text = texts.iter().find(|(other, _)| other == hash).unwrap();
        assert_eq!(signed["x-signature"], format!("h={}", text.1));
    }
}

#[test]
fn a_signature_cut_from_a_list_does_not_make_a_new_delivery() {
    let keys = ["new", "old"].map(|id| Secret::new(id, id).unwrap());
    for scheme in [presets::stripe(), presets::paddle()] {
        let at = Duration::from_secs(NOW);
        let header = scheme.headers().next().unwrap().clone();
        let [new, old] = keys.clone().map(|key| {
            let signed = Signer::new(scheme.clone(), key).sign_at(at, BODY).unwrap();
            signed[&header].to_str().unwrap().to_owned()
        });
        let separator = if new.contains(';') { ';' } else { ',' };
        let last = old.split(separator).next_back().unwrap();
        let both = format!("{new}{separator}{last}");
        let clock = ManualWallClock::new(NOW);
        let verifier = Verifier::builder(scheme).clock(clock);
        let verifier = verifier.replay(MemoryReplayStore::new(8));
        let [first, second] = keys.clone();
        let verifier = verifier.secret(first).secret(second).build().unwrap();
        let names: Vec<_> = [both, new, old]
            .into_iter()
            .map(|text| {
                let mut parts = request("/");
                parts.headers.insert(&header, text.parse().unwrap());
                let verified = verifier.verify(&parts, None, BODY).unwrap();
                let mut session = verifier.begin(&parts, None).unwrap();
                BODY.chunks(3)
                    .for_each(|chunk| session.update(chunk).unwrap());
                let streamed = session.finish().unwrap();
                assert_eq!(streamed.replay_key(), verified.replay_key());
                (*verified.replay_key(), verified.key_id().to_owned())
            })
            .collect();
        assert_eq!((names[0].1.as_str(), names[2].1.as_str()), ("new", "old"));
        assert!(names.iter().all(|(key, _)| *key == names[0].0));
    }
}

#[cfg(feature = "ed25519")]
#[test]
fn a_key_of_another_kind_is_refused_or_never_tried() {
    let public = Secret::ed25519_private("pair", &[7; 32]).unwrap();
    let refused = |scheme, key| Verifier::builder(scheme).secret(key).build().unwrap_err();
    assert_eq!(
        refused(presets::github(), public.clone()),
        BuildError::KeyKind("pair".into())
    );
    assert_eq!(
        refused(presets::discord(), secret()),
        BuildError::KeyKind("k".into())
    );

    let keys = KeySet::new([secret()]).unwrap();
    let verifier = Verifier::builder(presets::github())
        .keys(keys.clone())
        .build()
        .unwrap();
    let mut parts = request("/");
    parts
        .headers
        .extend(Signer::new(presets::github(), secret()).sign(BODY).unwrap());
    keys.replace([(public.clone(), None), (secret(), None)])
        .unwrap();
    assert_eq!(verifier.verify(&parts, None, BODY).unwrap().key_id(), "k");
    keys.replace([(public, None)]).unwrap();
    let error = verifier.verify(&parts, None, BODY).unwrap_err();
    assert_eq!(error.reason(), &Reason::NoActiveKey);
    assert_eq!(verifier.begin(&parts, None).unwrap_err(), error);
}

#[cfg(feature = "ed25519")]
#[test]
fn ed25519_is_verified_in_any_order_of_steps_and_after_other_candidates() {
    use webhook_verify::{PayloadPolicy, Step};
    let scheme = Scheme::custom("pair")
        .signature_header("x-signature")
        .list(',')
        .ed25519("ed25519=")
        .timestamp_in_signature("t=")
        .signs([Part::Body, Part::literal("."), Part::Timestamp])
        .build()
        .unwrap();
    let private = Secret::ed25519_private("pair", &[7; 32]).unwrap();
    let signer = Signer::new(scheme.clone(), private.clone());
    let at = Duration::from_secs(NOW);
    let other = signer.sign_at(at, b"{}").unwrap()["x-signature"].clone();
    let other = other
        .to_str()
        .unwrap()
        .split(',')
        .next_back()
        .unwrap()
        .to_owned();
    let good = signer.sign_at(at, BODY).unwrap()["x-signature"].clone();
    let good = good
        .to_str()
        .unwrap()
        .replacen("ed25519=", &format!("{other},ed25519="), 1);
    let mut parts = request("/");
    parts.headers.insert("x-signature", good.parse().unwrap());
    for order in [
        Step::CHEAP_FIRST,
        [
            Step::Payload,
            Step::Header,
            Step::Timestamp,
            Step::Source,
            Step::Signature,
        ],
    ] {
        let verifier = Verifier::builder(scheme.clone()).clock(ManualWallClock::new(NOW));
        let verifier = verifier
            .secret(private.clone())
            .payload(PayloadPolicy::json());
        let verifier = verifier.order(order).build().unwrap();
        let verified = verifier.verify(&parts, None, BODY).unwrap();
        let mut session = verifier.begin(&parts, None).unwrap();
        BODY.chunks(3)
            .for_each(|chunk| session.update(chunk).unwrap());
        assert_eq!(
            session.finish().unwrap().replay_key(),
            verified.replay_key()
        );
        let mut session = verifier.begin(&parts, None).unwrap();
        session.update(br#"{"id":2}"#).unwrap();
        let error = session.finish().unwrap_err();
        assert_eq!(error.reason(), &Reason::SignatureMismatch);
    }
}
