//! How much time a call has, and what headers say of it.

use std::hint::black_box;
use std::time::Duration;

use allocation_counter::measure;
use proptest::prelude::*;
use resilience_core::deadline::{Config, Deadlines, TimeUp, grpc, millis};

const MS: Duration = Duration::from_millis(1);
const NS: Duration = Duration::from_nanos(1);
const NONE: Duration = Duration::ZERO;

fn deadlines(total: Option<Duration>, attempt: Option<Duration>, least: Duration) -> Deadlines {
    let config = Config::builder().total(total).attempt(attempt);
    Deadlines::new(config.least(least).build().unwrap())
}

#[test]
fn a_call_without_any_limit_has_none() {
    let time = Deadlines::default().begin(None, NONE).unwrap();
    assert_eq!((time.left(), time.limit()), (None, None));
}

#[test]
fn the_earlier_of_setting_and_call_counts() {
    let deadlines = deadlines(Some(100 * MS), None, NONE);
    for (brought, left) in [(None, 100), (Some(99), 99), (Some(101), 100)] {
        let time = deadlines.begin(brought.map(|left| left * MS), NONE);
        assert_eq!(time.unwrap().left(), Some(left * MS));
    }
}

#[test]
fn an_attempt_has_its_own_limit_or_what_is_left() {
    let deadlines = deadlines(None, Some(50 * MS), NONE);
    for (left, limit) in [(None, 50), (Some(49), 49), (Some(51), 50)] {
        let left = left.map(|left| left * MS);
        let time = deadlines.begin(left, NONE).unwrap();
        assert_eq!((time.left(), time.limit()), (left, Some(limit * MS)));
    }
}

#[test]
fn whose_deadline_is_over_is_refused_and_who_has_a_nanosecond_is_not() {
    let deadlines = Deadlines::default();
    let refused = TimeUp::Refused {
        left: NONE,
        least: NONE,
    };
    assert_eq!(deadlines.begin(Some(NONE), NONE), Err(refused));
    assert!(deadlines.begin(Some(NS), NONE).is_ok());
}

#[test]
fn the_least_time_is_enough_and_less_is_not() {
    let deadlines = deadlines(None, None, 20 * MS);
    assert!(deadlines.begin(Some(20 * MS), NONE).is_ok());
    assert!(deadlines.begin(None, NONE).is_ok());
    let refused = deadlines.begin(Some(20 * MS - NS), NONE).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "refused: 19.999999ms until the deadline, and a call takes 20ms at least"
    );
}

#[test]
fn of_the_callers_least_time_and_the_settings_the_longer_counts() {
    let deadlines = deadlines(None, None, 20 * MS);
    assert!(deadlines.begin(Some(20 * MS), MS).is_ok());
    assert!(deadlines.begin(Some(29 * MS), 30 * MS).is_err());
}

#[test]
fn what_was_up_is_told_and_counted() {
    let deadlines = deadlines(None, Some(50 * MS), NONE);
    for (left, up) in [
        (None, TimeUp::Attempt { after: 50 * MS }),
        (Some(51 * MS), TimeUp::Attempt { after: 50 * MS }),
        // Another attempt would be in vain.
        (Some(50 * MS), TimeUp::Deadline { after: 50 * MS }),
        (Some(49 * MS), TimeUp::Deadline { after: 49 * MS }),
    ] {
        let time = deadlines.begin(left, NONE).unwrap();
        assert_eq!(deadlines.time_up(time), up);
    }
    deadlines.begin(Some(NONE), NONE).unwrap_err();
    let seen = deadlines.clone().snapshot();
    assert_eq!((seen.attempt, seen.deadline, seen.refused), (2, 2, 1));
}

#[test]
fn a_change_counts_for_calls_that_begin_after_it() {
    let deadlines = deadlines(Some(MS), None, NONE);
    let before = deadlines.begin(None, NONE).unwrap();
    let config = Config::builder().total(2 * MS).build().unwrap();
    deadlines.clone().set_config(config);
    assert_eq!(deadlines.config(), config);
    assert_eq!(before.left(), Some(MS));
    assert_eq!(deadlines.begin(None, NONE).unwrap().left(), Some(2 * MS));
}

