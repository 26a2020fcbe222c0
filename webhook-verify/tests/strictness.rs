//! Where the providers' own libraries are looser than their documentation, or unsafe, by
//! measurement: what is refused here all the same. Each delivery carries a genuine signature of
//! what the library would sign.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, HeaderValue, Request};
use sha2::Sha256;
use webhook_verify::{Reason, Scheme, Secret, Verifier, clock::ManualWallClock, presets};

const NOW: u64 = 1_700_000_000;
const TIME: &str = "1700000000";
const BODY: &[u8] = br#"{"a": 1}"#;

type Fields<'a> = &'a [(&'a str, &'a [u8])];

/// The answer to a delivery at [`NOW`], of a receiver with one key.
fn answer(scheme: &Scheme, key: &str, fields: Fields<'_>, body: &[u8]) -> Result<(), Reason> {
    let mut parts = Request::post("/hook").body(()).unwrap().into_parts().0;
    for (name, value) in fields {
        let name: HeaderName = name.parse().unwrap();
        parts
            .headers
            .append(name, HeaderValue::from_bytes(value).unwrap());
    }
    let verifier = Verifier::builder(scheme.clone())
        .secret(scheme.secret("k", key).unwrap())
        .clock(ManualWallClock::new(NOW))
        .build()
        .unwrap();
    let verified = verifier.verify(&parts, None, body);
    verified.map(drop).map_err(|error| error.reason().clone())
}

fn malformed(name: &'static str) -> Result<(), Reason> {
    Err(Reason::Malformed(HeaderName::from_static(name)))
}

