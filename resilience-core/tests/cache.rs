//! What an entry is good for, and who may join a call.

use std::time::Duration;

use proptest::prelude::*;
use resilience_core::{
    breaker::Outcome,
    cache::{Config, Freshness, Stamp, Terms},
    coalesce::{self, Join, Reason, Underway},
};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn config(revalidate: u64, error: u64) -> Config {
    let builder = Config::builder()
        .stale_while_revalidate((revalidate > 0).then(|| seconds(revalidate)))
        .stale_if_error((error > 0).then(|| seconds(error)));
    builder.build().unwrap()
}

#[test]
fn an_entry_is_fresh_then_stale_then_of_no_use() {
    let stamp = Stamp::new(Terms::fresh_for(seconds(10)), &config(5, 20), seconds(100));
    for (now, expected) in [
        (100, Freshness::Fresh),
        (109, Freshness::Fresh),
        (110, Freshness::StaleWhileRevalidate),
        (114, Freshness::StaleWhileRevalidate),
        (115, Freshness::StaleIfError),
        (129, Freshness::StaleIfError),
        (130, Freshness::Expired),
    ] {
        assert_eq!(stamp.at(seconds(now)), expected, "{now}");
        assert_eq!(stamp.stands_in(seconds(now)), now < 130, "{now}");
    }
    // A clock that steps back.
    assert_eq!(stamp.at(Duration::ZERO), Freshness::Fresh);
}

#[test]
fn a_negative_answer_is_never_stale() {
    let terms = Terms::negative_for(seconds(1)).stale_if_error(seconds(50));
    let stamp = Stamp::new(terms, &config(5, 20), Duration::ZERO);
    assert_eq!(stamp.at(Duration::ZERO), Freshness::Negative);
    assert!(!stamp.stands_in(Duration::ZERO));
    assert_eq!(stamp.at(seconds(1)), Freshness::Expired);
}

#[test]
fn an_answer_may_have_stale_times_of_its_own() {
    let terms = Terms::fresh_for(seconds(1))
        .stale_while_revalidate(Duration::ZERO)
        .stale_if_error(seconds(2));
    let stamp = Stamp::new(terms, &config(5, 20), Duration::ZERO);
    assert_eq!(stamp.at(seconds(1)), Freshness::StaleIfError);
    assert_eq!(stamp.at(seconds(3)), Freshness::Expired);
}

#[test]
fn times_that_no_clock_holds_end_with_the_clock() {
    let stamp = Stamp::new(Terms::fresh_for(Duration::MAX), &config(5, 20), seconds(7));
    assert_eq!(stamp.at(Duration::MAX - seconds(1)), Freshness::Fresh);
    assert_eq!(stamp.at(Duration::MAX), Freshness::Expired);
}

#[test]
fn a_failure_is_not_tried_again_at_once() {
    let config = Config::builder().revalidation_pause(seconds(2)).build();
    let (config, now) = (config.unwrap(), seconds(100));
    let asked = |retry_after| Outcome::Overloaded { retry_after };
    for (outcome, until) in [
        (Outcome::Success, None),
        (Outcome::Failure, Some(102)),
        (Outcome::Ignored, Some(102)),
        (asked(None), Some(102)),
        (asked(Some(seconds(1))), Some(102)),
        (asked(Some(seconds(30))), Some(130)),
        (asked(Some(seconds(1_000_000))), Some(100 + 86_400)),
    ] {
        assert_eq!(config.pause_after(outcome, now), until.map(seconds));
    }
}

#[test]
fn a_setting_out_of_its_range_is_named() {
    let cases = [
        (
            Config::builder().max_weight(0),
            "max_weight is 0, allowed: 1 to 4611686018427387904",
        ),
        (
            Config::builder().stale_if_error(Duration::ZERO),
            "stale_if_error is 0ns, allowed: 1ms to 1 day",
        ),
        (
            Config::builder().max_revalidations(0),
            "max_revalidations is 0, allowed: 1 to 100000",
        ),
        (
            Config::builder().max_tags(1001),
            "max_tags is 1001, allowed: 0 to 1000",
        ),
    ];
    for (builder, message) in cases {
        assert_eq!(builder.build().unwrap_err().to_string(), message);
    }
    let error = coalesce::Config::builder().max_keys(0).build().unwrap_err();
    assert_eq!(error.to_string(), "max_keys is 0, allowed: 1 to 10000000");
}

