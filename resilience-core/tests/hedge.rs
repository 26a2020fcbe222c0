//! When hedges begin, how many, and what is measured.

use std::{thread, time::Duration};

use allocation_counter::measure;
use proptest::prelude::*;
use resilience_core::{
    clock::ManualClock,
    hedge::{Change, Config, ConfigBuilder, HedgePolicy, Stop},
    retry::{BudgetChange, BudgetConfig, RetryBudget, RetryPolicy},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn budget(share: f64, burst: u32) -> RetryBudget {
    let config = BudgetConfig::new(share, 0).and_then(|config| config.burst(burst));
    RetryBudget::with_clock(config.unwrap(), ManualClock::new())
}

fn policy(config: ConfigBuilder, budget: RetryBudget) -> (HedgePolicy, ManualClock) {
    let clock = ManualClock::new();
    let policy = HedgePolicy::with_clock(config.build().unwrap(), budget, clock.clone());
    (policy, clock)
}

/// Attempts that are answered after 1, 2 … `last` milliseconds.
fn answer(policy: &HedgePolicy, clock: &ManualClock, last: u32) {
    for ms in 1..=last {
        let (_call, attempt) = policy.begin();
        clock.advance(MS * ms);
        attempt.answered();
    }
}

fn near(found: Option<Duration>, exact: Duration) -> bool {
    found.is_some_and(|found| found >= exact && found < exact.mul_f64(1.0 + 1.0 / 16.0))
}

#[test]
fn no_hedge_begins_until_enough_is_measured_and_then_at_the_quantile() {
    let (policy, clock) = policy(Config::builder().min_samples(90), budget(0.0, 9));
    answer(&policy, &clock, 80);
    assert_eq!(policy.begin().0.delay(), None);
    answer(&policy, &clock, 100);
    let snapshot = policy.snapshot();
    assert!(near(snapshot.delay, MS * 91), "{snapshot:?}");
    assert!(near(snapshot.median, MS * 45), "{snapshot:?}");
    assert_eq!(policy.begin().0.delay(), snapshot.delay);
}

#[test]
fn as_many_attempts_as_asked_for_are_enough() {
    let (policy, clock) = policy(Config::builder().min_samples(10), budget(0.0, 9));
    answer(&policy, &clock, 9);
    assert_eq!(
        (policy.snapshot().samples, policy.snapshot().delay),
        (9, None)
    );
    let (_call, last) = policy.begin();
    clock.advance(10 * MS);
    last.answered();
    assert!(near(policy.snapshot().delay, 10 * MS));
}

#[test]
fn the_fixed_delay_holds_until_enough_is_measured_and_always_without_a_quantile() {
    let config = Config::builder().fixed_delay(70 * MS).min_samples(50);
    let (measured, clock) = policy(config, budget(0.0, 9));
    assert_eq!(measured.snapshot().delay, Some(70 * MS));
    answer(&measured, &clock, 100);
    assert!(near(measured.snapshot().delay, MS * 95));
    measured.set_config(config.quantile(None).build().unwrap());
    assert_eq!(measured.snapshot().delay, Some(70 * MS));
    measured.set_config(config.quantile(0.5).build().unwrap());
    assert!(
        near(measured.snapshot().delay, MS * 50),
        "by what was measured"
    );
}

#[test]
fn no_hedge_begins_before_the_least_delay_nor_with_none_allowed() {
    let config = Config::builder().min_samples(10).min_delay(SECOND);
    let (policy, clock) = policy(config, budget(0.0, 9));
    answer(&policy, &clock, 50);
    assert_eq!(policy.snapshot().delay, Some(SECOND));
    policy.set_config(config.max_hedges(0).build().unwrap());
    let (mut call, _first) = policy.begin();
    assert_eq!(call.delay(), None);
    assert_eq!(call.hedge(None).unwrap_err(), Stop::Attempts);
}

#[test]
fn a_call_has_so_many_hedges_and_each_is_paid_for() {
    let (policy, _) = policy(Config::builder().max_hedges(2), budget(0.0, 3));
    let (mut one, _first) = policy.begin();
    let hedges = [one.hedge(None).unwrap(), one.hedge(None).unwrap()];
    assert_eq!(one.hedge(None).unwrap_err(), Stop::Attempts);
    let attempts = hedges.map(|hedge| hedge.begin());
    let (mut other, _first) = policy.begin();
    let granted = other.hedge(None).unwrap();
    assert_eq!(other.hedge(None).unwrap_err(), Stop::Budget);
    drop(granted);
    assert_eq!(policy.budget().snapshot().balance, 1, "never begun");
    drop(attempts);
    let snapshot = policy.snapshot();
    assert_eq!(
        (snapshot.begun, snapshot.won, snapshot.no_budget),
        (2, 0, 1)
    );
}

#[test]
fn a_hedge_that_cannot_be_answered_in_time_is_not_begun_and_costs_nothing() {
    let (policy, clock) = policy(Config::builder().min_samples(10), budget(0.0, 1));
    let (mut unmeasured, _first) = policy.begin();
    assert_eq!(
        unmeasured.hedge(Some(Duration::ZERO)).unwrap_err(),
        Stop::Deadline
    );
    drop(unmeasured.hedge(Some(MS)).unwrap());
    answer(&policy, &clock, 100);
    let median = policy.snapshot().median.unwrap();
    let (mut call, _first) = policy.begin();
    let late = call.hedge(Some(median - MS)).unwrap_err();
    assert_eq!((late, late.as_str()), (Stop::Deadline, "deadline"));
    assert!(call.hedge(Some(median)).is_ok());
    let snapshot = policy.snapshot();
    assert_eq!(
        (snapshot.no_time, policy.budget().snapshot().balance),
        (2, 1)
    );
}

/// A tenth of the attempts takes 100 to 990 ms, evenly, and the others a few. Those that are hedged
/// lose. If losers were forgotten, only quick ones would be left: hedges would begin earlier and
/// earlier, until all slow calls are hedged at once. If they counted as answers, hedges would begin
/// where they began before, wherever that was.
#[test]
fn hedges_do_not_make_later_hedges_begin_earlier() {
    let config = Config::builder().min_samples(50).fixed_delay(100 * MS);
    let (policy, clock) = policy(config, budget(1.0, 10_000));
    for number in 0..20_000 {
        let quick = MS * (1 + number % 9);
        let slow = MS * (100 + number / 10 * 37 % 90 * 10);
        let took = if number % 10 > 0 { quick } else { slow };
        let (mut call, first) = policy.begin();
        let delay = call.delay().unwrap();
        if took <= delay + quick {
            clock.advance(took);
            first.answered();
            continue;
        }
        clock.advance(delay);
        let hedge = call.hedge(None).unwrap().begin();
        clock.advance(quick);
        hedge.answered();
        drop(first);
    }
    let snapshot = policy.snapshot();
    let near = 480 * MS..660 * MS;
    assert!(near.contains(&snapshot.delay.unwrap()), "{snapshot:?}");
}

#[test]
fn what_is_old_counts_less_and_is_forgotten_in_the_end() {
    let config = Config::builder().min_samples(10).window(SECOND);
    let (policy, clock) = policy(config, budget(0.0, 9));
    let steady = |ms: u32| {
        for _ in 0..200 {
            let (_call, attempt) = policy.begin();
            clock.advance(MS * ms);
            attempt.answered();
        }
    };
    steady(4);
    assert!(near(policy.snapshot().delay, MS * 4));
    // Four seconds, and so four halvings.
    steady(20);
    assert!(near(policy.snapshot().delay, MS * 20));
    steady(4);
    steady(4);
    steady(4);
    assert!(near(policy.snapshot().delay, MS * 4), "2.4 s later");
    clock.advance(30 * SECOND);
    let snapshot = policy.snapshot();
    assert_eq!((snapshot.delay, snapshot.samples), (None, 0));
}

#[test]
fn a_clock_that_steps_back_stops_neither_measuring_nor_forgetting() {
    let config = Config::builder().min_samples(10).window(SECOND);
    let clock = ManualClock::new();
    clock.advance(1_000 * SECOND);
    let config = config.build().unwrap();
    let policy = HedgePolicy::with_clock(config, budget(0.0, 9), clock.clone());
    let (_call, attempt) = policy.begin();
    clock.set(SECOND);
    attempt.answered();
    answer(&policy, &clock, 100);
    assert!(policy.snapshot().delay.is_some());
    clock.advance(60 * SECOND);
    assert_eq!(policy.snapshot().delay, None);
}

/// Retries and hedges of one upstream, in the same storm: one budget.
#[test]
fn retries_and_hedges_together_stay_within_one_budget() {
    const CALLS: u64 = 4_000;
    let budget = budget(0.1, 10);
    let retries = RetryPolicy::new(Default::default(), budget.clone());
    let config = Config::builder().fixed_delay(MS).build().unwrap();
    let hedges = HedgePolicy::inside_retry(config, budget, ManualClock::new());
    let call = || {
        let mut extra = 0;
        let mut attempts = retries.begin();
        loop {
            let (mut call, _first) = hedges.begin();
            if let Ok(hedge) = call.hedge(None) {
                drop(hedge.begin());
                extra += 1;
            }
            if attempts.retry(None, None).is_err() {
                return extra;
            }
            extra += 1;
        }
    };
    let mut extra: u64 = 0;
    thread::scope(|scope| {
        let storm = || (0..CALLS / 4).map(|_| call()).sum::<u64>();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(storm)).collect();
        extra = threads.into_iter().map(|t| t.join().unwrap()).sum();
    });
    assert!(extra <= 10 + CALLS / 10, "{extra}");
    assert!(extra >= 10 + CALLS / 10 - 8, "{extra}");
}