fn missing(name: &'static str) -> Result<(), Reason> {
    Err(Reason::Missing(HeaderName::from_static(name)))
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Spellings of [`TIME`] that `float()`, `int()`, `parseInt()` or `Number()` read as that
/// time, and those that they read as no number.
const LOOSE_TIMES: [&str; 14] = [
    "1700000000.9",
    " 1700000000",
    "1700000000 ",
    "\t1700000000",
    "+1700000000",
    "01700000000",
    "1_700_000_000",
    "1700000000abc",
    "1700000000,1",
    "1.7e9",
    "0x6553f100",
    "abc",
    "NaN",
    "",
];

mod standard_webhooks {
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
}

mod stripe {
    use super::*;

    const KEY: &str = "whsec_test_secret";
    const SIGNATURE: &str = "stripe-signature";

    fn check(value: &str, body: &[u8]) -> Result<(), Reason> {
        let fields: Fields<'_> = &[(SIGNATURE, value.as_bytes())];
        answer(&presets::stripe(), KEY, fields, body)
    }

    fn sign(time: &str, body: &[u8]) -> String {
        hex(&hmac(KEY.as_bytes(), &[time.as_bytes(), b".", body]))
    }

    #[test]
    fn a_time_is_its_digits_whichever_text_was_signed() {
        // Here a comma ends the time.
        for loose in LOOSE_TIMES.into_iter().filter(|time| !time.contains(',')) {
            for signed in [loose, TIME] {
                let value = format!("t={loose},v1={}", sign(signed, BODY));
                assert_eq!(check(&value, BODY), malformed(SIGNATURE), "{loose:?}");
            }
        }
    }

    /// Python takes the first time of a list, Node the last.
    #[test]
    fn a_list_has_one_time() {
        let good = sign(TIME, BODY);
        for value in [
            format!("t={TIME},t=1,v1={good}"),
            format!("t=1,v1={good},t={TIME}"),
            format!("t={TIME},v1={good},t={TIME}"),
        ] {
            assert_eq!(check(&value, BODY), malformed(SIGNATURE), "{value}");
        }
    }

    /// Neither library looks at the future.
    #[test]
    fn a_time_of_the_future_is_refused() {
        let value = format!("t=1700009999,v1={}", sign("1700009999", BODY));
        let by_seconds = 9999 - 300;
        assert_eq!(check(&value, BODY), Err(Reason::TooNew { by_seconds }));
    }

    /// Node ignores what stands after a second equals sign.
    #[test]
    fn nothing_stands_behind_a_signature() {
        let good = sign(TIME, BODY);
        for end in ["=x", "=", " ", "0", ";"] {
            let value = format!("t={TIME},v1={good}{end}");
            assert_eq!(check(&value, BODY), malformed(SIGNATURE), "{end}");
        }
        assert_eq!(check(&format!("t={TIME},v1={good},"), BODY), Ok(()));
    }

    /// Node drops a byte order mark before it hashes.
    #[test]
    fn a_byte_order_mark_is_signed() {
        let marked = [b"\xef\xbb\xbf", BODY].concat();
        let value = format!("t={TIME},v1={}", sign(TIME, &marked));
        assert_eq!(check(&value, &marked), Ok(()));
        assert_eq!(check(&value, BODY), Err(Reason::SignatureMismatch));
        let value = format!("t={TIME},v1={}", sign(TIME, BODY));
        assert_eq!(check(&value, &marked), Err(Reason::SignatureMismatch));
    }
}

/// Slack, and Zoom with its scheme under other names.
mod versioned {
    use super::*;

    const KEY: &str = "8f742231b10e8888abcd99yyyzzz85a5";

    fn sign(time: &str, body: &[u8]) -> String {
        let signed = [b"v0:", time.as_bytes(), b":", body].concat();
        format!("v0={}", hex(&hmac(KEY.as_bytes(), &[&signed])))
    }

    fn both() -> [(Scheme, &'static str, &'static str); 2] {
        [
            (
                presets::slack(),
                "x-slack-request-timestamp",
                "x-slack-signature",
            ),
            (presets::zoom(), "x-zm-request-timestamp", "x-zm-signature"),
        ]
    }

    /// Slack's library for Node compares with NaN: no number, or no header, passes its window.
    /// Zoom's has no window, and takes any notation of numbers.
    #[test]
    fn a_time_is_its_digits_whichever_text_was_signed() {
        for (scheme, time, signature) in both() {
            for loose in LOOSE_TIMES {
                for signed in [loose, TIME] {
                    let value = sign(signed, BODY);
                    let fields: Fields<'_> =
                        &[(time, loose.as_bytes()), (signature, value.as_bytes())];
                    let refused = answer(&scheme, KEY, fields, BODY);
                    assert_eq!(refused, malformed(time), "{loose:?}");
                }
            }
            for signed in ["", "undefined", "null", TIME] {
                let value = sign(signed, BODY);
                let fields: Fields<'_> = &[(signature, value.as_bytes())];
                assert_eq!(answer(&scheme, KEY, fields, BODY), missing(time));
            }
        }
    }

    #[test]
    fn a_time_outside_the_window_is_refused_on_both_sides() {
        for (scheme, time, signature) in both() {
            for (at, expected) in [
                ("1700000300", Ok(())),
                ("1699999700", Ok(())),
                ("1700009999", Err(Reason::TooNew { by_seconds: 9699 })),
                (
                    "12345",
                    Err(Reason::TooOld {
                        by_seconds: 1_699_987_355,
                    }),
                ),
            ] {
                let value = sign(at, BODY);
                let fields: Fields<'_> = &[(time, at.as_bytes()), (signature, value.as_bytes())];
                assert_eq!(answer(&scheme, KEY, fields, BODY), expected, "{at}");
            }
        }
    }

    /// Node ignores what stands after a second equals sign; Python raises another exception at
    /// bytes that are no ASCII.
    #[test]
    fn a_signature_has_one_text() {
        for (scheme, time, signature) in both() {
            let good = sign(TIME, BODY);
            for value in [
                [good.as_bytes(), b"=x"].concat(),
                [good.as_bytes(), b"\xe9"].concat(),
                [b"\xe9", good.as_bytes()].concat(),
                good.replace("v0=", "V0=").into_bytes(),
                good.replace("v0=", "v1=").into_bytes(),
                good.replace("v0=", "").into_bytes(),
                b"v0=".to_vec(),
            ] {
                let fields: Fields<'_> = &[(time, TIME.as_bytes()), (signature, &value)];
                let refused = answer(&scheme, KEY, fields, BODY);
                assert_eq!(refused, malformed(signature), "{value:?}");
            }
        }
    }

    /// Zoom's sample and library sign what they write anew from the parsed body.
    #[test]
    fn a_body_that_was_written_anew_is_another_one() {
        for (scheme, time, signature) in both() {
            let value = sign(TIME, br#"{"a":1}"#);
            let fields: Fields<'_> = &[(time, TIME.as_bytes()), (signature, value.as_bytes())];
            for body in [BODY, br#"{"a":1.0}"#, br#"{"a":1,"a":1}"#, b"{\"a\":1}\n"] {
                let refused = answer(&scheme, KEY, fields, body);
                assert_eq!(refused, Err(Reason::SignatureMismatch));
            }
        }
    }
}

mod paddle {
    use super::*;

    const KEY: &str = "pdl_ntf_01_key";
    const SIGNATURE: &str = "paddle-signature";

    fn check(value: &str) -> Result<(), Reason> {
        let fields: Fields<'_> = &[(SIGNATURE, value.as_bytes())];
        answer(&presets::paddle(), KEY, fields, BODY)
    }

    fn sign(time: &str) -> String {
        hex(&hmac(KEY.as_bytes(), &[time.as_bytes(), b":", BODY]))
    }

    #[test]
    fn a_time_is_its_digits_whichever_text_was_signed() {
        for loose in LOOSE_TIMES {
            for signed in [loose, TIME] {
                let value = format!("ts={loose};h1={}", sign(signed));
                assert_eq!(check(&value), malformed(SIGNATURE), "{loose:?}");
            }
        }
    }

    /// Python takes the last time; without one it takes 0. Node does not look at the future.
    #[test]
    fn a_list_has_one_time_which_is_near() {
        let good = sign(TIME);
        for value in [
            format!("ts=1;ts={TIME};h1={good}"),
            format!("ts={TIME};ts={TIME};h1={good}"),
            format!("h1={good}"),
            format!("h1={}", sign("0")),
        ] {
            assert_eq!(check(&value), malformed(SIGNATURE), "{value}");
        }
        for (time, expected) in [
            ("1700000005", Ok(())),
            ("1700000006", Err(Reason::TooNew { by_seconds: 1 })),
            ("1700009999", Err(Reason::TooNew { by_seconds: 9994 })),
            ("1699999995", Ok(())),
            ("1699999994", Err(Reason::TooOld { by_seconds: 1 })),
        ] {
            let value = format!("ts={time};h1={}", sign(time));
            assert_eq!(check(&value), expected, "{time}");
        }
    }

    /// Of several Node tries the last one only, and Python fails at names that it does not
    /// know.
    #[test]
    fn any_of_several_signatures_counts_and_unknown_names_do_not() {
        let (good, bad) = (sign(TIME), "0".repeat(64));
        for value in [
            format!("ts={TIME};h1={good};h1={bad}"),
            format!("ts={TIME};h1={bad};h1={good}"),
            format!("ts={TIME};h2={bad};h1={good};x"),
        ] {
            assert_eq!(check(&value), Ok(()), "{value}");
        }
        for value in [
            format!("ts={TIME};h2={good}"),
            format!("ts={TIME}; h1={good}"),
            format!("ts={TIME},h1={good}"),
        ] {
            assert_eq!(check(&value), malformed(SIGNATURE), "{value}");
        }
    }
}

mod without_time {
    use super::*;

    const KEY: &str = "a key";

    fn base64(parts: &[&[u8]]) -> String {
        STANDARD.encode(hmac(KEY.as_bytes(), parts))
    }

    /// Shopify's library takes the first of repeated headers, and those of its events before
    /// those of its webhooks.
    #[test]
    fn shopify_reads_one_header_of_one_name() {
        let name = "x-shopify-hmac-sha256";
        let good = base64(&[BODY]);
        let good = good.as_bytes();
        let check = |fields: Fields<'_>| answer(&presets::shopify(), KEY, fields, BODY);
        assert_eq!(check(&[(name, good)]), Ok(()));
        assert_eq!(check(&[(name, good), (name, b"x")]), malformed(name));
        assert_eq!(check(&[(name, good), (name, good)]), malformed(name));
        assert_eq!(check(&[("shopify-hmac-sha256", good)]), missing(name));
        let other = ("shopify-hmac-sha256", &b"x"[..]);
        assert_eq!(check(&[other, (name, good)]), Ok(()));
    }

    /// Nothing stands between URL and body: what is signed for one URL could be read as
    /// another one, with a body to fit. So the URL is never taken from the request.
    #[test]
    fn square_signs_for_the_configured_url_only() {
        let name = "x-square-hmacsha256-signature";
        let value = base64(&[b"https://e.example/h", b"{}"]);
        let fields: Fields<'_> = &[
            (name, value.as_bytes()),
            ("host", b"e.example"),
            ("x-forwarded-host", b"e.example"),
        ];
        let check = |url, body| answer(&presets::square(url), KEY, fields, body);
        assert_eq!(check("https://e.example/h", b"{}"), Ok(()));
        let mismatch = Err(Reason::SignatureMismatch);
        assert_eq!(check("https://e.example/h", b"h{}"), mismatch);
        assert_eq!(check("https://e.example/", b"{}"), mismatch);
        assert_eq!(check("https://e.example/h/", b"{}"), mismatch);
        assert_eq!(check("https://E.example/h", b"{}"), mismatch);
        assert_eq!(check("https://e.example:443/h", b"{}"), mismatch);
    }

    /// gidgethub falls back to SHA-1 when the newer header is absent; octokit's build for the
    /// web takes upper-case digits and no prefix.
    #[test]
    fn github_has_no_older_signature_and_no_other_text() {
        let (name, key, body) = (
            "x-hub-signature-256",
            "It's a Secret to Everybody",
            b"Hello, World!",
        );
        let old = b"sha1=01dc10d0c83e72ed246219cdd91669667fe2ca59";
        let check = |fields: Fields<'_>| answer(&presets::github(), key, fields, body);
        assert_eq!(check(&[("x-hub-signature", old)]), missing(name));
        assert_eq!(check(&[(name, old)]), malformed(name));
        let good = hex(&hmac(key.as_bytes(), &[body]));
        assert_eq!(
            check(&[(name, format!("sha256={good}").as_bytes())]),
            Ok(())
        );
        for value in [
            format!("sha256={}", good.to_uppercase()),
            format!("SHA256={good}"),
            good.clone(),
        ] {
            assert_eq!(check(&[(name, value.as_bytes())]), malformed(name));
        }
    }

    /// Lemon Squeezy's samples compare text; a prefix, another case or another encoding is
    /// none of it.
    #[test]
    fn lemon_squeezy_is_plain_lower_case_hex() {
        let name = "x-signature";
        let good = hex(&hmac(KEY.as_bytes(), &[BODY]));
        let check = |value: &str| {
            let fields: Fields<'_> = &[(name, value.as_bytes())];
            answer(&presets::lemon_squeezy(), KEY, fields, BODY)
        };
        assert_eq!(check(&good), Ok(()));
        for value in [
            good.to_uppercase(),
            format!("sha256={good}"),
            base64(&[BODY]),
            good[..32].to_owned(),
        ] {
            assert_eq!(check(&value), malformed(name));
        }
    }
}

/// The libraries differ about keys of nothing or of white space; some hash under them.
#[test]
fn a_key_of_nothing_or_white_space_is_refused() {
    for key in ["", " ", "\n", "key\n", " key"] {
        for scheme in [
            presets::stripe(),
            presets::slack(),
            presets::square("https://e.example/"),
        ] {
            assert!(scheme.secret("k", key).is_err(), "{key:?}");
        }
    }
}
