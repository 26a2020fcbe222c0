//! Behaviour of the pipeline over whole bodies and chunks.

use std::{net::IpAddr, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Request, request::Parts};
use proptest::prelude::*;
use webhook_verify::{
    BuildError, Builder, FieldType, HeaderPolicy, IpRules, PayloadPolicy, Reason, Scheme, Secret,
    SecretError, Signer, Step, Verifier, clock::ManualWallClock, presets,
    replay::MemoryReplayStore,
};

const NOW: u64 = 1_700_000_000;
const BODY: &[u8] = br#"{"tran_ref":"TST1"}"#;

fn secret(id: &str) -> Secret {
    Secret::new(id, format!("key of {id}")).unwrap()
}

fn builder(scheme: Scheme) -> Builder {
    Verifier::builder(scheme).clock(ManualWallClock::new(NOW))
}

fn post(headers: HeaderMap) -> Parts {
    let mut parts = Request::post("/hook").body(()).unwrap().into_parts().0;
    parts.headers = headers;
    parts
}

fn signed(scheme: Scheme, id: &str, at: u64, body: &[u8]) -> Parts {
    let signer = Signer::new(scheme, secret(id));
    post(
        signer
            .sign_with_id("msg_1", Duration::from_secs(at), body)
            .unwrap(),
    )
}

/// All schemes that put an HMAC of any body into headers.
fn schemes() -> Vec<Scheme> {
    let square = presets::square("https://example.com/hook");
    let all = presets::names().filter_map(presets::by_name);
    let signs = |scheme: &Scheme| {
        let signer = Signer::new(scheme.clone(), secret("k1"));
        let signed = signer.sign_with_id("msg_1", Duration::from_secs(NOW), BODY);
        signed.is_ok()
    };
    all.chain([square]).filter(signs).collect()
}

/// How many the properties draw from.
const SCHEMES: usize = 17;

#[test]
fn there_are_as_many_schemes_as_the_properties_draw_from() {
    assert_eq!(schemes().len(), SCHEMES);
}

#[test]
fn each_scheme_accepts_what_its_signer_signs() {
    for scheme in schemes() {
        let verifier = builder(scheme.clone())
            .secret(secret("k1"))
            .build()
            .unwrap();
        let parts = signed(scheme, "k1", NOW, BODY);
        assert_eq!(verifier.verify(&parts, None, BODY).unwrap().key_id(), "k1");
        let mut session = verifier.begin(&parts, None).unwrap();
        BODY.chunks(3)
            .for_each(|chunk| session.update(chunk).unwrap());
        assert_eq!(session.finish().unwrap().key_id(), "k1");
    }
}

/// The example of the Standard Webhooks specification and its libraries.
#[test]
fn the_published_standard_webhooks_vector_is_accepted() {
    let secret = Secret::whsec("spec", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let verifier = Verifier::builder(presets::standard_webhooks())
        .clock(ManualWallClock::new(1_614_265_330))
        .secret(secret)
        .build()
        .unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(
        "webhook-id",
        HeaderValue::from_static("msg_p5jXN8AQM9LWM0D4loKWxJek"),
    );
    headers.insert("webhook-timestamp", HeaderValue::from_static("1614265330"));
    let good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    headers.insert("webhook-signature", HeaderValue::from_static(good));
    let body = br#"{"test": 2432232314}"#;
    assert!(verifier.verify(&post(headers.clone()), None, body).is_ok());

    let bad = format!("v1,{}= v1a,xx v1,??", "A".repeat(43));
    headers.insert(
        "webhook-signature",
        format!("{bad} {good}").parse().unwrap(),
    );
    assert!(
        verifier.verify(&post(headers.clone()), None, body).is_ok(),
        "good one among others"
    );
    headers.insert(
        "webhook-signature",
        format!("{}{good}", format!("{good} ").repeat(16))
            .parse()
            .unwrap(),
    );
    let error = verifier
        .verify(&post(headers.clone()), None, body)
        .unwrap_err();
    assert_eq!(error.reason(), &Reason::TooManySignatures);

    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert("webhook-signature", HeaderValue::from_static(good));
        let mut mixed = headers.clone();
        let value = mixed.remove(name).unwrap();
        mixed.insert(
            HeaderName::try_from(name.replace("webhook", "svix")).unwrap(),
            value,
        );
        let error = verifier.verify(&post(mixed), None, body).unwrap_err();
        assert_eq!(
            error.reason(),
            &Reason::Missing(HeaderName::from_static(name))
        );
    }
}

