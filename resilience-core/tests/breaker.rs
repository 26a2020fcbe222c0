//! Behaviour of the breaker, seen from outside.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use resilience_core::{
    breaker::*,
    clock::{Clock, ManualClock, SharedClock},
};

fn fixture(config: ConfigBuilder) -> (CircuitBreaker, ManualClock, Arc<Mutex<Vec<Transition>>>) {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::with_clock("payments", config.build().unwrap(), clock.clone());
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&events);
    let push = move |event: &Transition| sink.lock().unwrap().push(event.clone());
    breaker.subscribe(push).forget();
    (breaker, clock, events)
}

fn five() -> ConfigBuilder {
    Config::builder().consecutive_failures(5).failure_rate(None)
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

const RESET: Duration = Duration::from_secs(30);

#[test]
fn the_fifth_failure_in_a_row_opens_once() {
    let (breaker, _, events) = fixture(five());
    fail(&breaker, 4);
    succeed(&breaker, 1);
    fail(&breaker, 4);
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
    let events = events.lock().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].cause, Cause::ConsecutiveFailures);
}

#[test]
fn the_rate_is_judged_from_minimum_calls_on_and_opens_at_the_threshold() {
    let (breaker, _, events) = fixture(Config::builder().minimum_calls(10));
    fail(&breaker, 4);
    succeed(&breaker, 6);
    assert_eq!(breaker.snapshot().failure_rate, Some(0.4));
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
    let event = &events.lock().unwrap()[0];
    assert_eq!(
        (event.cause, event.calls, event.failures),
        (Cause::FailureRate, 12, 6)
    );
}

#[test]
fn failures_that_left_the_window_do_not_count() {
    let (breaker, _, _) = fixture(Config::builder().count_window(20).minimum_calls(20));
    fail(&breaker, 9);
    succeed(&breaker, 100_000);
    assert_eq!(breaker.snapshot().failures, 0);
    fail(&breaker, 9);
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn open_refuses_until_the_deadline_and_then_one_of_64_callers_moves_it() {
    let (breaker, clock, events) = fixture(five().half_open_permits(10));
    fail(&breaker, 5);
    clock.advance(RESET - Duration::from_millis(1));
    for _ in 0..1000 {
        let rejected = breaker.try_acquire().unwrap_err();
        assert_eq!(rejected.retry_after(), Duration::from_millis(1));
        assert_eq!(
            (rejected.name(), rejected.state()),
            ("payments", State::Open)
        );
    }
    assert_eq!(breaker.snapshot().rejected, 1000);
    clock.advance(Duration::from_millis(1));
    let start = Arc::new(Barrier::new(64));
    let callers: Vec<_> = (0..64)
        .map(|_| {
            let (breaker, start) = (breaker.clone(), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                breaker.try_acquire_owned().ok()
            })
        })
        .collect();
    let permits: Vec<_> = callers
        .into_iter()
        .filter_map(|t| t.join().unwrap())
        .collect();
    assert_eq!(permits.len(), 10);
    assert_eq!(events.lock().unwrap().len(), 2);
}

#[test]
fn a_dropped_probe_gives_its_permit_back() {
    let (breaker, clock, _) = fixture(five().half_open_permits(2));
    fail(&breaker, 5);
    clock.advance(RESET);
    let first = breaker.try_acquire().unwrap();
    let _second = breaker.try_acquire().unwrap();
    assert_eq!(
        breaker.try_acquire().unwrap_err().reason(),
        Reason::ProbesSpent
    );
    drop(first);
    assert!(breaker.try_acquire().is_ok());
}

#[test]
fn a_late_outcome_is_stale_and_changes_nothing() {
    let (breaker, clock, _) = fixture(five());
    let (late_failure, late_success) = (
        breaker.try_acquire().unwrap(),
        breaker.try_acquire().unwrap(),
    );
    fail(&breaker, 5);
    clock.advance(RESET);
    let probe = breaker.try_acquire().unwrap();
    late_success.success();
    assert_eq!(breaker.state(), State::HalfOpen);
    probe.success();
    late_failure.failure();
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.calls, snapshot.failures),
        (State::Closed, 0, 0)
    );
    assert_eq!(snapshot.stale, 2);
}

