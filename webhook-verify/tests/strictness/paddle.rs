//! Paddle.

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
