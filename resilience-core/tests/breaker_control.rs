//! Control by hand and shadow, seen from outside.

use std::time::Duration;

use resilience_core::{breaker::*, clock::ManualClock};

const RESET: Duration = Duration::from_secs(30);

fn fixture(config: ConfigBuilder) -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let config = config.build().unwrap();
    (
        CircuitBreaker::with_clock("payments", config, clock.clone()),
        clock,
    )
}

fn five() -> ConfigBuilder {
    Config::builder().consecutive_failures(5).failure_rate(None)
}

fn fail(breaker: &CircuitBreaker, times: u32) {
    for _ in 0..times {
        breaker.try_acquire().unwrap().failure();
    }
}

// Regression: the tag of the window has 12 bits. After as many generations without a close an old
// tag looked like the new one, and the window began where an old one had.
#[test]
fn a_window_after_4096_generations_without_a_close_begins_empty() {
    for settings in [five(), five().count_window(None).time_window(RESET)] {
        for generations in [4094, 4095, 4096, 4097] {
            let (breaker, clock) = fixture(settings.clone().half_open_permits(1));
            fail(&breaker, 4);
            breaker.try_acquire().unwrap().success();
            fail(&breaker, 5);
            // One opening, and then leases that expire: a generation each.
            clock.advance(RESET);
            let mut lost = breaker.try_acquire().unwrap();
            while breaker.snapshot().generation < generations {
                clock.advance(RESET);
                lost = breaker.try_acquire().unwrap();
            }
            lost.success();
            let snapshot = breaker.snapshot();
            assert_eq!((snapshot.state, snapshot.calls), (State::Closed, 0));
            fail(&breaker, 4);
            let snapshot = breaker.snapshot();
            assert_eq!((snapshot.failures, snapshot.consecutive_failures), (4, 4));
            fail(&breaker, 1);
            assert_eq!(breaker.state(), State::Open);
        }
    }
}

#[test]
fn a_breaker_that_was_toggled_by_hand_4096_times_still_waits_and_counts() {
    for toggles in 4094..=4097 {
        let (breaker, clock) = fixture(five());
        fail(&breaker, 3);
        for toggle in 0..toggles {
            let modes = [Mode::ForcedOpen, Mode::Automatic];
            breaker.set_mode(modes[toggle % 2]);
        }
        breaker.reset();
        assert_eq!(breaker.snapshot().calls, 0, "after {toggles}");
        fail(&breaker, 5);
        assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), RESET);
        clock.advance(RESET);
        assert!(breaker.try_acquire().is_ok());
    }
}

#[test]
fn a_forced_open_breaker_that_is_let_go_asks_probes_first() {
    let (breaker, clock) = fixture(five().half_open_permits(2));
    breaker.set_mode(Mode::ForcedOpen);
    clock.advance(RESET * 100);
    let refused = breaker.try_acquire().unwrap_err();
    assert_eq!(
        (refused.reason(), refused.retry_after()),
        (Reason::ForcedOpen, RESET)
    );
    breaker.set_mode(Mode::Automatic);
    let first = breaker.try_acquire().unwrap();
    let _second = breaker.try_acquire().unwrap();
    assert!(first.is_probe());
    assert!(breaker.try_acquire().is_err());
    first.success();
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_step_back_of_the_clock_keeps_it_open_for_no_longer_than_one_wait() {
    let (breaker, clock) = fixture(five());
    clock.set(RESET * 1000);
    fail(&breaker, 5);
    clock.set(Duration::ZERO);
    assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), RESET);
    clock.advance(RESET - Duration::from_micros(1));
    assert!(breaker.try_acquire().is_err());
    clock.advance(Duration::from_micros(1));
    assert!(breaker.try_acquire().is_ok());
}

#[test]
fn an_owned_permit_outlives_the_handle() {
    let (breaker, _) = fixture(five());
    let permit = breaker.try_acquire_owned().unwrap();
    drop(breaker);
    permit.failure();
}

