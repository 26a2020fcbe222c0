//! Mailgun: its library's vector in both forms of a body, and what its signature says nothing
//! about.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderValue, Request, header::CONTENT_TYPE, request::Parts};
use proptest::prelude::*;
use sha2::Sha256;
use webhook_verify::{
    Error, Reason, Scheme, Secret, SignError, Signer, Step, Verified, Verifier,
    clock::ManualWallClock, presets, replay::MemoryReplayStore,
};

// `tests/Api/WebhookTest.php` of mailgun-php.
const KEY: &str = "key-3ax6xnjp29jd6fds4gc373sgvjxteol0";
const TIME: &str = "1403645220";
const TOKEN: &str = "5egbgr1vjgqxtrnp65xfznchgdccwh5d6i09vijqi3whgowmn6";
const SIGNATURE: &str = "9cfc5c41582e51246e73c88d34db3af0a3a2692a76fbab81492842f000256d33";
const OTHER_TOKEN: &str = "owyldpe6nxhmrn78epljl6bj0orrki1u3d2v5e6cnlmmuox8jr";

const AT: u64 = 1_403_645_220;
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

fn request(content: &str) -> Parts {
    let request = Request::post("/mailgun").header(CONTENT_TYPE, content);
    request.body(()).unwrap().into_parts().0
}

fn verifier_at(scheme: Scheme, now: u64) -> Verifier {
    let builder = Verifier::builder(scheme).clock(ManualWallClock::new(now));
    let secret = Secret::new("account", KEY).unwrap();
    builder.secret(secret).build().unwrap()
}

fn check(content: &str, body: &str) -> Result<Verified, Error> {
    let verifier = verifier_at(presets::mailgun(), AT);
    verifier.verify(&request(content), None, body.as_bytes())
}

fn refused(content: &str, body: &str) -> Reason {
    let error = check(content, body).expect_err(body);
    assert_eq!(
        (error.step(), error.status().as_u16()),
        (Step::Signature, 401)
    );
    error.reason().clone()
}

/// A webhook; `signature` is the inside of its object.
fn webhook(signature: &str) -> String {
    format!("{{\"signature\":{{{signature}}},\"event-data\":{{\"event\":\"delivered\"}}}}")
}

fn members(time: &str, token: &str, signature: &str) -> String {
    format!("\"timestamp\":{time},\"token\":\"{token}\",\"signature\":\"{signature}\"")
}

fn text(time: &str) -> String {
    format!("\"{time}\"")
}

fn genuine() -> String {
    webhook(&members(&text(TIME), TOKEN, SIGNATURE))
}

fn route() -> String {
    format!("recipient=a%40b.c&timestamp={TIME}&token={TOKEN}&signature={SIGNATURE}&subject=hi")
}