#[test]
fn a_content_type_is_compared_whole_and_without_regard_to_case() {
    let policy = HeaderPolicy::new().content_type("application/json");
    let verifier = builder(presets::timestamped()).secret(secret("k1"));
    let verifier = verifier.headers(policy).build().unwrap();
    let verdict = |text: &str| {
        let mut parts = signed(presets::timestamped(), "k1", NOW, BODY);
        parts.headers.insert("content-type", text.parse().unwrap());
        let error = verifier.verify(&parts, None, BODY).err()?;
        Some(error.reason().clone())
    };
    for text in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
    ] {
        assert_eq!(verdict(text), None, "{text}");
    }
    for text in ["application/jsonp", "application", "text/json", ""] {
        assert_eq!(verdict(text), Some(Reason::ContentType), "{text}");
    }
}

fn strict(order: [Step; 5]) -> Verifier {
    builder(presets::timestamped())
        .secret(secret("k1"))
        .source(IpRules::allow(["192.0.2.1"]).unwrap())
        .headers(HeaderPolicy::new().content_type("application/json"))
        .payload(PayloadPolicy::json().require("tran_ref", FieldType::String))
        .order(order)
        .build()
        .unwrap()
}

/// Breaks the given steps of an otherwise correct delivery and gives the error's trace.
fn refused(order: [Step; 5], broken: &[Step]) -> (Step, Vec<Step>, u16) {
    let has = |step| broken.contains(&step);
    let body: &[u8] = if has(Step::Payload) {
        b"not json"
    } else {
        BODY
    };
    let at = if has(Step::Timestamp) { NOW - 301 } else { NOW };
    let key = if has(Step::Signature) { "other" } else { "k1" };
    let mut parts = signed(presets::timestamped(), key, at, body);
    let kind = if has(Step::Header) {
        "text/plain"
    } else {
        "application/json; charset=utf-8"
    };
    parts
        .headers
        .insert("content-type", HeaderValue::from_static(kind));
    let peer: IpAddr = if has(Step::Source) {
        "192.0.2.2"
    } else {
        "192.0.2.1"
    }
    .parse()
    .unwrap();
    let verifier = strict(order);
    let error = verifier.verify(&parts, Some(peer), body).unwrap_err();
    let streamed = verifier.begin(&parts, Some(peer)).and_then(|mut session| {
        session.update(body)?;
        session.finish()
    });
    assert_eq!(streamed.unwrap_err(), error, "streaming says the same");
    (
        error.step(),
        error.trace().iter().collect(),
        error.status().as_u16(),
    )
}

#[test]
fn the_first_broken_step_is_reported_and_later_ones_do_not_run() {
    // D.c1, D.c9
    use Step::{Header, Payload, Signature, Source, Timestamp};
    for order in [
        Step::SIGNATURE_FIRST,
        Step::CHEAP_FIRST,
        [Signature, Source, Timestamp, Header, Payload],
        [Payload, Header, Timestamp, Source, Signature],
    ] {
        for k in 0..5 {
            let (step, ran, status) = refused(order, &order[k..]);
            assert_eq!(step, order[k]);
            assert_eq!(ran, order[..=k], "steps that ran");
            let expected = match step {
                Signature | Timestamp => 401,
                Source => 403,
                Header => 400,
                _ => 422,
            };
            assert_eq!(status, expected);
        }
    }
}

