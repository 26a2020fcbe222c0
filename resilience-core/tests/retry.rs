//! Which calls are tried again, and when.

use std::time::Duration;

use resilience_core::{
    clock::ManualClock,
    retry::{
        Backoff, BudgetChange, BudgetConfig, Change, Config, Jitter, RetryBudget, RetryPolicy, Stop,
    },
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn config(max_attempts: u32) -> Config {
    let backoff = Backoff::new(100 * MS, SECOND).unwrap();
    let builder = Config::builder().max_attempts(max_attempts);
    builder
        .backoff(backoff.jitter(Jitter::None))
        .build()
        .unwrap()
}

fn policy(max_attempts: u32) -> (RetryPolicy, ManualClock) {
    let clock = ManualClock::new();
    let budget = BudgetConfig::new(0.0, 0).unwrap().burst(100).unwrap();
    let budget = RetryBudget::with_clock(budget, clock.clone());
    let policy = RetryPolicy::with_clock(config(max_attempts), budget, clock.clone());
    (policy, clock)
}

fn balance(policy: &RetryPolicy) -> u32 {
    policy.budget().snapshot().balance
}

#[test]
fn a_call_has_as_many_attempts_as_is_said_and_waits_longer_each_time() {
    let (policy, _) = policy(4);
    let mut call = policy.begin();
    for wait in [100, 200, 400] {
        assert_eq!(call.retry(None, None), Ok(wait * MS));
    }
    assert_eq!(call.made(), 4);
    assert_eq!(call.retry(None, None), Err(Stop::Attempts));
    assert_eq!(balance(&policy), 97);
}

#[test]
fn one_attempt_in_all_is_never_tried_again() {
    let (policy, _) = policy(1);
    assert_eq!(policy.begin().retry(None, None), Err(Stop::Attempts));
    assert_eq!(balance(&policy), 100);
}

#[test]
fn what_the_upstream_asks_for_is_waited_and_the_backoff_on_top() {
    let (policy, _) = policy(3);
    let mut call = policy.begin();
    assert_eq!(call.retry(Some(3 * SECOND), None), Ok(3100 * MS));
    // The next backoff does not grow from what was asked for.
    assert_eq!(call.retry(Some(Duration::ZERO), None), Ok(200 * MS));
}

#[test]
fn an_upstream_that_asks_for_too_long_is_left_alone() {
    let (policy, _) = policy(3);
    let asked = policy.config().max_retry_after();
    let mut call = policy.begin();
    let longer = Some(asked + Duration::from_nanos(1));
    assert_eq!(call.retry(longer, None), Err(Stop::RetryAfter));
    assert_eq!(call.retry(Some(Duration::MAX), None), Err(Stop::RetryAfter));
    assert_eq!((call.made(), balance(&policy)), (1, 100));
    assert_eq!(call.retry(Some(asked), None), Ok(asked + 100 * MS));
}

#[test]
fn a_retry_that_would_begin_at_the_deadline_or_later_is_not_begun_and_costs_nothing() {
    let (policy, clock) = policy(3);
    clock.advance(SECOND);
    let mut call = policy.begin();
    assert_eq!(call.retry(None, Some(1100 * MS)), Err(Stop::Deadline));
    assert_eq!((call.made(), balance(&policy)), (1, 100));
    let later = 1100 * MS + Duration::from_nanos(1);
    assert_eq!(call.retry(None, Some(later)), Ok(100 * MS));
    assert_eq!(call.retry(None, Some(Duration::ZERO)), Err(Stop::Deadline));
}

#[test]
fn a_first_attempt_earns_its_share_and_a_retry_earns_nothing() {
    let clock = ManualClock::new();
    let budget = BudgetConfig::new(1.0, 0).unwrap().burst(2).unwrap();
    let budget = RetryBudget::with_clock(budget, clock.clone());
    let policy = RetryPolicy::with_clock(config(9), budget, clock);
    (0..2).for_each(|_| policy.budget().try_withdraw().unwrap());
    let mut call = policy.begin();
    assert_eq!(balance(&policy), 1);
    call.retry(None, None).unwrap();
    assert_eq!(balance(&policy), 0);
    assert_eq!(call.retry(None, None), Err(Stop::Budget));
}

#[test]
fn waits_that_an_upstream_asked_for_do_not_make_later_ones_longer() {
    let clock = ManualClock::new();
    let backoff = Backoff::new(10 * MS, 10 * SECOND).unwrap();
    let config = Config::builder().max_attempts(100);
    let config = config.backoff(backoff.jitter(Jitter::Decorrelated)).build();
    let budget = RetryBudget::with_clock(BudgetConfig::default(), clock.clone());
    let policy = RetryPolicy::with_clock(config.unwrap(), budget, clock);
    let mut call = policy.begin();
    let first = call.retry(Some(20 * SECOND), None).unwrap() - 20 * SECOND;
    let second = call.retry(None, None).unwrap();
    assert!(second <= first * 3, "{first:?} {second:?}");
}

#[test]
fn a_spent_budget_stops_every_call() {
    let (policy, _) = policy(100);
    let mut calls = [policy.begin(), policy.begin()];
    (0..50).for_each(|_| {
        for call in &mut calls {
            call.retry(None, None).unwrap();
        }
    });
    for call in &mut calls {
        assert_eq!(call.retry(None, None), Err(Stop::Budget));
        assert_eq!(call.made(), 51);
    }
    assert_eq!(policy.budget().snapshot().refused, 2);
}

#[test]
fn new_settings_hold_for_the_next_decision_of_a_call_under_way() {
    let (policy, _) = policy(2);
    let mut call = policy.begin();
    call.retry(None, None).unwrap();
    assert_eq!(call.retry(None, None), Err(Stop::Attempts));
    policy.set_config(config(3));
    assert_eq!(call.retry(None, None), Ok(200 * MS));
    policy.set_config(config(1));
    assert_eq!(call.retry(None, None), Err(Stop::Attempts));
}

#[test]
fn a_seed_gives_the_same_waits_again() {
    let waits = |seed| {
        let clock = ManualClock::new();
        let budget = RetryBudget::with_clock(BudgetConfig::default(), clock.clone());
        let config = Config::builder().max_attempts(6).build().unwrap();
        let policy = RetryPolicy::with_seed(config, budget, clock, seed);
        let mut call = policy.begin();
        (0..5)
            .map(|_| call.retry(None, None).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(waits(7), waits(7));
    assert_ne!(waits(7), waits(8));
}

#[test]
fn settings_out_of_range_are_named() {
    let error = Config::builder().max_attempts(0).build().unwrap_err();
    assert_eq!(error.to_string(), "max_attempts is 0, allowed: 1 to 100");
    let error = Config::builder().max_retry_after(Duration::MAX).build();
    assert_eq!(error.unwrap_err().field, "max_retry_after");
}

#[test]
fn settings_are_read_from_a_file_and_wrong_ones_are_named() {
    let json = r#"{ "max_attempts": 5, "max_retry_after": "10s",
        "backoff": { "base": "10ms", "cap": "1s", "jitter": "decorrelated" } }"#;
    let config: Config = serde_json::from_str(json).unwrap();
    assert_eq!(config.max_attempts(), 5);
    assert_eq!(config.max_retry_after(), 10 * SECOND);
    let backoff = Backoff::new(10 * MS, SECOND).unwrap();
    assert_eq!(config.backoff(), backoff.jitter(Jitter::Decorrelated));
    for (json, said) in [
        (
            r#"{ "max_attempts": 101 }"#,
            "max_attempts is 101, allowed: 1 to 100",
        ),
        (r#"{ "attempts": 1 }"#, "unknown field `attempts`"),
        (
            r#"{ "backoff": { "base": "1s", "cap": "10ms" } }"#,
            "cap is 10ms",
        ),
    ] {
        let error = serde_json::from_str::<Config>(json)
            .unwrap_err()
            .to_string();
        assert!(error.contains(said), "{error}");
    }
    let budget: BudgetConfig = serde_json::from_str(r#"{ "share": 0.1 }"#).unwrap();
    assert_eq!(budget, BudgetConfig::new(0.1, 10).unwrap());
    let error = serde_json::from_str::<BudgetConfig>(r#"{ "share": 1.5 }"#).unwrap_err();
    assert!(
        error.to_string().contains("share is 1.5, allowed: 0 to 1"),
        "{error}"
    );
}

#[test]
fn what_became_of_failed_attempts_is_counted() {
    let (policy, _) = policy(2);
    let mut call = policy.begin();
    assert!(call.retry(None, None).is_ok());
    assert_eq!(call.retry(None, None), Err(Stop::Attempts));
    let mut call = policy.begin();
    assert_eq!(call.retry(Some(31 * SECOND), None), Err(Stop::RetryAfter));
    for _ in 0..2 {
        assert_eq!(call.retry(None, Some(MS)), Err(Stop::Deadline));
    }
    while policy.budget().try_withdraw().is_ok() {}
    for _ in 0..3 {
        assert_eq!(call.retry(None, None), Err(Stop::Budget));
    }

    let snapshot = policy.snapshot();
    assert_eq!(snapshot.retries, 1);
    let stopped = snapshot.stopped;
    assert_eq!((stopped.attempts, stopped.retry_after), (1, 1));
    assert_eq!((stopped.deadline, stopped.budget), (2, 3));
    assert_eq!(snapshot.budget.balance, 0);
}

#[test]
fn a_way_back_keeps_no_policy_alive() {
    let (policy, _) = policy(2);
    let way_back = policy.downgrade();
    let call = policy.begin();
    drop(policy);
    assert!(way_back().is_some(), "a call is a handle");
    drop(call);
    assert!(way_back().is_none());
}

#[test]
fn who_subscribes_hears_of_the_settings_and_of_the_budget_and_not_of_each_call() {
    let (policy, _) = policy(10);
    let (subscription, receiver) = policy.subscribe_channel(8);
    policy.set_config(config(3));
    policy.set_config(config(3));
    policy.budget().set_config(budget_of(1));
    for _ in 0..5 {
        let mut call = policy.begin();
        while call.retry(None, None).is_ok() {}
    }
    let changes: Vec<Change> = receiver.try_iter().collect();
    let settings = BudgetChange::Settings(budget_of(1));
    let expected = [
        Change::Settings(config(3)),
        Change::Budget(settings),
        Change::Budget(BudgetChange::Spent),
    ];
    assert_eq!(changes, expected);
    // One subscription is for both.
    drop(subscription);
    policy.set_config(config(4));
    policy.budget().set_config(budget_of(2));
    assert!(receiver.try_recv().is_err());
}

#[test]
fn a_subscription_that_is_forgotten_lasts_and_counts_what_it_loses() {
    let (policy, _) = policy(10);
    let (subscription, receiver) = policy.subscribe_channel(2);
    subscription.forget();
    policy.set_config(config(4));
    policy.budget().set_config(budget_of(2));
    policy.budget().set_config(budget_of(3));
    assert_eq!(receiver.try_iter().count(), 2);
    assert_eq!(policy.snapshot().lost_events, 1);
}

fn budget_of(burst: u32) -> BudgetConfig {
    BudgetConfig::new(0.0, 0).unwrap().burst(burst).unwrap()
}
