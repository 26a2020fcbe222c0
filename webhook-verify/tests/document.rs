//! Schemes that read the delivery, with what stands around the signature: replay, rotation,
//! limits and the other steps.

#![cfg(feature = "test-util")]

use std::time::Duration;

use http::{HeaderMap, Request, header::CONTENT_TYPE, request::Parts};
use webhook_verify::{
    FieldType, PayloadPolicy, Reason, Scheme, Secret, SignError, Signer, Step, Verifier,
    clock::ManualWallClock, presets, replay::MemoryReplayStore,
};

const NOW: Duration = Duration::from_secs(1_700_000_000);
const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef01";
const EVENT: &[u8] = br#"{"event-data":{"event":"opened"}}"#;
const FORM: &[u8] = b"tranRef=TST1&respStatus=A&cartId=7";

fn secret(id: &str) -> Secret {
    Secret::new(id, format!("key {id}")).unwrap()
}

/// With the signature in it.
fn signed(scheme: &Scheme, key: &str, at: Duration, body: &[u8]) -> (Parts, Vec<u8>) {
    let signer = Signer::new(scheme.clone(), secret(key));
    let signed = signer.sign_delivery(None, Some(TOKEN), at, body).unwrap();
    let (headers, body) = signed.into_parts();
    (parts(headers), body.unwrap())
}

fn parts(headers: HeaderMap) -> Parts {
    let mut parts = Request::post("/hook").body(()).unwrap().into_parts().0;
    parts.headers = headers;
    parts
}

fn builder(scheme: &Scheme) -> webhook_verify::Builder {
    let clock = ManualWallClock::new(NOW.as_secs());
    Verifier::builder(scheme.clone()).clock(clock)
}

#[tokio::test]
async fn a_delivery_that_is_signed_anew_by_another_key_is_a_duplicate() {
    for (scheme, body) in [
        (presets::paytabs_return(), FORM),
        (presets::mailgun(), EVENT),
    ] {
        let keys = builder(&scheme).secret(secret("new")).secret(secret("old"));
        let verifier = keys.replay(MemoryReplayStore::new(1000)).build().unwrap();
        let (parts, first) = signed(&scheme, "old", NOW, body);
        let verified = verifier.verify(&parts, None, &first).unwrap();
        let reservation = verifier.reserve(&verified).await.unwrap().unwrap();
        reservation.commit().await.unwrap();
        // Mailgun's token stays when it tries again, with another time.
        let (parts, again) = signed(&scheme, "new", NOW - Duration::from_secs(1), body);
        assert_ne!(first, again);
        let verified = verifier.verify(&parts, None, &again).unwrap();
        assert_eq!(verified.key_id(), "new");
        let refused = verifier.reserve(&verified).await.unwrap_err();
        assert_eq!(refused.reason(), &Reason::Duplicate, "{}", scheme.name());
    }
}

#[test]
fn a_key_that_is_removed_while_the_body_arrives_does_not_sign_any_more() {
    let scheme = presets::paytabs_return();
    let verifier = builder(&scheme).secret(secret("old")).build().unwrap();
    let (parts, body) = signed(&scheme, "old", NOW, FORM);
    let mut session = verifier.begin(&parts, None).unwrap();
    session.update(&body).unwrap();
    assert!(verifier.keys().rotate(&secret("new"), NOW).is_ok());
    let refused = session.finish().unwrap_err();
    assert_eq!(refused.reason(), &Reason::SignatureMismatch);
    let fresh = signed(&scheme, "new", NOW, FORM);
    let verified = verifier.verify(&fresh.0, None, &fresh.1).unwrap();
    assert_eq!(verified.key_id(), "new");
}

#[test]
fn the_payload_policy_judges_the_body_that_was_sent_after_the_signature() {
    let scheme = presets::mailgun();
    let policy = |field| PayloadPolicy::json().require(field, FieldType::String);
    let (parts, body) = signed(&scheme, "key", NOW, EVENT);
    let (_, forged) = signed(&scheme, "other", NOW, b"{}");
    for (field, result) in [
        ("event-data.event", Ok(())),
        ("signature.token", Ok(())),
        ("event-data.id", Err(Step::Payload)),
    ] {
        let settings = builder(&scheme)
            .secret(secret("key"))
            .payload(policy(field));
        let verifier = settings.build().unwrap();
        let judged = verifier.verify(&parts, None, &body);
        assert_eq!(judged.map(drop).map_err(|error| error.step()), result);
        let refused = verifier.verify(&parts, None, &forged).unwrap_err();
        assert_eq!(refused.step(), Step::Signature);
    }
}

#[test]
fn a_time_in_the_body_has_the_tolerance_of_the_builder() {
    let scheme = presets::mailgun();
    let seconds = Duration::from_secs;
    let settings = builder(&scheme).secret(secret("key"));
    let verifier = settings.tolerance(seconds(60), seconds(5)).build().unwrap();
    for (at, reason) in [
        (NOW - seconds(60), None),
        (NOW + seconds(5), None),
        (NOW - seconds(61), Some(Reason::TooOld { by_seconds: 1 })),
        (NOW + seconds(7), Some(Reason::TooNew { by_seconds: 2 })),
    ] {
        let (parts, body) = signed(&scheme, "key", at, EVENT);
        let judged = verifier.verify(&parts, None, &body);
        let refused = judged.as_ref().err().map(|error| error.reason().clone());
        assert_eq!(refused, reason);
        if let Ok(verified) = judged {
            assert_eq!(verified.timestamp(), Some(at.as_secs()));
        }
    }
}

#[test]
fn headers_alone_are_not_given_for_a_scheme_that_signs_in_the_body() {
    let signer = Signer::new(presets::paytabs_return(), secret("key"));
    assert_eq!(signer.sign(FORM).unwrap_err(), SignError::Body);
    let signed = signer.sign_delivery(None, None, NOW, FORM).unwrap();
    assert!(signed.headers().contains_key(CONTENT_TYPE));
    assert!(signed.body().unwrap().starts_with(FORM));
}
