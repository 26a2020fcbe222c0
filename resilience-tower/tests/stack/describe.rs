//! Stacks as data, and what changes while calls run.

use std::time::Duration;

use resilience_core::{adaptive, breaker, bulkhead, hedge};
use resilience_tower::admission::Policy;
use resilience_tower::stack::{
    self, AttemptTimeout, Deadline, Description, DescriptionError, Quota, Retry, Stack,
};

use super::{MS, SECOND};

/// Every policy but the bulkhead.
fn full() -> Description {
    let order = [
        Policy::RateLimit,
        Policy::Deadline,
        Policy::Retry,
        Policy::Hedge,
        Policy::Breaker,
        Policy::Adaptive,
        Policy::UpstreamQuota,
        Policy::AttemptTimeout,
    ];
    let quota = || {
        Some(Quota {
            permits: 10,
            per: SECOND,
            burst: Some(5),
        })
    };
    let mut description = Description::new("payments", order);
    description.rate_limit = quota();
    description.deadline = Some(Deadline {
        total: SECOND,
        least: MS,
    });
    description.retry = Some(Retry::default());
    description.breaker = Some(breaker::Config::builder());
    description.adaptive = Some(adaptive::Config::builder());
    description.upstream_quota = quota();
    description.attempt_timeout = Some(AttemptTimeout { after: 500 * MS });
    description
}

fn told(description: &Description) -> String {
    let error = Stack::from_description(description).unwrap_err();
    error.to_string()
}

#[test]
fn presets_are_described_as_they_are_made() {
    for (stack, description) in [
        (stack::outbound("a"), Description::outbound("a")),
        (stack::background("b"), Description::background("b")),
        (stack::store("c"), Description::store("c")),
        (stack::inbound("d"), Description::inbound("d")),
        // Any name will do.
        (stack::outbound(""), Description::outbound("")),
    ] {
        assert_eq!(stack.handle().description(), description);
        assert_eq!(stack.handle().name(), description.name);
    }
    let handle = stack::store("orders").handle();
    assert!(handle.retry().is_none() && handle.rate_limit().is_none());
    assert_eq!(handle.bulkhead().unwrap().config().max_queue(), 100);
}

#[test]
fn what_a_section_leaves_out_is_at_its_default() {
    let mut description = full();
    (description.retry, description.breaker, description.adaptive) = (None, None, None);
    let handle = Stack::from_description(&description).unwrap().handle();
    assert_eq!(handle.breaker().unwrap().config().failure_rate(), Some(0.5));
    assert_eq!(handle.retry().unwrap().config().max_attempts(), 3);
    assert_eq!(handle.adaptive().unwrap().config().initial_limit(), 20);
}

#[test]
fn a_setting_out_of_its_range_is_told_by_path_value_and_what_is_allowed() {
    type Change = fn(&mut Description);
    let cases: [(Change, &str); 15] = [
        (
            |stack| stack.rate_limit.as_mut().unwrap().permits = 0,
            "rate_limit.permits is 0, allowed: 1 or more",
        ),
        (
            |stack| stack.rate_limit = None,
            "rate_limit is not said, allowed: how many (`permits`) in what time (`per`)",
        ),
        (
            |stack| stack.upstream_quota.as_mut().unwrap().burst = Some(0),
            "upstream_quota.burst is 0, allowed: 1 to 315360000",
        ),
        (
            |stack| stack.deadline.as_mut().unwrap().total = Duration::ZERO,
            "deadline.total is 0ns, allowed: 1ns to 1 day",
        ),
        (
            |stack| stack.deadline = None,
            "deadline.total is not said, allowed: 1ns to 1 day",
        ),
        (
            |stack| stack.deadline.as_mut().unwrap().least = 2 * SECOND,
            "deadline.least is 2s, allowed: up to total, 1s",
        ),
        (
            |stack| stack.retry.as_mut().unwrap().max_attempts = 0,
            "retry.max_attempts is 0, allowed: 1 to 100",
        ),
        (
            |stack| stack.retry.as_mut().unwrap().backoff.cap = MS,
            "retry.backoff.cap is 1ms, allowed: 50ms (the base) to 1 day",
        ),
        (
            |stack| stack.retry.as_mut().unwrap().budget.share = 1.5,
            "retry.budget.share is 1.5, allowed: 0 to 1",
        ),
        (
            |stack| stack.retry.as_mut().unwrap().budget.burst = Some(0),
            "retry.budget.burst is 0, allowed: 1 to 1000000",
        ),
        (
            |stack| stack.hedge = Some(hedge::Config::builder().max_hedges(11)),
            "hedge.max_hedges is 11, allowed: 0 to 10",
        ),
        (
            |stack| stack.breaker = Some(breaker::Config::builder().failure_rate(0.0)),
            "breaker.failure_rate is 0, allowed: over 0, up to 1",
        ),
        (
            |stack| stack.adaptive = Some(adaptive::Config::builder().min_limit(0)),
            "adaptive.min_limit is 0, allowed: 1 to 1000",
        ),
        (
            |stack| stack.attempt_timeout.as_mut().unwrap().after = Duration::ZERO,
            "attempt_timeout.after is 0ns, allowed: 1ns to 1 day",
        ),
        (
            |stack| stack.attempt_timeout.as_mut().unwrap().after = SECOND,
            "attempt_timeout.after is 1s, allowed: less than deadline.total, 1s",
        ),
    ];
    assert!(Stack::from_description(&full()).is_ok());
    for (change, message) in cases {
        let mut description = full();
        change(&mut description);
        assert_eq!(told(&description), message);
    }
}