#[test]
fn a_shadow_decides_beside_the_breaker_and_is_promoted_at_once() {
    let (breaker, clock) = fixture(five());
    let (_subscription, events) = breaker.subscribe_channel(100);
    breaker.set_shadow(five().consecutive_failures(2).build().unwrap());
    fail(&breaker, 2);
    let event = events.try_recv().unwrap();
    assert_eq!((event.shadow, event.observed), (true, true));
    assert_eq!(
        (event.cause, event.to),
        (Cause::ConsecutiveFailures, State::Open)
    );
    // The shadow would refuse these, and does not judge them.
    fail(&breaker, 2);
    let shadow = breaker.shadow().unwrap();
    assert_eq!((shadow.both_admitted, shadow.shadow_refused), (2, 2));
    assert_eq!(shadow.snapshot.would_have_refused, 2);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
    assert!(breaker.try_acquire().is_err());
    assert_eq!(breaker.shadow().unwrap().both_refused, 1);
    // Both are due; the shadow's probe is the live one's.
    clock.advance(RESET);
    breaker.try_acquire().unwrap().success();
    assert_eq!(breaker.shadow().unwrap().snapshot.state, State::Closed);
    assert!(breaker.promote_shadow());
    assert!(!breaker.promote_shadow());
    assert_eq!(breaker.config().consecutive_failures(), Some(2));
    fail(&breaker, 2);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn an_outcome_of_an_earlier_shadow_is_not_counted_by_the_next() {
    let (breaker, _) = fixture(five());
    let two = || five().consecutive_failures(2).build().unwrap();
    breaker.set_shadow(two());
    let early = breaker.try_acquire().unwrap();
    breaker.clear_shadow();
    breaker.set_shadow(two());
    early.failure();
    fail(&breaker, 1);
    let shadow = breaker.shadow().unwrap();
    assert_eq!((shadow.snapshot.failures, shadow.snapshot.stale), (1, 1));
}

#[test]
fn the_half_open_failure_rate_is_a_success_threshold() {
    for (permits, rate, needed) in [(10, 0.5, 6), (10, 1.0, 1), (20, 0.55, 10), (1, 0.1, 1)] {
        let builder = Config::builder().half_open_permits(permits);
        let config = builder.half_open_failure_rate(rate).build().unwrap();
        assert_eq!(config.success_threshold(), needed, "{rate} of {permits}");
    }
    let both = Config::builder()
        .success_threshold(1)
        .half_open_failure_rate(0.5);
    assert_eq!(both.build().unwrap_err().field, "success_threshold");
}

#[test]
fn settings_that_cannot_act_are_refused_by_name() {
    let json = |text| serde_json::from_str::<Config>(text).map(|_| ());
    assert!(json(r#"{"count_window": "off", "time_window": "10s"}"#).is_ok());
    let nothing = json(r#"{"count_window": "off"}"#).unwrap_err();
    assert!(nothing.to_string().contains("count_window is off"));
    let short = json(r#"{"time_window": "9ms"}"#).unwrap_err();
    assert!(short.to_string().contains("time_window is 9ms"));
    let cancel = json(r#"{"on_cancel": "failure_when_slow"}"#).unwrap_err();
    assert!(cancel.to_string().contains("only with slow_call"));
    let counted = Config::builder().failure_count(101).build().unwrap_err();
    assert_eq!(
        counted.to_string(),
        "failure_count is 101, allowed: 1 to 100"
    );
}

// Nobody had looked at the window since it fell below minimum calls.
#[test]
fn the_first_success_of_a_segment_judges_if_it_reaches_minimum_calls() {
    let second = Duration::from_secs(1);
    let settings = Config::builder().count_window(None).minimum_calls(10);
    let (breaker, clock) = fixture(settings.time_window(second * 10));
    let succeed = |times| (0..times).for_each(|_| breaker.try_acquire().unwrap().success());
    succeed(6);
    clock.advance(second * 9);
    fail(&breaker, 5);
    succeed(4);
    clock.advance(second);
    succeed(1);
    assert_eq!(breaker.state(), State::Open);
}
