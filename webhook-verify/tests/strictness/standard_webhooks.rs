//! Standard Webhooks, whose libraries Svix has as well.

use super::*;

const KEY: &[u8] = b"sixteen bytes or more";
const SIGNATURE: &str = "webhook-signature";

fn check(id: &str, time: &str, signature: &str, body: &[u8]) -> Result<(), Reason> {
    let fields: Fields<'_> = &[
        ("webhook-id", id.as_bytes()),
        ("webhook-timestamp", time.as_bytes()),
        (SIGNATURE, signature.as_bytes()),
    ];
    let key = format!("whsec_{}", STANDARD.encode(KEY));
    answer(&presets::standard_webhooks(), &key, fields, body)
}

fn sign(id: &str, time: &str, body: &[u8]) -> String {
    let signed = [id.as_bytes(), b".", time.as_bytes(), b"."];
    STANDARD.encode(hmac(KEY, &[&signed.concat(), body]))
}

/// Python signs the floor of `float()`, JavaScript what `parseInt` read.
#[test]
fn a_time_is_its_digits_whichever_text_was_signed() {
    for loose in LOOSE_TIMES {
        for signed in [loose, TIME] {
            let value = format!("v1,{}", sign("m", signed, BODY));
            let expected = malformed("webhook-timestamp");
            assert_eq!(check("m", loose, &value, BODY), expected, "{loose:?}");
        }
    }
}

/// The libraries take ids with a dot, which moves the borders of the signed text.
#[test]
fn no_border_can_be_moved_by_a_dot_in_the_id() {
    let body = [b"1700000001.", BODY].concat();
    let value = format!("v1,{}", sign("m", TIME, &body));
    assert_eq!(check("m", TIME, &value, &body), Ok(()));
    let expected = malformed("webhook-id");
    assert_eq!(check("m.1700000000", "1700000001", &value, BODY), expected);
}

/// Python decodes base64 leniently: one signature has many texts there. An earlier Rust
/// library compared up to the shorter length, so that `v1,` passed.
#[test]
fn a_signature_has_one_text() {
    let good = sign("m", TIME, BODY);
    let (start, end) = good.split_at(20);
    let last = good.trim_end_matches('=').chars().last().unwrap();
    // The last digit has two bits that mean nothing; both are zero in the one text.
    let loose_last = char::from(last as u8 + 1);
    for text in [
        format!("{start}!{end}"),
        format!("{start} {end}"),
        good.replace(&format!("{last}="), &format!("{loose_last}=")),
        good.trim_end_matches('=').to_owned(),
        format!("{good}="),
        good[..40].to_owned(),
        good[..4].to_owned(),
        String::new(),
    ] {
        let value = format!("v1,{text}");
        assert_ne!(text, good);
        assert_eq!(
            check("m", TIME, &value, BODY),
            malformed(SIGNATURE),
            "{text}"
        );
    }
    for label in ["V1,", "v1", "v1=", "v2,", "v1a,", "v1,v1,", ""] {
        let value = format!("{label}{good}");
        assert_eq!(
            check("m", TIME, &value, BODY),
            malformed(SIGNATURE),
            "{label}"
        );
    }
}

/// Python fails with another exception before it comes to the good one.
#[test]
fn entries_that_cannot_be_read_do_not_hide_a_good_one() {
    let good = format!("v1,{}", sign("m", TIME, BODY));
    for junk in ["v1", "v1,a,b", "v1,=", "", "x", "v1a,AAAA", ","] {
        let value = format!("{junk} {good}");
        assert_eq!(check("m", TIME, &value, BODY), Ok(()), "{junk}");
    }
}

/// The JavaScript library decodes the body as UTF-8 first: bytes that are none all become
/// U+FFFD there, and different bodies have one signature.
#[test]
fn a_body_is_its_bytes() {
    let replaced = "\u{fffd}".as_bytes();
    let value = format!("v1,{}", sign("m", TIME, b"\xff"));
    assert_eq!(check("m", TIME, &value, b"\xff"), Ok(()));
    let mismatch = Err(Reason::SignatureMismatch);
    assert_eq!(check("m", TIME, &value, b"\xfe"), mismatch);
    assert_eq!(check("m", TIME, &value, replaced), mismatch);
    let value = format!("v1,{}", sign("m", TIME, replaced));
    assert_eq!(check("m", TIME, &value, b"\xff"), mismatch);
}

/// Python skips characters that are not of the alphabet and gets another, shorter key.
#[test]
fn a_secret_is_of_the_standard_alphabet() {
    for text in [
        "whsec_-_-_AAAA",
        "whsec_AAA",
        "whsec_",
        "whsec_AA AA",
        "AAAA",
    ] {
        assert!(Secret::whsec("k", text).is_err(), "{text}");
    }
}