/// By other means than the crate's.
fn mac(key: &str, signed: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    let mac = mac.finalize().into_bytes();
    mac.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_library_s_vector_is_accepted_as_json_and_as_a_form() {
    let json = check(JSON, &genuine()).unwrap();
    assert_eq!((json.scheme(), json.timestamp()), ("mailgun", Some(AT)));
    let number = webhook(&members(TIME, TOKEN, SIGNATURE));
    let others = [
        check("application/json; charset=utf-8", &number).unwrap(),
        check(FORM, &route()).unwrap(),
    ];
    for other in others {
        assert_eq!(other.replay_key(), json.replay_key());
    }
}

/// Shown, because a receiver must know: the event is not signed.
#[test]
fn the_event_can_be_exchanged_under_the_same_signature() {
    let forged = genuine().replace("delivered", "unsubscribed");
    check(JSON, &forged).unwrap();
    check(
        FORM,
        &route().replace("subject=hi", "subject=hi&subject=wire+money"),
    )
    .unwrap();
    // The form of the body can be exchanged as well.
    let other = format!("timestamp={TIME}&token={TOKEN}&signature={SIGNATURE}");
    check(FORM, &other).unwrap();
}

/// What stops the forger of the test above, if he comes second.
#[test]
fn with_a_replay_store_a_token_is_taken_once_whatever_the_event() {
    let verifier = Verifier::builder(presets::mailgun())
        .secret(Secret::new("account", KEY).unwrap())
        .clock(ManualWallClock::new(AT))
        .replay(MemoryReplayStore::new(16))
        .build()
        .unwrap();
    let take = |body: &str| {
        let verified = verifier.verify(&request(JSON), None, body.as_bytes());
        let verified = verified.unwrap();
        futures_now(verifier.reserve(&verified))
    };
    let reservation = take(&genuine()).unwrap().unwrap();
    futures_now(reservation.commit()).unwrap();
    let forged = genuine().replace("delivered", "unsubscribed");
    assert_eq!(take(&forged).unwrap_err().reason(), &Reason::Duplicate);
}

#[test]
fn the_token_alone_names_a_delivery() {
    let later = "1403645221";
    let signature = mac(KEY, &format!("{later}{TOKEN}"));
    let again = webhook(&members(&text(later), TOKEN, &signature));
    let again = check(JSON, &again).unwrap();
    assert_eq!(
        again.replay_key(),
        check(JSON, &genuine()).unwrap().replay_key()
    );
    let signature = mac(KEY, &format!("{TIME}{OTHER_TOKEN}"));
    let other = webhook(&members(&text(TIME), OTHER_TOKEN, &signature));
    assert_ne!(
        check(JSON, &other).unwrap().replay_key(),
        again.replay_key()
    );
}

/// A store in memory answers at once.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

/// The library takes any two texts: there the time `140364522` with the token `0` and the
/// rest has the same signature.
#[test]
fn no_digit_can_move_from_the_time_to_the_token() {
    let shorter = (&TIME[..9], format!("0{TOKEN}"));
    let longer = (&*format!("{TIME}5"), TOKEN[1..].to_owned());
    assert_eq!(mac(KEY, &[shorter.0, &shorter.1].concat()), SIGNATURE);
    assert_eq!(mac(KEY, &[longer.0, &longer.1].concat()), SIGNATURE);
    for (time, token) in [shorter, longer] {
        let body = webhook(&members(&text(time), &token, SIGNATURE));
        let malformed = Reason::FieldMalformed("signature.timestamp".into());
        assert_eq!(refused(JSON, &body), malformed);
        let body = format!("timestamp={time}&token={token}&signature={SIGNATURE}");
        let malformed = Reason::FieldMalformed("timestamp".into());
        assert_eq!(refused(FORM, &body), malformed);
    }
}

#[test]
fn time_and_token_are_of_their_one_form() {
    let signed = |time: &str, spelled: &str, token: &str| {
        webhook(&members(
            spelled,
            token,
            &mac(KEY, &format!("{time}{token}")),
        ))
    };
    let malformed = Reason::FieldMalformed("signature.timestamp".into());
    for time in [
        "0403645220",
        "+403645220",
        " 403645220",
        "1403645220 ",
        "140364522.",
        "",
        "0",
    ] {
        assert_eq!(refused(JSON, &signed(time, &text(time), TOKEN)), malformed);
    }
    let wrong_type = Reason::FieldType("signature.timestamp".into());
    for spelled in [
        "1403645220.0",
        "1.40364522e9",
        "-1403645220",
        "null",
        "[]",
        "true",
    ] {
        assert_eq!(refused(JSON, &signed(TIME, spelled, TOKEN)), wrong_type);
    }
    let malformed = Reason::FieldMalformed("signature.token".into());
    let accent = format!("\u{e9}{}", &TOKEN[2..]);
    let blank = format!(" {}", &TOKEN[1..]);
    let long = format!("{TOKEN}6");
    for token in [&TOKEN[1..], &long, &accent, &blank, ""] {
        assert_eq!(refused(JSON, &signed(TIME, &text(TIME), token)), malformed);
    }
    // Another token is another text.
    let other = webhook(&members(&text(TIME), OTHER_TOKEN, SIGNATURE));
    assert_eq!(refused(JSON, &other), Reason::SignatureMismatch);
}

#[test]
fn the_fields_are_there_once() {
    for name in ["timestamp", "token", "signature"] {
        let path = format!("signature.{name}");
        let cut = genuine().replacen(&format!("\"{name}\":\""), &format!("\"{name}_\":\""), 1);
        assert_eq!(
            refused(JSON, &cut),
            Reason::FieldMissing(path.as_str().into())
        );
        let cut = route().replace(&format!("{name}="), &format!("{name}_="));
        assert_eq!(refused(FORM, &cut), Reason::FieldMissing(name.into()));
        let twice = format!("{}&{name}=x", route());
        assert_eq!(refused(FORM, &twice), Reason::FieldRepeated(name.into()));
        let twice = genuine().replacen('{', &format!("{{\"{name}\":1,\"{name}\":2,"), 1);
        assert_eq!(refused(JSON, &twice), Reason::NotJson);
    }
    for (body, reason) in [
        ("{}", Reason::FieldMissing("signature".into())),
        (
            r#"{"signature":"x"}"#,
            Reason::FieldType("signature".into()),
        ),
        ("[1]", Reason::FieldMissing("signature".into())),
        ("null", Reason::FieldMissing("signature".into())),
        ("", Reason::NotJson),
        (
            r#"{"signature":{"timestamp":"1403645220","token":5}}"#,
            Reason::FieldType("signature.token".into()),
        ),
    ] {
        assert_eq!(refused(JSON, body), reason, "{body}");
    }
    let deep = format!("{{\"event-data\":{}", "[".repeat(100_000));
    assert_eq!(refused(JSON, &deep), Reason::TooDeep);
}

#[test]
fn the_signature_is_lower_case_hex_of_its_one_length() {
    for signature in [
        "",
        &SIGNATURE.to_uppercase(),
        &SIGNATURE[..62],
        &format!("{SIGNATURE}00"),
        &format!("sha256={SIGNATURE}"),
    ] {
        let body = webhook(&members(&text(TIME), TOKEN, signature));
        let malformed = Reason::FieldMalformed("signature.signature".into());
        assert_eq!(refused(JSON, &body), malformed, "{signature}");
    }
}

/// Whatever reads the body later goes by the same header.
#[test]
fn the_body_is_read_as_its_content_type_says() {
    assert_eq!(
        refused(FORM, &genuine()),
        Reason::FieldMissing("timestamp".into())
    );
    assert_eq!(refused(JSON, &route()), Reason::NotJson);
    let multipart = "multipart/form-data; boundary=x";
    for other in [multipart, "text/plain", "application/jsonp", ""] {
        assert_eq!(refused(other, &genuine()), Reason::ContentType);
    }
    let verifier = verifier_at(presets::mailgun(), AT);
    let mut parts = request(JSON);
    let second = HeaderValue::from_static(FORM);
    parts.headers.append(CONTENT_TYPE, second);
    let error = verifier.verify(&parts, None, genuine().as_bytes());
    let error = error.unwrap_err();
    assert_eq!(error.reason(), &Reason::Malformed(CONTENT_TYPE));
    parts.headers.remove(CONTENT_TYPE);
    let error = verifier.verify(&parts, None, genuine().as_bytes());
    let error = error.unwrap_err();
    assert_eq!(error.reason(), &Reason::Missing(CONTENT_TYPE));
}

#[test]
fn the_window_is_900_seconds_back_and_300_ahead() {
    let scheme = presets::mailgun();
    let tolerance = (Duration::from_secs(900), Duration::from_secs(300));
    assert_eq!(scheme.tolerance(), Some(tolerance));
    let reason_at = |now| {
        let verifier = verifier_at(scheme.clone(), now);
        let checked = verifier.verify(&request(JSON), None, genuine().as_bytes());
        checked
            .err()
            .map(|error| (error.step(), error.reason().clone()))
    };
    assert_eq!(reason_at(AT + 900), None);
    assert_eq!(reason_at(AT - 300), None);
    let old = Reason::TooOld { by_seconds: 1 };
    assert_eq!(reason_at(AT + 901), Some((Step::Timestamp, old)));
    let new = Reason::TooNew { by_seconds: 1 };
    assert_eq!(reason_at(AT - 301), Some((Step::Timestamp, new)));
}

#[test]
fn a_parent_account_verifies_by_its_own_field() {
    let verifier = verifier_at(presets::mailgun_parent(), AT);
    let check = |body: &str| {
        let checked = verifier.verify(&request(JSON), None, body.as_bytes());
        checked.map(drop).map_err(|error| error.reason().clone())
    };
    let subaccount = mac("key-of-the-subaccount", &format!("{TIME}{TOKEN}"));
    let both = |parent: &str| {
        let members = members(&text(TIME), TOKEN, &subaccount);
        webhook(&format!("{members},\"parent-signature\":\"{parent}\""))
    };
    check(&both(SIGNATURE)).unwrap();
    assert_eq!(check(&both(&subaccount)), Err(Reason::SignatureMismatch));
    let missing = Reason::FieldMissing("signature.parent-signature".into());
    assert_eq!(check(&genuine()), Err(missing));
    // The account itself does not look at it.
    assert_eq!(refused(JSON, &both(SIGNATURE)), Reason::SignatureMismatch);
}

#[test]
fn what_is_signed_is_accepted_in_both_forms() {
    let at = Duration::from_secs(AT);
    let token = "\"\\/%&=+".repeat(8)[..50].to_owned();
    for scheme in [presets::mailgun(), presets::mailgun_parent()] {
        let signer = Signer::new(scheme.clone(), Secret::new("account", KEY).unwrap());
        let verifier = verifier_at(scheme, AT);
        for body in [
            "{}",
            "  {\"event-data\": {\"a\": 1.0}}\n",
            "",
            "a=1&b=%2B",
            "a=",
        ] {
            let signed = signer.sign_delivery(None, Some(&token), at, body.as_bytes());
            let signed = signed.expect(body);
            let mut parts = request(JSON);
            parts.headers = signed.headers().clone();
            let sent = signed.body().unwrap();
            assert!(verifier.verify(&parts, None, sent).is_ok(), "{body}");
            // The rest of the body is as it was.
            let rest = body.trim_ascii_start().trim_start_matches('{');
            assert!(std::str::from_utf8(sent).unwrap().contains(rest));
        }
    }
    let signer = Signer::new(presets::mailgun(), Secret::new("account", KEY).unwrap());
    let sign = |content: Option<&str>, token, at, body: &str| {
        let request = content.map(request);
        let signed = signer.sign_delivery(request.as_ref(), token, at, body.as_bytes());
        signed.map(|_| ()).unwrap_err()
    };
    let token = Some(TOKEN);
    assert_eq!(sign(None, None, at, "{}"), SignError::Id);
    assert_eq!(sign(None, Some("short"), at, "{}"), SignError::Id);
    let early = Duration::from_secs(999_999_999);
    assert_eq!(sign(None, token, early, "{}"), SignError::Time);
    let late = Duration::from_secs(10_000_000_000);
    assert_eq!(sign(None, token, late, "{}"), SignError::Time);
    let repeated = |name: &str| Reason::FieldRepeated(name.into());
    for (content, body, reason) in [
        (Some("multipart/form-data"), "", Reason::ContentType),
        (Some(JSON), "a=1", Reason::NotJson),
        (Some(JSON), "[]", Reason::NotJson),
        (None, "{\"signature\":{}}", repeated("signature")),
        (None, "token=x", repeated("token")),
        (None, "a=%", Reason::NotForm),
    ] {
        assert_eq!(sign(content, token, at, body), SignError::Delivery(reason));
    }
}

/// Every bit of the three fields, one by one: what is refused is all that is protected.
#[test]
fn a_flipped_bit_is_refused_in_the_signed_fields_and_nowhere_else() {
    let verifier = verifier_at(presets::mailgun(), AT);
    for (content, body) in [(JSON, genuine()), (FORM, route())] {
        let parts = request(content);
        let spans = [TIME, TOKEN, SIGNATURE].map(|text| {
            let start = body.find(text).unwrap();
            start..start + text.len()
        });
        let mut unprotected = 0;
        for bit in 0..body.len() * 8 {
            let mut changed = body.clone().into_bytes();
            changed[bit / 8] ^= 1 << (bit % 8);
            let accepted = verifier.verify(&parts, None, &changed).is_ok();
            let is_signed = spans.iter().any(|span| span.contains(&(bit / 8)));
            assert!(!(accepted && is_signed), "{changed:?}");
            unprotected += usize::from(accepted);
        }
        assert!(unprotected > 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any time and token that are of their form: the signature of others never fits.
    #[test]
    fn a_signature_fits_its_own_time_and_token_only(
        time in 1_403_644_920_u64..=1_403_646_120,
        token in "[!-~]{50}",
        other_time in 1_403_644_920_u64..=1_403_646_120,
        other_token in "[!-~]{50}",
    ) {
        let signature = mac(KEY, &format!("{time}{token}"));
        let verifier = verifier_at(presets::mailgun(), 1_403_645_820);
        let accepted = |time: u64, token: &str| {
            let body = serde_json::json!({
                "signature": { "timestamp": time.to_string(), "token": token, "signature": signature },
            });
            verifier.verify(&request(JSON), None, body.to_string().as_bytes()).is_ok()
        };
        let in_window = (1_403_644_920..=1_403_646_120).contains(&time);
        prop_assert_eq!(accepted(time, &token), in_window);
        prop_assert_eq!(accepted(other_time, &token), other_time == time);
        prop_assert_eq!(accepted(time, &other_token), other_token == token);
    }
}