#[test]
fn the_window_is_inclusive_on_both_sides() {
    // D.c3, first half
    let clock = ManualWallClock::new(NOW);
    let verifier = Verifier::builder(presets::timestamped())
        .clock(clock.clone())
        .secret(secret("k1"))
        .build()
        .unwrap();
    let parts = signed(presets::timestamped(), "k1", NOW, BODY);
    for (now, passes) in [
        (NOW + 300, true),
        (NOW + 301, false),
        (NOW - 60, true),
        (NOW - 61, false),
    ] {
        clock.set(Duration::from_secs(now));
        let answer = verifier.verify(&parts, None, BODY);
        assert_eq!(answer.is_ok(), passes, "{now}");
        if let Err(error) = answer {
            assert_eq!(
                (error.step(), error.status().as_u16()),
                (Step::Timestamp, 401)
            );
            assert_eq!(error.to_string(), "webhook refused");
        }
    }
}

#[test]
fn missing_and_repeated_headers_are_told_apart() {
    for name in ["x-webhook-signature", "x-webhook-timestamp"] {
        let verifier = builder(presets::timestamped())
            .secret(secret("k1"))
            .order(Step::SIGNATURE_FIRST)
            .build()
            .unwrap();
        let field = HeaderName::from_static(name);
        let mut parts = signed(presets::timestamped(), "k1", NOW, BODY);
        let value = parts.headers.remove(name).unwrap();
        assert_eq!(
            verifier.verify(&parts, None, BODY).unwrap_err().reason(),
            &Reason::Missing(field.clone())
        );
        parts.headers.append(name, value.clone());
        parts.headers.append(name, value);
        assert_eq!(
            verifier.verify(&parts, None, BODY).unwrap_err().reason(),
            &Reason::Malformed(field)
        );
    }
}