#[test]
fn a_call_and_its_hedge_allocate_nothing() {
    let (policy, clock) = policy(Config::builder().window(SECOND), budget(1.0, 1_000));
    let call = || {
        let (mut call, first) = policy.begin();
        clock.advance(5 * MS);
        call.hedge(None).unwrap().begin().answered();
        drop(first);
        drop(call.hedge(None));
    };
    call();
    assert_eq!(measure(|| (0..1_000).for_each(|_| call())).count_total, 0);
}

#[test]
fn a_setting_out_of_its_range_is_named_with_what_is_allowed() {
    let config = Config::builder;
    for (builder, text) in [
        (
            config().max_hedges(11),
            "max_hedges is 11, allowed: 0 to 10",
        ),
        (
            config().quantile(1.0),
            "quantile is 1, allowed: 0.5 to 0.999",
        ),
        (
            config().quantile(None),
            "fixed_delay is off, allowed: a time, while quantile is off",
        ),
        (config().window(MS), "window is 1ms, allowed: 10ms to 1 day"),
        (
            config().min_samples(9),
            "min_samples is 9, allowed: 10 to 1000000",
        ),
    ] {
        assert_eq!(builder.build().unwrap_err().to_string(), text);
    }
}

#[test]
fn settings_come_from_a_file_and_unknown_ones_are_refused() {
    let file = r#"{"quantile": "off", "fixed_delay": "50ms", "max_hedges": 2}"#;
    let config: Config = serde_json::from_str(file).unwrap();
    assert_eq!(
        (config.quantile(), config.fixed_delay()),
        (None, Some(50 * MS))
    );
    let error = serde_json::from_str::<Config>(r#"{"percentile": 95}"#).unwrap_err();
    assert!(error.to_string().contains("unknown field `percentile`"));
}

/// Attempts that are all answered after so long.
fn answer_after(policy: &HedgePolicy, clock: &ManualClock, time: Duration) {
    for _ in 0..100 {
        let (_call, attempt) = policy.begin();
        clock.advance(time);
        attempt.answered();
    }
}

#[test]
fn a_delay_that_was_learned_is_told_and_one_that_doubled_or_halved() {
    let config = Config::builder().min_samples(10).window(SECOND);
    let (policy, clock) = policy(config, budget(0.0, 9));
    let (_subscription, receiver) = policy.subscribe_channel(64);
    let told = || -> Vec<(Option<Duration>, Option<Duration>)> {
        let delays = receiver.try_iter().map(|change| match change {
            Change::Delay { from, to } => (from, to),
            other => panic!("{other:?}"),
        });
        delays.collect()
    };
    answer_after(&policy, &clock, 10 * MS);
    let [(None, learned)] = told()[..] else {
        panic!("one change, from never");
    };
    assert!(near(learned, 10 * MS));
    // Half as long again is not far.
    answer_after(&policy, &clock, 15 * MS);
    assert_eq!(told(), []);
    answer_after(&policy, &clock, 24 * MS);
    let [(from, longer)] = told()[..] else {
        panic!("one change, from what was told");
    };
    assert_eq!(from, learned);
    assert!(near(longer, 24 * MS), "{longer:?}");
    (0..5).for_each(|_| answer_after(&policy, &clock, 10 * MS));
    let [(from, shorter)] = told()[..] else {
        panic!("one change back");
    };
    assert_eq!(from, longer);
    assert!(near(shorter, 10 * MS), "{shorter:?}");
    // Nobody calls for so long that nothing is known any more; the next call finds that.
    clock.advance(60 * SECOND);
    assert_eq!(told(), []);
    let (call, attempt) = policy.begin();
    assert_eq!(
        told(),
        [(shorter, None)],
        "by the begin, and not by the end"
    );
    assert_eq!(call.delay(), None);
    drop(attempt);
    assert_eq!(told(), []);
}

#[test]
fn settings_and_the_budget_are_told_too_and_the_delay_as_calls_have_it() {
    let fixed = |millis: u32| Config::builder().fixed_delay(millis * MS);
    let (policy, _) = policy(fixed(50), budget(0.0, 1));
    let (subscription, receiver) = policy.subscribe_channel(8);
    let further = fixed(70).build().unwrap();
    policy.set_config(further);
    policy.set_config(further);
    let never = fixed(70).max_hedges(0).build().unwrap();
    policy.set_config(never);
    policy.set_config(further);
    let (mut call, _first) = policy.begin();
    drop(call.hedge(None).unwrap().begin());
    let (mut other, _first) = policy.begin();
    assert_eq!(other.hedge(None).unwrap_err(), Stop::Budget);
    assert_eq!(other.hedge(None).unwrap_err(), Stop::Budget);
    let changes: Vec<Change> = receiver.try_iter().collect();
    let expected = [
        Change::Settings(further),
        Change::Settings(never),
        Change::Delay {
            from: Some(50 * MS),
            to: None,
        },
        Change::Settings(further),
        Change::Delay {
            from: None,
            to: Some(70 * MS),
        },
        Change::Budget(BudgetChange::Spent),
    ];
    assert_eq!(changes, expected);
    drop(subscription);
    policy.set_config(never);
    policy.budget().set_config(BudgetConfig::default());
    assert!(receiver.try_recv().is_err());
}

proptest! {
    /// The plainest budget that could be right, in whole shares of 1/4.
    #[test]
    fn no_history_overdraws_the_budget(events in prop::collection::vec(0..4_u8, 1..200)) {
        let (policy, clock) = policy(Config::builder().max_hedges(3), budget(0.25, 4));
        let mut quarters = 16;
        let mut calls = Vec::new();
        for event in events {
            match event {
                0 => {
                    calls.push(policy.begin());
                    quarters = (quarters + 1).min(16);
                }
                1 => drop(calls.pop()),
                2 => clock.advance(MS),
                _ => {
                    let Some((call, _)) = calls.last_mut() else { continue };
                    let may = call.hedges() < 3 && quarters >= 4;
                    let hedge = call.hedge(None);
                    prop_assert_eq!(hedge.is_ok(), may);
                    if let Ok(hedge) = hedge {
                        drop(hedge.begin());
                        quarters -= 4;
                    }
                }
            }
        }
    }
}