#[test]
fn settings_are_read_from_files() {
    let text = r#"{
        "max_weight": 1000,
        "stale_while_revalidate": "5s",
        "stale_if_error": "off",
        "revalidation_pause": "250ms",
        "coalesce": { "max_keys": 5, "join_within": "1m" }
    }"#;
    let config: Config = serde_json::from_str(text).unwrap();
    assert_eq!(config.max_weight(), 1000);
    assert_eq!(config.stale_while_revalidate(), Some(seconds(5)));
    assert_eq!(config.stale_if_error(), None);
    assert_eq!(config.revalidation_pause(), Duration::from_millis(250));
    assert_eq!(config.coalesce().max_keys(), 5);
    assert_eq!(config.coalesce().join_within(), Some(seconds(60)));
    for wrong in [
        r#"{"max_wait": 1}"#,
        r#"{"max_weight": 0}"#,
        r#"{"coalesce": {"max_keys": 0}}"#,
    ] {
        assert!(serde_json::from_str::<Config>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn who_calls_begins_or_follows_or_is_refused() {
    let config = coalesce::Config::builder().max_keys(2).max_followers(3);
    let config = config.join_within(seconds(5)).build().unwrap();
    let call = |followers| {
        Some(Underway {
            began: seconds(10),
            followers,
        })
    };
    let reason = |underway, keys, now| {
        let refused = config.join(underway, keys, seconds(now)).unwrap_err();
        (refused.reason, refused.limit)
    };
    assert_eq!(config.join(None, 1, seconds(10)), Ok(Join::Begin));
    assert_eq!(reason(None, 2, 10), (Reason::Keys, 2));
    assert_eq!(config.join(call(2), 2, seconds(14)), Ok(Join::Follow));
    assert_eq!(reason(call(3), 2, 14), (Reason::Followers, 3));
    // Too old: another one takes its place, whatever the number of keys and followers.
    assert_eq!(config.join(call(3), 2, seconds(15)), Ok(Join::Begin));
    assert_eq!(config.join(call(2), 2, Duration::ZERO), Ok(Join::Follow));
}

proptest! {
    /// Whatever the terms: the kinds come in order, none comes back, and the model agrees on each.
    #[test]
    fn it_does_what_a_plain_model_does(
        fresh in 0..30_u64,
        stored in 0..30_u64,
        usual in (0..20_u64, 0..20_u64),
        own in (prop::option::of(0..20_u64), prop::option::of(0..20_u64)),
        negative: bool,
    ) {
        let mut terms = if negative {
            Terms::negative_for(seconds(fresh))
        } else {
            Terms::fresh_for(seconds(fresh))
        };
        if let Some(own) = own.0 {
            terms = terms.stale_while_revalidate(seconds(own));
        }
        if let Some(own) = own.1 {
            terms = terms.stale_if_error(seconds(own));
        }
        let stamp = Stamp::new(terms, &config(usual.0, usual.1), seconds(stored));
        for age in 0..100 {
            let stale = age as i64 - fresh as i64;
            let within = |own: Option<u64>, usual| {
                !negative && stale < own.unwrap_or(usual) as i64
            };
            let (renewed, errors) = (within(own.0, usual.0), within(own.1, usual.1));
            let expected = match (stale < 0, negative) {
                (true, false) => Freshness::Fresh,
                (true, true) => Freshness::Negative,
                (false, _) if renewed => Freshness::StaleWhileRevalidate,
                (false, _) if errors => Freshness::StaleIfError,
                (false, _) => Freshness::Expired,
            };
            let now = seconds(stored + age);
            prop_assert_eq!(stamp.at(now), expected);
            prop_assert_eq!(stamp.stands_in(now), !negative && (stale < 0 || renewed || errors));
        }
    }
}