#[test]
fn a_forwarded_address_from_an_unlisted_peer_is_not_believed() {
    // D.c4
    let verifier = strict(Step::CHEAP_FIRST);
    let mut parts = signed(presets::timestamped(), "k1", NOW, BODY);
    parts
        .headers
        .insert("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
    let error = verifier
        .verify(&parts, "198.51.100.9".parse().ok(), BODY)
        .unwrap_err();
    assert_eq!((error.step(), error.status().as_u16()), (Step::Source, 403));
    assert_eq!(
        verifier.verify(&parts, None, BODY).unwrap_err().reason(),
        &Reason::SourceUnknown
    );
}

#[test]
fn rotation_needs_no_restart() {
    // D.c5
    let clock = ManualWallClock::new(NOW);
    let verifier = Verifier::builder(presets::paytabs_callback())
        .clock(clock.clone())
        .secret(secret("old"))
        .build()
        .unwrap();
    let by = |id| {
        verifier.verify(
            &signed(presets::paytabs_callback(), id, NOW, BODY),
            None,
            BODY,
        )
    };
    verifier
        .keys()
        .rotate(&secret("new"), Duration::from_secs(NOW + 10))
        .unwrap();
    assert_eq!(by("old").unwrap().key_id(), "old");
    assert_eq!(by("new").unwrap().key_id(), "new");
    clock.advance(Duration::from_secs(10));
    assert_eq!(by("old").unwrap_err().reason(), &Reason::SignatureMismatch);
    assert!(by("new").is_ok());
    assert!(verifier.keys().remove("old") && !verifier.keys().remove("old"));
    assert!(by("new").is_ok());
    verifier.keys().remove("new");
    assert_eq!(by("new").unwrap_err().reason(), &Reason::NoActiveKey);
}

#[test]
fn a_body_above_the_limit_is_refused_before_any_hashing() {
    // D.c6
    let verifier = builder(presets::paytabs_callback())
        .secret(secret("k1"))
        .body_limit(8)
        .build()
        .unwrap();
    let parts = signed(presets::paytabs_callback(), "k1", NOW, b"123456789");
    let error = verifier.verify(&parts, None, b"123456789").unwrap_err();
    assert_eq!(
        (error.step(), error.status().as_u16()),
        (Step::BodyLimit, 413)
    );
    assert!(!error.trace().contains(Step::Signature));
    let mut session = verifier.begin(&parts, None).unwrap();
    session.update(b"12345678").unwrap();
    assert_eq!(session.update(b"9").unwrap_err().step(), Step::BodyLimit);
    let mut claimed = parts;
    claimed
        .headers
        .insert("content-length", HeaderValue::from_static("70368744177664"));
    assert_eq!(
        verifier.begin(&claimed, None).unwrap_err().step(),
        Step::BodyLimit
    );
}

#[test]
fn a_refused_chunk_is_not_forgotten_by_finish() {
    let verifier = builder(presets::paytabs_callback())
        .secret(secret("k1"))
        .body_limit(BODY.len())
        .build()
        .unwrap();
    let parts = signed(presets::paytabs_callback(), "k1", NOW, BODY);
    let mut session = verifier.begin(&parts, None).unwrap();
    session.update(BODY).unwrap();
    assert!(session.update(b"not hashed").is_err());
    assert_eq!(session.finish().unwrap_err().step(), Step::BodyLimit);
}

#[test]
fn a_content_length_that_is_no_number_or_hides_behind_another_is_too_large() {
    let verifier = builder(presets::paytabs_callback())
        .secret(secret("k1"))
        .body_limit(64)
        .build()
        .unwrap();
    for (values, passes) in [
        (&["64"][..], true),
        (&["1", "64"], true),
        (&["65"], false),
        (&["1", "65"], false),
        (&["+1"], false),
        (&["-1"], false),
        (&[""], false),
        (&["1, 1"], false),
        (&["99999999999999999999999"], false),
    ] {
        let mut parts = signed(presets::paytabs_callback(), "k1", NOW, BODY);
        for value in values {
            let value = HeaderValue::from_static(value);
            parts.headers.append("content-length", value);
        }
        let begun = verifier.begin(&parts, None);
        assert_eq!(begun.is_ok(), passes, "{values:?}");
        if let Err(error) = begun {
            assert_eq!(error.step(), Step::BodyLimit);
        }
    }
}

#[test]
fn without_an_active_key_the_answer_comes_before_the_body() {
    let verifier = builder(presets::timestamped())
        .secret_until(secret("k1"), Duration::from_secs(NOW))
        .build()
        .unwrap();
    let parts = signed(presets::timestamped(), "k1", NOW, BODY);
    let early = verifier.begin(&parts, None).unwrap_err();
    assert_eq!(early.reason(), &Reason::NoActiveKey);
    assert_eq!(early, verifier.verify(&parts, None, BODY).unwrap_err());
}

#[test]
fn a_replay_memory_of_no_time_is_refused() {
    let build = |b: Builder| b.secret(secret("k")).build().unwrap_err();
    assert_eq!(
        build(builder(presets::paytabs_callback()).replay_lifetime(Duration::ZERO)),
        BuildError::ReplayZero("lifetime")
    );
    assert_eq!(
        build(builder(presets::timestamped()).replay_lease(Duration::ZERO)),
        BuildError::ReplayZero("lease")
    );
}

#[test]
fn unusable_keys_and_settings_are_refused() {
    assert_eq!(Secret::new("k", "").unwrap_err(), SecretError::Empty);
    for padded in ["key\n", " key", "\tkey"] {
        assert_eq!(
            Secret::new("k", padded).unwrap_err(),
            SecretError::WhiteSpace
        );
    }
    assert_eq!(Secret::whsec("k", "MfKQ").unwrap_err(), SecretError::Prefix);
    assert_eq!(
        Secret::whsec("k", "whsec_").unwrap_err(),
        SecretError::Empty
    );
    assert_eq!(
        Secret::whsec("k", "whsec_a").unwrap_err(),
        SecretError::Base64
    );
    assert!(!format!("{:?}", secret("k1")).contains("key of"));
    let build = |b: Builder| b.build().unwrap_err();
    assert_eq!(build(builder(presets::timestamped())), BuildError::NoKey);
    let twice = [
        Step::Source,
        Step::Source,
        Step::Timestamp,
        Step::Signature,
        Step::Payload,
    ];
    assert_eq!(
        build(
            builder(presets::timestamped())
                .secret(secret("k"))
                .order(twice)
        ),
        BuildError::Order(Step::Header)
    );
    let short = builder(presets::timestamped())
        .secret(secret("k"))
        .replay_lifetime(Duration::from_secs(359));
    assert!(matches!(build(short), BuildError::ReplayLifetime { .. }));
    let minute = Duration::from_secs(60);
    let untimed = builder(presets::github()).secret(secret("k"));
    let error = build(untimed.tolerance(minute, minute));
    assert_eq!(error, BuildError::Tolerance("github"));
    assert_eq!(
        error.to_string(),
        "scheme `github` has no signed timestamp, so a tolerance would check nothing"
    );
}

/// The last second in which a delivery passes its time is one in which the store still knows
/// it; and a body that takes until after that second takes too long.
#[tokio::test]
async fn no_replay_passes_at_the_end_of_the_window() {
    let seconds = Duration::from_secs;
    let clock = ManualWallClock::new(NOW - 60);
    let verifier = Verifier::builder(presets::timestamped())
        .clock(clock.clone())
        .secret(secret("k1"))
        .tolerance(seconds(300), seconds(60))
        .replay(MemoryReplayStore::new(8))
        .build()
        .unwrap();
    let parts = signed(presets::timestamped(), "k1", NOW, BODY);
    let verified = verifier.verify(&parts, None, BODY).unwrap();
    let first = verifier.reserve(&verified).await.unwrap().unwrap();
    first.commit().await.unwrap();
    clock.set(seconds(NOW + 300) + Duration::from_millis(999));
    let copy = verifier.verify(&parts, None, BODY).unwrap();
    let error = verifier.reserve(&copy).await.unwrap_err();
    assert_eq!(*error.reason(), Reason::Duplicate);

    let mut session = verifier.begin(&parts, None).unwrap();
    clock.set(seconds(NOW + 305));
    session.update(BODY).unwrap();
    let late = session.finish().unwrap();
    for verified in [&late, &verified] {
        let error = verifier.reserve(verified).await.unwrap_err();
        assert_eq!(error.step(), Step::Timestamp);
        assert_eq!(*error.reason(), Reason::TooOld { by_seconds: 5 });
    }
}

proptest! {
    #[test]
    fn one_flipped_bit_anywhere_is_refused(bit in 0usize..8, at in 0usize..1000, which in 0usize..3, scheme in 0..SCHEMES) {
        // D.c2
        let scheme = schemes()[scheme].clone();
        let verifier = builder(scheme.clone()).secret(secret("k1")).build().unwrap();
        let mut parts = signed(scheme.clone(), "k1", NOW, BODY);
        let mut body = BODY.to_vec();
        let names: Vec<_> = scheme.headers().cloned().collect();
        if which == 0 {
            let at = at % body.len();
            body[at] ^= 1 << bit;
        } else {
            let name = &names[at % names.len()];
            let mut value = parts.headers[name].as_bytes().to_vec();
            let at = (at / names.len()) % value.len();
            value[at] ^= 1 << bit;
            // A byte that no header may hold never arrives.
            let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
            parts.headers.insert(name, value);
        }
        let error = verifier.verify(&parts, None, &body).unwrap_err();
        prop_assert_eq!(error.status().as_u16(), 401);
    }

    #[test]
    fn arbitrary_bytes_neither_panic_nor_pass(
        values in prop::collection::vec((0usize..10, prop::collection::vec(any::<u8>(), 0..80)), 0..8),
        body in prop::collection::vec(any::<u8>(), 0..200),
        scheme in 0..SCHEMES,
    ) {
        // D.c7
        let names = ["signature", "webhook-id", "webhook-timestamp", "webhook-signature",
            "x-webhook-signature", "x-webhook-timestamp", "x-forwarded-for", "content-length",
            "stripe-signature", "paddle-signature"];
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(names[name], value);
            }
        }
        let verifier = builder(schemes()[scheme].clone())
            .secret(secret("k1"))
            .source(IpRules::allow(["0.0.0.0/0"]).unwrap().trust_proxies(["10.0.0.0/8"]).unwrap())
            .payload(PayloadPolicy::json())
            .order([Step::Payload, Step::Source, Step::Header, Step::Signature, Step::Timestamp])
            .build().unwrap();
        prop_assert!(verifier.verify(&post(headers), "10.0.0.1".parse().ok(), &body).is_err());
    }
}
