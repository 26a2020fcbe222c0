//! Slack, and Zoom with its scheme under other names.

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
                let fields: Fields<'_> = &[(time, loose.as_bytes()), (signature, value.as_bytes())];
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
