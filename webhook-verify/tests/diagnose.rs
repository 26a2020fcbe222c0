//! Hints for deliveries that are refused.

#![cfg(feature = "test-util")]

use std::time::Duration;

use http::{HeaderMap, Request, request::Parts};
use webhook_verify::{
    KeyFormat, Scheme, Secret, Signer, Verifier,
    clock::ManualWallClock,
    diagnose::{BodyChange, Hint},
    presets,
};

const NOW: Duration = Duration::from_secs(1_700_000_000);
const BODY: &[u8] = b"{\"z\":\"\xc3\xa9/\",\"a\":[1]}";
const WHSEC: &str = "whsec_c2VjcmV0IG9mIDI0IGJ5dGVzLi4u";

fn parts(headers: HeaderMap) -> Parts {
    let mut parts = Request::post("/").body(()).unwrap().into_parts().0;
    parts.headers = headers;
    parts
}

fn signed(scheme: &Scheme, secret: Secret, body: &[u8]) -> Parts {
    let signer = Signer::new(scheme.clone(), secret);
    parts(signer.sign_with_id("m1", NOW, body).unwrap())
}

fn verifier(scheme: &Scheme, secret: Secret, now: u64) -> Verifier {
    let builder = Verifier::builder(scheme.clone()).secret(secret);
    builder.clock(ManualWallClock::new(now)).build().unwrap()
}

fn text(id: &str) -> Secret {
    Secret::new(id, format!("key {id}")).unwrap()
}

#[test]
fn an_accepted_delivery_needs_no_hint_and_a_forged_one_gets_none() {
    let scheme = presets::timestamped();
    let parts = signed(&scheme, text("a"), BODY);
    let now = NOW.as_secs();
    let empty: [Hint; 0] = [];
    assert_eq!(
        verifier(&scheme, text("a"), now).diagnose(&parts, BODY),
        empty
    );
    assert_eq!(
        verifier(&scheme, text("b"), now).diagnose(&parts, BODY),
        empty
    );
    assert_eq!(
        verifier(&scheme, text("a"), now).diagnose(&parts, b"{}"),
        empty
    );
}

#[test]
fn a_body_that_was_changed_on_its_way_is_found() {
    let scheme = presets::timestamped();
    let parts = signed(&scheme, text("a"), BODY);
    let verifier = verifier(&scheme, text("a"), NOW.as_secs());
    for (body, change) in [
        (&[BODY, b"\n"].concat()[..], BodyChange::LineFeedAdded),
        (b"{\"z\": \"\xc3\xa9/\", \"a\": [1]}", BodyChange::Json),
        (b"{\"z\":\"\\u00e9\\/\",\"a\":[1]}", BodyChange::Json),
        (b"eyJ6Ijoiw6kvIiwiYSI6WzFdfQ==", BodyChange::Base64),
    ] {
        assert_eq!(verifier.diagnose(&parts, body), [Hint::Body(change)]);
    }
}

#[test]
fn a_signature_that_is_right_outside_the_tolerance_is_told_apart() {
    let scheme = presets::timestamped();
    let parts = signed(&scheme, text("a"), BODY);
    for now in [NOW.as_secs() + 301, NOW.as_secs() - 61] {
        let hints = verifier(&scheme, text("a"), now).diagnose(&parts, BODY);
        assert_eq!(hints, [Hint::OnlyTime]);
    }
}

#[test]
fn a_key_that_has_ended_is_named() {
    let scheme = presets::paytabs_callback();
    let verifier = Verifier::builder(scheme.clone())
        .secret(text("new"))
        .secret_until(text("old"), NOW)
        .clock(ManualWallClock::new(NOW.as_secs()))
        .build()
        .unwrap();
    let parts = signed(&scheme, text("old"), BODY);
    let hints = verifier.diagnose(&parts, BODY);
    assert_eq!(hints, [Hint::EndedKey("old".into())]);
    assert!(verifier.verify(&parts, None, BODY).is_err());
}

#[test]
fn headers_of_another_preset_are_recognised() {
    let standard = presets::standard_webhooks();
    let secret = || Secret::whsec("k", WHSEC).unwrap();
    let parts = signed(&presets::svix(), secret(), BODY);
    let hints = verifier(&standard, secret(), NOW.as_secs()).diagnose(&parts, BODY);
    assert_eq!(hints, [Hint::HeadersOf("svix")]);
    let hints = standard.diagnose_secret("k", WHSEC, &parts, BODY);
    assert_eq!(hints, [Hint::OtherScheme("svix")]);
}

#[test]
fn the_text_of_a_secret_is_tried_in_other_forms() {
    let scheme = presets::standard_webhooks();
    let bytes = signed(&scheme, Secret::whsec("k", WHSEC).unwrap(), BODY);
    let without = WHSEC.strip_prefix("whsec_").unwrap();
    let hints = scheme.diagnose_secret("k", without, &bytes, BODY);
    let expected = [Hint::KeyForm(KeyFormat::Base64), Hint::KeyPrefix("whsec_")];
    assert_eq!(hints, expected);
    // The sender took the text for the key.
    let other = signed(&scheme, Secret::new("k", WHSEC).unwrap(), BODY);
    let hints = scheme.diagnose_secret("k", WHSEC, &other, BODY);
    assert_eq!(hints, [Hint::KeyForm(KeyFormat::Text)]);
    for around in [format!(" {WHSEC}\n"), format!("\"{WHSEC}\"")] {
        let hints = scheme.diagnose_secret("k", &around, &bytes, BODY);
        assert_eq!(hints, [Hint::KeyAround]);
    }
    let empty: [Hint; 0] = [];
    assert_eq!(
        scheme.diagnose_secret("k", "whsec_b3RoZXI=", &bytes, BODY),
        empty
    );
}

#[test]
fn hints_repeat_nothing_of_the_secret() {
    let scheme = presets::standard_webhooks();
    let bytes = signed(&scheme, Secret::whsec("k", WHSEC).unwrap(), BODY);
    let hints = scheme.diagnose_secret("k", &format!("'{WHSEC}'"), &bytes, BODY);
    assert!(!hints.is_empty());
    assert!(!format!("{hints:?} {}", hints[0]).contains("c2Vj"));
}