#[test]
fn settings_of_a_policy_that_is_not_there_are_an_error() {
    let mut description = full();
    description.bulkhead = Some(bulkhead::Config::builder());
    assert_eq!(
        told(&description),
        "bulkhead has settings, and is not in the order"
    );
}

/// The settings in force, as the policies themselves tell them.
fn in_force(stack: &Stack) -> String {
    let handle = stack.handle();
    let retry = handle
        .retry()
        .map(|policy| (policy.config(), policy.budget().config()));
    format!(
        "{:?} {:?} {retry:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        handle.rate_limit().map(|limiter| limiter.quota()),
        handle.deadline().map(|deadlines| deadlines.config()),
        handle.hedge().map(|policy| policy.config()),
        handle.breaker().map(|breaker| breaker.config()),
        handle.bulkhead().map(|bulkhead| bulkhead.config()),
        handle.adaptive().map(|limit| limit.config()),
        handle.upstream_quota().map(|limiter| limiter.quota()),
        handle.attempt_timeout().map(|deadlines| deadlines.config()),
    )
}

fn changed() -> Description {
    let mut description = full();
    description.rate_limit.as_mut().unwrap().permits = 20;
    description.deadline.as_mut().unwrap().total = 2 * SECOND;
    let retry = description.retry.as_mut().unwrap();
    (retry.max_attempts, retry.budget.share) = (5, 0.5);
    description.hedge = Some(hedge::Config::builder().max_hedges(2));
    description.breaker = Some(breaker::Config::builder().failure_rate(0.25));
    description.adaptive = Some(adaptive::Config::builder().max_limit(50));
    description.upstream_quota.as_mut().unwrap().burst = Some(7);
    description.attempt_timeout.as_mut().unwrap().after = 700 * MS;
    description
}

#[test]
fn a_description_changes_all_policies_in_place() {
    let stack = Stack::from_description(&full()).unwrap();
    let handle = stack.handle();
    let breaker = handle.breaker().unwrap().clone();
    handle.apply(&changed()).unwrap();
    let fresh = Stack::from_description(&changed()).unwrap();
    assert_eq!(in_force(&stack), in_force(&fresh));
    assert_eq!(handle.description(), changed());
    assert_eq!(breaker.config().failure_rate(), Some(0.25), "the same one");
}

#[test]
fn a_description_with_one_mistake_changes_nothing() {
    let stack = Stack::from_description(&full()).unwrap();
    let before = in_force(&stack);
    type Change = fn(&mut Description);
    let cases: [(Change, &str); 4] = [
        (
            |stack| stack.attempt_timeout.as_mut().unwrap().after = 3 * SECOND,
            "attempt_timeout.after is 3s, allowed: less than deadline.total, 2s",
        ),
        (
            |stack| stack.name = "other".into(),
            "name is \"other\", allowed: \"payments\", as it was made",
        ),
        (
            |stack| {
                stack.order.remove(0);
                stack.rate_limit = None;
            },
            "order is [deadline, retry, hedge, breaker, adaptive, upstream_quota, attempt_timeout], \
             allowed: [rate_limit, deadline, retry, hedge, breaker, adaptive, upstream_quota, \
             attempt_timeout], as it was made",
        ),
        (
            |stack| stack.order.swap(1, 2),
            "order has retry outside of deadline: \
             every attempt would have the time of the whole call",
        ),
    ];
    for (change, message) in cases {
        let mut description = changed();
        change(&mut description);
        let error = stack.handle().apply(&description).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(in_force(&stack), before);
        assert_eq!(stack.handle().description(), full());
    }
}

#[test]
fn a_line_is_made_with_the_stack_or_not_at_all() {
    for (made, applied, message) in [
        (
            0,
            5,
            "bulkhead.max_queue is 5, allowed: 0, as it was made without a line",
        ),
        (
            5,
            0,
            "bulkhead.max_queue is 0, allowed: 1 or more, as it was made with a line",
        ),
    ] {
        let line = |places| Some(bulkhead::Config::builder().max_queue(places));
        let stack = stack::outbound("payments").configure(|stack| stack.bulkhead = line(made));
        let handle = stack.unwrap().handle();
        let mut description = handle.description();
        description.bulkhead = line(applied);
        let error = handle.apply(&description).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(handle.bulkhead().unwrap().config().max_queue(), made);
    }
}