#[test]
fn lost_probes_are_written_off_when_their_lease_ends() {
    let (breaker, clock, _) = fixture(five().half_open_permits(1));
    fail(&breaker, 5);
    clock.advance(RESET);
    let lost = breaker.try_acquire().unwrap();
    clock.advance(RESET - Duration::from_nanos(1000));
    assert!(breaker.try_acquire().is_err());
    clock.advance(Duration::from_nanos(1000));
    let probe = breaker.try_acquire().unwrap();
    lost.failure();
    assert_eq!(breaker.state(), State::HalfOpen);
    probe.success();
    assert_eq!(breaker.state(), State::Closed);
}

// A5.c2
#[test]
fn with_no_probe_failures_allowed_the_first_one_reopens_with_a_longer_wait() {
    let (breaker, clock, events) = fixture(five().probe_failures(0));
    fail(&breaker, 5);
    clock.advance(RESET);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
    let last = events.lock().unwrap().pop().unwrap();
    assert_eq!(
        (last.cause, last.open_for),
        (Cause::ProbeFailed, Some(RESET * 2))
    );
}

#[test]
fn it_reopens_as_soon_as_the_success_threshold_is_out_of_reach() {
    let (breaker, clock, _) = fixture(five().half_open_permits(3).success_threshold(2));
    fail(&breaker, 5);
    clock.advance(RESET);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::HalfOpen);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn an_upstream_that_asks_for_longer_is_left_alone_for_longer() {
    let (breaker, clock, _) = fixture(five());
    fail(&breaker, 4);
    let retry_after = Some(Duration::from_secs(90));
    breaker
        .try_acquire()
        .unwrap()
        .record(Outcome::Overloaded { retry_after });
    clock.advance(Duration::from_secs(60));
    assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), RESET);
}

// Regression: only the outcome that opened was asked how long.
#[test]
fn what_an_upstream_asked_before_the_failure_that_opens_counts_as_well() {
    let (breaker, clock, _) = fixture(five().half_open_permits(3).success_threshold(2));
    let overloaded = |seconds| {
        let retry_after = Some(Duration::from_secs(seconds));
        let permit = breaker.try_acquire().unwrap();
        permit.record(Outcome::Overloaded { retry_after });
    };
    overloaded(90);
    overloaded(50);
    clock.advance(Duration::from_secs(10));
    fail(&breaker, 3);
    let wait = || breaker.try_acquire().unwrap_err().retry_after();
    assert_eq!(
        wait(),
        Duration::from_secs(80),
        "counted from when it was asked"
    );
    clock.advance(Duration::from_secs(80));
    // The same for probes: the first that fails does not reopen, and asks.
    overloaded(500);
    fail(&breaker, 1);
    assert_eq!(wait(), Duration::from_secs(500));
    // What an earlier period was asked is over with it.
    clock.advance(Duration::from_secs(500));
    fail(&breaker, 2);
    assert!(wait() < Duration::from_secs(300), "{:?}", wait());
}

#[test]
fn breakers_of_one_name_do_not_probe_together_when_they_vary_their_wait() {
    let waits: std::collections::HashSet<_> = (0..20)
        .map(|_| {
            let (breaker, _, _) = fixture(five().jitter(0.5));
            fail(&breaker, 5);
            breaker.try_acquire().unwrap_err().retry_after()
        })
        .collect();
    assert!(waits.len() > 10, "{waits:?}");
}

