//! Stripe.

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