#[test]
fn what_configure_is_told_wrong_is_told_by_its_path() {
    let stack = stack::inbound("orders").configure(|orders| {
        orders.deadline.as_mut().unwrap().total = Duration::ZERO;
    });
    let error = stack.unwrap_err();
    assert!(matches!(error, DescriptionError::Setting { path, .. } if path == "deadline.total"));
}

#[cfg(feature = "serde")]
mod files {
    use super::*;

    const TOML: &str = r#"
        name = "payments"
        order = ["deadline", "retry", "breaker", "bulkhead", "attempt_timeout"]

        [deadline]
        total = "3s"

        [retry]
        max_attempts = 4
        backoff = { base = "100ms", cap = "1s", jitter = "equal" }
        budget = { share = 0.1 }

        [breaker]
        failure_rate = 0.3
        slow_call = "off"

        [attempt_timeout]
        after = "800ms"
    "#;

    const JSON: &str = r#"{
        "name": "payments",
        "order": ["deadline", "retry", "breaker", "bulkhead", "attempt_timeout"],
        "deadline": { "total": "3s" },
        "retry": {
            "max_attempts": 4,
            "backoff": { "base": "100ms", "cap": "1s", "jitter": "equal" },
            "budget": { "share": 0.1 }
        },
        "breaker": { "failure_rate": 0.3, "slow_call": "off" },
        "attempt_timeout": { "after": "800ms" }
    }"#;

    fn toml(text: &str) -> Result<Description, DescriptionError> {
        Description::read(toml::Deserializer::parse(text).unwrap())
    }

    #[test]
    fn toml_and_json_tell_the_same() {
        let description = toml(TOML).unwrap();
        assert_eq!(toml::from_str::<Description>(TOML).unwrap(), description);
        let json = &mut serde_json::Deserializer::from_str(JSON);
        assert_eq!(Description::read(json).unwrap(), description);
        let handle = Stack::from_description(&description).unwrap().handle();
        let retry = handle.retry().unwrap();
        assert_eq!(retry.config().max_attempts(), 4);
        assert_eq!(retry.config().max_retry_after(), 30 * SECOND);
        assert_eq!(retry.config().backoff().step(1), 100 * MS);
        assert_eq!(retry.budget().config().share(), 0.1);
        assert_eq!(retry.budget().config().floor_per_second(), 10);
        assert_eq!(handle.breaker().unwrap().config().failure_rate(), Some(0.3));
        assert_eq!(handle.bulkhead().unwrap().config().limit(), 100);
        let attempt = handle.attempt_timeout().unwrap().config().attempt();
        assert_eq!(attempt, Some(Duration::from_millis(800)));
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_path_in_any_format() {
        for (good, bad, path, message) in [
            (
                "max_attempts = 4",
                "max_atempts = 4",
                "retry.max_atempts",
                "unknown field",
            ),
            (
                "max_attempts = 4",
                "max_attempts = \"4\"",
                "retry.max_attempts",
                "invalid type",
            ),
            ("\"100ms\"", "\"100\"", "retry.backoff.base", "a duration"),
            (
                "share = 0.1",
                "share = true",
                "retry.budget.share",
                "invalid type",
            ),
            (
                "\"equal\"",
                "\"some\"",
                "retry.backoff.jitter",
                "unknown variant",
            ),
            ("\"3s\"", "3", "deadline.total", "invalid type"),
            (
                "failure_rate = 0.3",
                "rate = 0.3",
                "breaker.rate",
                "unknown field",
            ),
            ("\"bulkhead\"", "\"bulk\"", "order[3]", "unknown variant"),
            ("[attempt_timeout]", "[attempt]", "attempt", "unknown field"),
        ] {
            let text = TOML.replacen(good, bad, 1);
            assert_ne!(text, TOML);
            let error = toml(&text).unwrap_err();
            let told = error.to_string();
            assert!(told.starts_with(&format!("{path}: ")), "{told}");
            assert!(told.contains(message), "{told}");
        }
        let json = JSON.replacen("\"100ms\"", "100", 1);
        let error = Description::read(&mut serde_json::Deserializer::from_str(&json));
        let told = error.unwrap_err().to_string();
        assert!(
            told.starts_with("retry.backoff.base: invalid type"),
            "{told}"
        );
    }

    #[test]
    fn a_file_that_is_right_but_for_a_range_is_told_by_the_same_paths() {
        let description = toml(&TOML.replacen("\"1s\"", "\"10ms\"", 1)).unwrap();
        assert_eq!(
            told(&description),
            "retry.backoff.cap is 10ms, allowed: 100ms (the base) to 1 day"
        );
    }
}
