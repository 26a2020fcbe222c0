//! What is judged, and when: corners that a review found.

use std::time::Duration;

use resilience_core::{breaker::*, clock::ManualClock};

const SECOND: Duration = Duration::from_secs(1);

fn breaker(config: ConfigBuilder) -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::with_clock("judge", config.build().unwrap(), clock.clone());
    (breaker, clock)
}

fn fail(breaker: &CircuitBreaker, times: u32) {
    for _ in 0..times {
        breaker.try_acquire().unwrap().failure();
    }
}

fn succeed(breaker: &CircuitBreaker, times: u32) {
    for _ in 0..times {
        breaker.try_acquire().unwrap().success();
    }
}

fn time_window() -> ConfigBuilder {
    Config::builder()
        .count_window(None)
        .time_window(SECOND * 10)
        .minimum_calls(10)
        .failure_rate(0.5)
}

#[test]
fn the_success_that_reaches_minimum_calls_of_a_time_window_judges() {
    let (breaker, _) = breaker(time_window());
    fail(&breaker, 5);
    succeed(&breaker, 4);
    assert_eq!(breaker.state(), State::Closed);
    succeed(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

// Once it held enough calls, a window that lost them again was only judged by the next failure.
#[test]
fn the_success_that_reaches_minimum_calls_again_after_older_calls_left_judges() {
    let (breaker, clock) = breaker(time_window());
    succeed(&breaker, 9);
    clock.advance(SECOND * 9);
    fail(&breaker, 6);
    assert_eq!(breaker.snapshot().calls, 15);
    clock.advance(SECOND);
    assert_eq!(breaker.snapshot().calls, 6);
    succeed(&breaker, 3);
    assert_eq!(breaker.state(), State::Closed);
    succeed(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

// The failure that reached minimum calls left the window marked as low, and the next success,
// however late, was taken for the one that reaches them.
#[test]
fn a_success_after_a_failure_has_reached_minimum_calls_does_not_judge() {
    let (breaker, clock) = breaker(time_window());
    succeed(&breaker, 3);
    clock.advance(SECOND * 5);
    succeed(&breaker, 5);
    fail(&breaker, 7);
    assert_eq!(breaker.state(), State::Closed);
    clock.advance(SECOND * 5);
    succeed(&breaker, 1);
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.calls, snapshot.failures), (13, 7));
    assert_eq!(snapshot.state, State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

// `minimum_calls` counts the calls of the window whatever is judged: a rate that is switched on
// before the window holds enough has its say at the success that reaches them.
#[test]
fn a_rate_switched_on_below_minimum_calls_judges_at_the_success_that_reaches_them() {
    let (breaker, _) = breaker(time_window().failure_rate(None).failure_count(9));
    fail(&breaker, 5);
    succeed(&breaker, 2);
    breaker.set_config(time_window().build().unwrap());
    succeed(&breaker, 2);
    assert_eq!(breaker.state(), State::Closed);
    succeed(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.snapshot().opened_by.failure_rate, 1);
}

#[test]
fn a_slow_success_judges_like_a_failure() {
    let config = time_window().slow_call(SECOND).slow_call_rate(0.5);
    let (breaker, clock) = breaker(config.minimum_calls(2).failure_rate(None));
    succeed(&breaker, 1);
    let slow = breaker.try_acquire().unwrap();
    clock.advance(SECOND * 2);
    slow.success();
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.snapshot().opened_by.slow_call_rate, 1);
}

// The calls that the smaller window had forgotten came back as successes.
#[test]
fn a_count_window_that_grows_holds_only_calls_it_remembers() {
    let window = |calls: u32| Config::builder().count_window(calls).failure_rate(0.6);
    let (breaker, _) = breaker(window(20));
    for _ in 0..500 {
        succeed(&breaker, 1);
        fail(&breaker, 1);
    }
    breaker.set_config(window(100).build().unwrap());
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.calls, snapshot.failures), (20, 10));
    // 10 more of 30: open at 60 %.
    fail(&breaker, 4);
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_count_window_that_shrinks_and_grows_again_holds_the_calls_of_the_smaller_one() {
    let window = |calls: u32| Config::builder().count_window(calls).failure_rate(1.0);
    let (breaker, _) = breaker(window(100));
    fail(&breaker, 19);
    succeed(&breaker, 31);
    fail(&breaker, 10);
    for calls in [20, 100] {
        breaker.set_config(window(calls).build().unwrap());
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.calls, snapshot.failures), (20, 10), "{calls}");
    }
}

#[test]
fn a_window_changed_while_it_holds_more_than_it_can_keeps_the_last_calls() {
    let window = |calls: u32| Config::builder().count_window(calls).failure_rate(1.0);
    let (breaker, _) = breaker(window(100));
    succeed(&breaker, 50);
    fail(&breaker, 15);
    breaker.set_config(window(30).build().unwrap());
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.calls, snapshot.failures), (30, 15));
}