#[test]
fn settings_out_of_range_name_field_value_and_what_is_allowed() {
    let day = Duration::from_secs(86_400);
    let base = Config::builder;
    for (builder, message) in [
        (base().total(NONE), "total is 0ns, allowed: 1ns to 1 day"),
        (
            base().attempt(NONE),
            "attempt is 0ns, allowed: 1ns to 1 day",
        ),
        (
            base().least(day + NS),
            "least is 86400.000000001s, allowed: 0ns to 1 day",
        ),
        (
            base().total(MS).least(2 * MS),
            "least is 2ms, allowed: up to total, 1ms",
        ),
        (
            base().attempt(MS).least(2 * MS),
            "least is 2ms, allowed: up to attempt, 1ms",
        ),
    ] {
        assert_eq!(builder.build().unwrap_err().to_string(), message);
    }
    assert!(base().total(MS).attempt(day).least(MS).build().is_ok());
}

#[test]
fn settings_are_read_from_files() {
    let read = serde_json::from_str::<Config>;
    let config = read(r#"{"total": "2s", "attempt": "off", "least": "5ms"}"#).unwrap();
    let same = Config::builder().total(2_000 * MS).least(5 * MS).build();
    assert_eq!(config, same.unwrap());
    assert_eq!(read("{}").unwrap(), Config::default());
    for wrong in [r#"{"totl": "2s"}"#, r#"{"total": "0s"}"#, r#"{"total": 2}"#] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn each_unit_of_grpc_timeout_is_read() {
    for (value, time) in [
        ("2H", Duration::from_secs(7_200)),
        ("2M", Duration::from_secs(120)),
        ("2S", Duration::from_secs(2)),
        ("2m", 2 * MS),
        ("2u", 2_000 * NS),
        ("2n", 2 * NS),
        ("0n", NONE),
        ("00000007n", 7 * NS),
        ("99999999H", Duration::from_secs(99_999_999 * 3_600)),
    ] {
        assert_eq!(grpc::parse(value.as_bytes()), Some(time), "{value}");
    }
}

#[test]
fn anything_else_is_no_grpc_timeout() {
    for value in [
        "",
        "n",
        "5",
        "123456789n",
        "000000001n",
        "+1S",
        "-1S",
        "1.5S",
        "1 S",
        " 1S",
        "1S ",
        "1s",
        "1h",
        "1ms",
        "1SS",
        "1\u{b5}",
        "١S",
    ] {
        assert_eq!(grpc::parse(value.as_bytes()), None, "{value:?}");
    }
}

#[test]
fn grpc_timeout_is_written_in_the_finest_unit_and_rounded_down() {
    let seconds = Duration::from_secs;
    for (left, text) in [
        (NONE, "0n"),
        (NS, "1n"),
        (99_999_999 * NS, "99999999n"),
        (100_000_000 * NS, "100000u"),
        (100_000_999 * NS, "100000u"),
        (seconds(100) - NS, "99999999u"),
        (seconds(100), "100000m"),
        (seconds(100_000) - NS, "99999999m"),
        (seconds(100_000), "100000S"),
        (seconds(100_000_000) - NS, "99999999S"),
        (seconds(100_000_000), "1666666M"),
        (seconds(60 * 100_000_000), "1666666H"),
        (Duration::MAX, "99999999H"),
    ] {
        assert_eq!(&*grpc::write(left), text, "{left:?}");
    }
}

#[test]
fn milliseconds_are_digits_that_saturate() {
    let longest = Duration::from_millis(u64::MAX);
    for (value, time) in [
        ("0", Some(NONE)),
        ("0015", Some(15 * MS)),
        ("99999999999999999999999", Some(longest)),
        ("", None),
        ("+1", None),
        ("-1", None),
        ("1.5", None),
        ("1 ", None),
        ("1ms", None),
    ] {
        assert_eq!(millis::parse(value.as_bytes()), time, "{value:?}");
    }
    assert_eq!(&*millis::write(Duration::MAX), u64::MAX.to_string());
    assert_eq!(&*millis::write(millis::LEAST), "1");
    assert_eq!(&*millis::write(millis::LEAST - NS), "0");
}

#[test]
fn deadlines_and_headers_allocate_nothing() {
    let deadlines = deadlines(Some(MS), Some(MS), NONE);
    let calls = || {
        for nanos in 0..1_000 {
            black_box(match deadlines.begin(Some(nanos * NS), NONE) {
                Ok(time) => deadlines.time_up(time),
                Err(up) => up,
            });
            let (grpc, plain) = (grpc::write(nanos * NS), millis::write(nanos * MS));
            black_box((
                grpc::parse(grpc.as_bytes()),
                millis::parse(plain.as_bytes()),
            ));
        }
    };
    // The first use of a thread sets up what guards the settings.
    calls();
    assert_eq!(measure(calls).count_total, 0);
}

/// Spans of every magnitude.
fn span() -> impl Strategy<Value = Duration> {
    (any::<u64>(), 0..64_u32, 0..1_000_000_000_u32)
        .prop_map(|(seconds, shift, nanos)| Duration::new(seconds >> shift, nanos))
}

proptest! {
    #[test]
    fn what_is_written_reads_back_and_is_never_later(left in span()) {
        let text = grpc::write(left);
        let read = grpc::parse(text.as_bytes()).unwrap();
        prop_assert!(read <= left);
        // A part in 100 000, up to what the header can say.
        let known = left.min(Duration::from_secs(99_999_999 * 3_600));
        prop_assert!((known - read).as_nanos() * 100_000 <= known.as_nanos(), "{text}");

        let text = millis::write(left);
        let read = millis::parse(text.as_bytes()).unwrap();
        prop_assert!(read <= left && left.min(Duration::from_millis(u64::MAX)) - read < MS);
    }

    #[test]
    fn whatever_a_header_says_it_is_read_or_not_and_nothing_breaks(value: Vec<u8>) {
        if let Some(time) = grpc::parse(&value) {
            prop_assert!(value.len() <= 9 && time <= Duration::from_secs(99_999_999 * 3_600));
        }
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        prop_assert_eq!(millis::parse(&value).is_some(), digits);
    }

    #[test]
    fn grpc_timeouts_that_the_grammar_allows_are_read(digits in "[0-9]{1,8}", unit in "[HMSmun]") {
        let value = format!("{digits}{unit}");
        let nanos: u128 = match unit.as_str() {
            "H" => 3_600_000_000_000,
            "M" => 60_000_000_000,
            "S" => 1_000_000_000,
            "m" => 1_000_000,
            "u" => 1_000,
            _ => 1,
        };
        let time = grpc::parse(value.as_bytes()).unwrap();
        prop_assert_eq!(time.as_nanos(), digits.parse::<u128>().unwrap() * nanos);
    }

    /// Against the plainest list of all limits.
    #[test]
    fn no_limit_is_ever_exceeded_and_none_is_made_up(
        total in prop::option::of(1..50_u32), attempt in prop::option::of(1..50_u32),
        least in 0..50_u32, left in prop::option::of(0..60_u32), own in 0..60_u32,
    ) {
        let config = Config::builder().total(total.map(|it| it * MS));
        let config = config.attempt(attempt.map(|it| it * MS)).least(least * MS);
        let contradicts = total.is_some_and(|it| it < least) || attempt.is_some_and(|it| it < least);
        prop_assert_eq!(config.build().is_err(), contradicts);
        prop_assume!(!contradicts);
        let deadlines = Deadlines::new(config.build().unwrap());

        let call = [total, left].into_iter().flatten().min();
        let need = least.max(own).max(1);
        match deadlines.begin(left.map(|it| it * MS), own * MS) {
            Err(_) => prop_assert!(call.unwrap() < need),
            Ok(time) => {
                prop_assert!(call.is_none_or(|call| call >= need));
                prop_assert_eq!(time.left(), call.map(|it| it * MS));
                let limit = [call, attempt].into_iter().flatten().min();
                prop_assert_eq!(time.limit(), limit.map(|it| it * MS));
            }
        }
    }
}
