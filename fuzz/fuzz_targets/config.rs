//! Settings from any JSON or TOML: an error that says what is wrong with which field, or settings
//! that are in their ranges and make a breaker or a limiter that works. Never a panic.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use resilience_core::{
    breaker::{CircuitBreaker, Config, OnCancel, Outcome},
    clock::ManualClock,
    rate_limit::{KeyedRateLimiter, Quota, RateLimiter},
};
use resilience_fuzz::Choices;
use serde::de::DeserializeOwned;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    match choices.below(4) {
        Some(0) => raw(choices.rest()),
        Some(_) => {
            let _ = written(choices);
        }
        None => {}
    }
});

/// Any text at all.
fn raw(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    read::<Config>(text).into_iter().for_each(breaker_works);
    read::<Quota>(text).into_iter().for_each(limiter_works);
}

/// The settings as JSON and as TOML, whichever it is.
fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
    let json = serde_json::from_str(text).ok();
    json.or_else(|| toml::from_str(text).ok())
}

const FIELDS: [&str; 21] = [
    "failure_rate",
    "failure_count",
    "minimum_calls",
    "count_window",
    "time_window",
    "slow_call",
    "slow_call_rate",
    "consecutive_failures",
    "half_open_permits",
    "success_threshold",
    "half_open_failure_rate",
    "probe_failures",
    "reset_timeout",
    "max_reset_timeout",
    "jitter",
    "lease",
    "on_cancel",
    "permits",
    "per",
    "burst",
    "no_such_field",
];
/// The last ones are of [`Quota`].
const OF_CONFIG: usize = 17;

const VALUES: [&str; 28] = [
    "0",
    "1",
    "2",
    "5",
    "20",
    "100",
    "1023",
    "1024",
    "10000000",
    "10000001",
    "4294967295",
    "4294967296",
    "-1",
    "0.5",
    "1.0",
    "1.5",
    "1e300",
    "true",
    "\"off\"",
    "\"30s\"",
    "\"5min\"",
    "\"1ms\"",
    "\"1h 30m\"",
    "\"2days\"",
    "\"99999999999999y\"",
    "\"ignore\"",
    "\"failure_when_slow\"",
    "\"\"",
];

/// Fields and values that exist, in one file of either kind.
fn written(mut choices: Choices<'_>) -> Option<()> {
    let quota = choices.byte()? & 3 == 0;
    let mut pairs: Vec<(&str, String)> = Vec::new();
    while let Some(field) = choices.byte() {
        let field = match (quota, field) {
            (_, 255) => FIELDS[FIELDS.len() - 1],
            (true, _) => FIELDS[OF_CONFIG + usize::from(field) % 3],
            (false, _) => FIELDS[usize::from(field) % OF_CONFIG],
        };
        let value = match choices.byte()? {
            byte @ 0..=127 => VALUES[usize::from(byte) % VALUES.len()].to_owned(),
            byte @ 128..=191 => (byte & 63).to_string(),
            byte => format!("\"{}ms\"", u64::from(byte & 63) * 50),
        };
        if !pairs.iter().any(|(seen, _)| *seen == field) {
            pairs.push((field, value));
        }
    }
    let text = |between: &str, end: &str, quote: &str| {
        let lines = pairs
            .iter()
            .map(|(field, value)| format!("{quote}{field}{quote}{between}{value}"));
        lines.collect::<Vec<_>>().join(end)
    };
    let json = format!("{{{}}}", text(": ", ", ", "\""));
    let toml = text(" = ", "\n", "");
    if quota {
        both::<Quota>(&json, &toml, &pairs)
            .into_iter()
            .for_each(limiter_works);
    } else {
        both::<Config>(&json, &toml, &pairs)
            .into_iter()
            .for_each(breaker_works);
    }
    Some(())
}

/// Both kinds of file say the same, and an error names a field.
fn both<T: DeserializeOwned + PartialEq + std::fmt::Debug>(
    json: &str,
    toml: &str,
    pairs: &[(&str, String)],
) -> Option<T> {
    let from_json = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json));
    let from_toml = toml::Deserializer::parse(toml)
        .map_err(|error| error.to_string())
        .and_then(|file| serde_path_to_error::deserialize(file).map_err(|error| error.to_string()));
    match (from_json, from_toml) {
        (Ok(one), Ok(other)) => {
            assert_eq!(one, other);
            Some(one)
        }
        (Err(error), Err(_)) => {
            let error = error.to_string();
            let named = FIELDS.iter().any(|field| error.contains(field));
            assert!(named, "names no field: {error} in {json}");
            None
        }
        // TOML has no whole numbers beyond 64 bits, and JSON no other difference here.
        (json, toml) => panic!("{json:?} but TOML {toml:?} for {pairs:?}"),
    }
}

fn breaker_works(config: Config) {
    let rate = |rate: Option<f64>| rate.is_none_or(|rate| rate > 0.0 && rate <= 1.0);
    let day = Duration::from_secs(86_400);
    assert!(rate(config.failure_rate()) && rate(config.slow_call_rate()));
    assert!((1..=1023).contains(&config.half_open_permits()));
    assert!((1..=config.half_open_permits()).contains(&config.success_threshold()));
    assert!(config.probe_failures() <= config.half_open_permits() - config.success_threshold());
    let calls = config.count_window().unwrap_or(10_000_000);
    assert!((1..=10_000_000).contains(&calls) && (1..=calls).contains(&config.minimum_calls()));
    assert!(config.reset_timeout() <= config.max_reset_timeout());
    assert!(config.max_reset_timeout() <= day && config.lease() <= day);
    assert!(config.on_cancel() != OnCancel::FailureWhenSlow || config.slow_call().is_some());
    if calls > 100_000 && config.count_window().is_some() {
        return;
    }
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::with_clock("fuzz", config, clock.clone());
    for call in 0..200 {
        match breaker.try_acquire() {
            Ok(permit) if call < 60 => permit.record(Outcome::Failure),
            Ok(permit) => permit.success(),
            Err(rejected) => clock.advance(rejected.retry_after()),
        }
    }
}

fn limiter_works(quota: Quota) {
    assert!(quota.burst_size() > 0 && quota.replenish_interval() > Duration::ZERO);
    let clock = ManualClock::new();
    let limiter = RateLimiter::with_clock(quota, clock.clone());
    let keyed = KeyedRateLimiter::<str>::with_clock(quota, 2, clock.clone());
    assert!(limiter.try_acquire_n(quota.burst_size()).is_ok());
    assert!(keyed.try_acquire_n("key", quota.burst_size()).is_ok());
    let limited = limiter.try_acquire().expect_err("it is empty");
    clock.advance(limited.retry_after.expect("one is not above the burst"));
    assert!(limiter.try_acquire().is_ok() && keyed.try_acquire("key").is_ok());
}