// A user's clock that once says the end of time must not stop the window for ever.
#[test]
fn a_time_window_slides_on_after_a_clock_that_was_far_ahead() {
    let (breaker, clock) = breaker(time_window().failure_rate(None));
    succeed(&breaker, 1);
    clock.set(Duration::MAX);
    succeed(&breaker, 1);
    clock.set(SECOND);
    succeed(&breaker, 5);
    clock.advance(SECOND * 100);
    succeed(&breaker, 1);
    assert_eq!(breaker.snapshot().calls, 1);
}

#[test]
fn a_clock_that_steps_back_neither_empties_a_time_window_nor_counts_twice() {
    let (breaker, clock) = breaker(time_window().failure_rate(None));
    clock.set(SECOND * 1_000);
    succeed(&breaker, 5);
    clock.set(SECOND * 10);
    assert_eq!(breaker.snapshot().calls, 5);
    succeed(&breaker, 2);
    assert_eq!(breaker.snapshot().calls, 7);
    clock.advance(SECOND * 11);
    assert_eq!(breaker.snapshot().calls, 0);
}

// The shadow judges by itself; the live one must not.
#[test]
fn a_shadow_opens_on_the_outcomes_of_the_live_breaker_and_refuses_nothing() {
    let lenient = Config::builder()
        .failure_rate(None)
        .consecutive_failures(50);
    let strict = Config::builder().failure_rate(None).consecutive_failures(2);
    let (breaker, _) = breaker(lenient);
    breaker.set_shadow(strict.build().unwrap());
    let (_subscription, events) = breaker.subscribe_channel(16);
    fail(&breaker, 5);
    assert_eq!(breaker.state(), State::Closed);
    let shadow = breaker.shadow().unwrap();
    assert_eq!(shadow.snapshot.state, State::Open);
    assert_eq!((shadow.both_admitted, shadow.shadow_refused), (2, 3));
    let told: Vec<_> = events
        .try_iter()
        .map(|event| (event.to, event.shadow))
        .collect();
    assert_eq!(told, [(State::Open, true)]);
    assert!(breaker.promote_shadow());
    assert!(!breaker.promote_shadow());
    assert_eq!(breaker.config().consecutive_failures(), Some(2));
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

// Calls that were refused by the live breaker while the mode observes are judged by neither.
#[test]
fn an_observing_breaker_with_a_shadow_counts_each_call_once() {
    let config = || Config::builder().failure_rate(None).consecutive_failures(2);
    let (breaker, _) = breaker(config());
    breaker.set_mode(Mode::ObserveOnly);
    breaker.set_shadow(config().consecutive_failures(4).build().unwrap());
    fail(&breaker, 10);
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.would_have_refused),
        (State::Open, 8)
    );
    let shadow = breaker.shadow().unwrap();
    assert_eq!(shadow.snapshot.state, State::Open);
    let seen = shadow.both_admitted + shadow.shadow_refused;
    assert_eq!(seen + shadow.live_refused + shadow.both_refused, 10);
}

#[test]
fn a_probe_given_back_after_its_lease_frees_nothing_twice() {
    let config = Config::builder().failure_rate(None).consecutive_failures(1);
    let (breaker, clock) = breaker(config.half_open_permits(1).reset_timeout(SECOND));
    fail(&breaker, 1);
    clock.advance(SECOND);
    let first = breaker.try_acquire_owned().unwrap();
    clock.advance(SECOND);
    let second = breaker.try_acquire_owned().unwrap();
    drop(first);
    assert_eq!(breaker.snapshot().permits_out, 1);
    assert!(breaker.try_acquire().is_err());
    second.success();
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn settings_that_change_under_a_half_open_period_cannot_wedge_it() {
    let config = |permits: u32, needed: u32| {
        let config = Config::builder().failure_rate(None).consecutive_failures(1);
        let config = config.half_open_permits(permits).success_threshold(needed);
        config.reset_timeout(SECOND)
    };
    for (permits, needed) in [(1, 1), (5, 5), (3, 1)] {
        let (breaker, clock) = breaker(config(3, 3));
        fail(&breaker, 1);
        clock.advance(SECOND);
        succeed(&breaker, 2);
        breaker.set_config(config(permits, needed).build().unwrap());
        let mut calls = 0;
        while breaker.state() != State::Closed {
            calls += 1;
            assert!(calls < 20, "{permits}, {needed}");
            match breaker.try_acquire() {
                Ok(permit) => permit.success(),
                Err(rejected) => clock.advance(rejected.retry_after()),
            }
        }
    }
}