#[test]
fn a_cancelled_call_counts_as_the_policy_says_and_a_panic_as_a_failure() {
    let long = OnCancel::FailureAfter(Duration::from_secs(1));
    for (policy, wait, failures) in [
        (OnCancel::Ignore, 2, 0),
        (OnCancel::Failure, 0, 1),
        (long, 0, 0),
        (long, 1, 1),
    ] {
        let (breaker, clock, _) = fixture(five().on_cancel(policy));
        let permit = breaker.try_acquire().unwrap();
        clock.advance(Duration::from_secs(wait));
        drop(permit);
        assert_eq!(
            breaker.snapshot().failures,
            failures,
            "{policy:?} after {wait} s"
        );
    }
    let (breaker, _, _) = fixture(five());
    let inside = breaker.clone();
    let panicked = thread::spawn(move || {
        let _permit = inside.try_acquire();
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    assert_eq!(breaker.snapshot().failures, 1);
}

#[test]
fn a_clock_that_steps_back_breaks_nothing() {
    let (breaker, clock, _) = fixture(five());
    clock.set(Duration::MAX);
    fail(&breaker, 5);
    clock.set(Duration::ZERO);
    assert!(breaker.try_acquire().is_err());
    clock.set(Duration::MAX);
    assert!(breaker.try_acquire().is_ok());
}

// Threads that record while the breaker changes state leave exact counters behind.
#[test]
fn counters_are_exact_after_a_storm() {
    let (breaker, _, _) = fixture(Config::builder().failure_rate(None).count_window(100_000));
    let threads: Vec<_> = (0..4)
        .map(|t| {
            let breaker = breaker.clone();
            thread::spawn(move || {
                (0..10_000).for_each(|i| match (i + t) % 4 {
                    0 => breaker.try_acquire().unwrap().failure(),
                    _ => breaker.try_acquire().unwrap().success(),
                })
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.calls, snapshot.failures), (40_000, 10_000));
}

#[test]
fn the_call_path_allocates_nothing() {
    let (breaker, _, _) = fixture(five());
    let info = allocation_counter::measure(|| succeed(&breaker, 100));
    assert_eq!(info.count_total, 0);
    fail(&breaker, 5);
    // The first refusal of a thread makes the line that it counts in.
    assert!(breaker.try_acquire().is_err());
    let info = allocation_counter::measure(|| assert!(breaker.try_acquire().is_err()));
    assert_eq!(info.count_total, 0);
}

#[test]
fn a_bad_setting_is_named_with_its_value_and_what_is_allowed() {
    let error = Config::builder().minimum_calls(200).build().unwrap_err();
    assert_eq!(error.to_string(), "minimum_calls is 200, allowed: 1 to 100");
    let json = r#"{"reset_timeout": "10s", "consecutive_failures": 5, "failure_rate": "off"}"#;
    let config: Config = serde_json::from_str(json).unwrap();
    assert_eq!(config.reset_timeout(), Duration::from_secs(10));
    assert_eq!(
        (config.consecutive_failures(), config.failure_rate()),
        (Some(5), None)
    );
    assert!(serde_json::from_str::<Config>(r#"{"reset": "10s"}"#).is_err());
}

/// A clock that panics when it is next read, if told to.
#[derive(Clone, Debug, Default)]
struct PanicsOnce {
    time: ManualClock,
    armed: Arc<AtomicBool>,
}

impl Clock for PanicsOnce {
    fn now(&self) -> Duration {
        assert!(!self.armed.swap(false, Ordering::SeqCst), "on purpose");
        self.time.now()
    }
}

// Regression: an opener that never stored its deadline left the breaker open for ever.
#[test]
fn a_breaker_whose_opener_died_is_given_its_deadline_by_the_next_caller() {
    let clock = PanicsOnce::default();
    let config = five().jitter(0.3).build().unwrap();
    let breaker = CircuitBreaker::with_clock("payments", config, SharedClock::new(clock.clone()));
    fail(&breaker, 4);
    let fifth = breaker.try_acquire().unwrap();
    clock.armed.store(true, Ordering::SeqCst);
    assert!(catch_unwind(AssertUnwindSafe(|| fifth.failure())).is_err());
    assert_eq!(breaker.state(), State::Open);
    let wait = breaker.try_acquire().unwrap_err().retry_after();
    assert!(wait >= RESET.mul_f64(0.7) && wait <= RESET.mul_f64(1.3));
    clock.time.advance(wait - Duration::from_micros(1));
    assert!(breaker.try_acquire().is_err());
    clock.time.advance(Duration::from_micros(1));
    breaker.try_acquire().unwrap().success();
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_setting_that_cannot_be_read_is_told_with_its_value_and_what_is_allowed() {
    let error = |json: String| {
        serde_json::from_str::<Config>(&json)
            .unwrap_err()
            .to_string()
    };
    for (value, told) in [
        ("-1", "`-1`"),
        ("4294967296", "`4294967296`"),
        ("1.5", "`1.5`"),
        ("true", "`true`"),
        ("\"many\"", "\"many\""),
    ] {
        let text = error(format!("{{\"failure_count\": {value}}}"));
        assert!(text.contains(told) && text.contains("\"off\""), "{text}");
    }
    for (value, told) in [("30", "`30`"), ("\"half an hour\"", "\"half an hour\"")] {
        let text = error(format!("{{\"time_window\": {value}}}"));
        assert!(text.contains(told) && text.contains("\"30s\""), "{text}");
    }
    let config: Config = serde_json::from_str(
        r#"{"failure_rate": 1, "failure_count": null, "slow_call": "2s", "slow_call_rate": "off"}"#,
    )
    .unwrap();
    assert_eq!(
        (config.failure_rate(), config.failure_count()),
        (Some(1.0), None)
    );
}
