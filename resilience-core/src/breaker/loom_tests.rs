//! Racing pairs under the model checker.

use std::{
    sync::atomic::{AtomicU64 as StdU64, Ordering},
    time::Duration,
};

use loom::thread;

use super::*;
use crate::clock::Clock;

/// Not `ManualClock`: it must not need a feature here, and time is not a racing variable.
#[derive(Clone, Debug, Default)]
struct Time(Arc<StdU64>);

impl Clock for Time {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

impl Time {
    fn advance(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

fn model(test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    // A sum over a time window reads many words.
    builder.max_branches = 20_000;
    builder.check(test);
}

fn small() -> ConfigBuilder {
    Config::builder()
        .count_window(4)
        .minimum_calls(2)
        .half_open_permits(1)
        .reset_timeout(Duration::from_millis(10))
}

fn breaker(config: ConfigBuilder) -> (CircuitBreaker, Time) {
    let time = Time::default();
    let config = config.build().unwrap();
    let breaker = CircuitBreaker::with_clock("loom", config, SharedClock::new(time.clone()));
    (breaker, time)
}

fn open(breaker: &CircuitBreaker) {
    while let Ok(permit) = breaker.try_acquire() {
        permit.failure();
    }
}

fn transitions(breaker: &CircuitBreaker) -> Arc<StdU64> {
    let count = Arc::new(StdU64::new(0));
    let seen = Arc::clone(&count);
    breaker
        .subscribe(move |_| {
            seen.fetch_add(1, Ordering::SeqCst);
        })
        .forget();
    count
}

#[test]
fn loom_two_failures_that_cross_the_threshold_open_once() {
    model(|| {
        let (breaker, _) = breaker(small());
        let events = transitions(&breaker);
        let other = breaker.clone();
        let mine = breaker.try_acquire_owned().unwrap();
        let theirs = other.try_acquire_owned().unwrap();
        let thread = thread::spawn(move || theirs.failure());
        mine.failure();
        thread.join().unwrap();
        assert_eq!(breaker.state(), State::Open);
        assert_eq!(events.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn loom_the_call_that_reaches_minimum_calls_and_a_failure_open() {
    model(|| {
        let (breaker, _) = breaker(small());
        let mine = breaker.try_acquire_owned().unwrap();
        let theirs = breaker.try_acquire_owned().unwrap();
        let thread = thread::spawn(move || theirs.failure());
        mine.success();
        thread.join().unwrap();
        assert_eq!(breaker.state(), State::Open);
    });
}

#[test]
fn loom_counters_equal_the_outcomes_of_the_window() {
    model(|| {
        let (breaker, _) = breaker(small().count_window(2).failure_rate(None));
        let mine = breaker.try_acquire_owned().unwrap();
        let theirs = breaker.try_acquire_owned().unwrap();
        let thread = thread::spawn(move || theirs.failure());
        mine.failure();
        thread.join().unwrap();
        assert_eq!(breaker.snapshot().failures, 2);
        breaker.try_acquire().unwrap().success();
        assert_eq!(breaker.snapshot().failures, 1);
    });
}

#[test]
fn loom_callers_at_the_deadline_share_one_permit() {
    model(|| {
        let (breaker, time) = breaker(small());
        open(&breaker);
        time.advance(10);
        let other = breaker.clone();
        let thread = thread::spawn(move || other.try_acquire_owned().ok());
        let mine = breaker.try_acquire_owned().ok();
        let theirs = thread.join().unwrap();
        assert_eq!([&mine, &theirs].iter().filter(|p| p.is_some()).count(), 1);
        assert_eq!(breaker.snapshot().permits_out, 1);
    });
}

#[test]
fn loom_a_dropped_probe_and_an_outcome_leave_no_permit_out() {
    model(|| {
        let (breaker, time) = breaker(small().half_open_permits(3).success_threshold(2));
        open(&breaker);
        time.advance(10);
        let dropped = breaker.try_acquire_owned().unwrap();
        let ended = breaker.try_acquire_owned().unwrap();
        let thread = thread::spawn(move || drop(dropped));
        ended.success();
        thread.join().unwrap();
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.permits_out, snapshot.calls), (0, 1));
    });
}

#[test]
fn loom_a_lease_that_expires_races_the_late_outcome() {
    model(|| {
        let (breaker, time) = breaker(small());
        open(&breaker);
        time.advance(10);
        let late = breaker.try_acquire_owned().unwrap();
        time.advance(10);
        let thread = thread::spawn(move || late.success());
        let next = breaker.try_acquire_owned();
        thread.join().unwrap();
        match (next, breaker.state()) {
            // The lease won: the outcome was stale, and the new probe decides.
            (Ok(probe), State::HalfOpen) => {
                assert_eq!(breaker.snapshot().stale, 1);
                probe.success();
            }
            // The outcome won, and the caller was admitted by the closed breaker.
            (Ok(_), State::Closed) => assert_eq!(breaker.snapshot().stale, 0),
            other => panic!("{other:?}"),
        }
        assert_eq!(breaker.state(), State::Closed);
    });
}

#[test]
fn loom_a_late_success_leaves_no_mark_on_a_later_window() {
    model(|| {
        let (breaker, time) = breaker(small().failure_rate(None).consecutive_failures(2));
        let late = breaker.try_acquire_owned().unwrap();
        let thread = thread::spawn(move || late.success());
        open(&breaker);
        time.advance(10);
        breaker.try_acquire().unwrap().success();
        thread.join().unwrap();
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.state, snapshot.calls), (State::Closed, 0));
    });
}

#[test]
fn loom_a_caller_that_comes_before_the_opener_stored_its_deadline_never_shortens_it() {
    model(|| {
        let (breaker, _) = breaker(small().failure_rate(None).consecutive_failures(1));
        let last = breaker.try_acquire_owned().unwrap();
        let retry_after = Some(Duration::from_millis(50));
        let thread = thread::spawn(move || last.record(Outcome::Overloaded { retry_after }));
        // A closed breaker admits; this permit is then cancelled, which counts as nothing.
        if let Err(rejected) = breaker.try_acquire() {
            let wait = rejected.retry_after().as_millis();
            assert!(wait == 10 || wait == 50, "{wait}");
        }
        thread.join().unwrap();
        let refused = breaker.try_acquire().map(drop).unwrap_err();
        assert_eq!(Some(refused.retry_after()), retry_after);
    });
}

fn timed() -> ConfigBuilder {
    small()
        .count_window(None)
        .time_window(Duration::from_secs(1))
}

#[test]
fn loom_invariant_3_a_late_failure_leaves_no_mark_on_a_window_that_begins_by_hand() {
    for config in [small(), timed()] {
        model(move || {
            let (breaker, _) = breaker(config.clone());
            let late = breaker.try_acquire_owned().unwrap();
            let thread = thread::spawn(move || late.failure());
            breaker.reset();
            thread.join().unwrap();
            let snapshot = breaker.snapshot();
            assert_eq!((snapshot.calls, snapshot.failures), (0, 0));
            // The window is sound after it: the next two calls are its calls.
            breaker.try_acquire().unwrap().success();
            assert_eq!(breaker.snapshot().calls, 1);
            breaker.try_acquire().unwrap().failure();
            assert_eq!(breaker.state(), State::Open);
        });
    }
}

#[test]
fn loom_invariant_3_two_probes_that_close_together_close_once() {
    model(|| {
        let (breaker, time) = breaker(small().half_open_permits(2));
        open(&breaker);
        time.advance(10);
        let mine = breaker.try_acquire_owned().unwrap();
        let theirs = breaker.try_acquire_owned().unwrap();
        let events = transitions(&breaker);
        let thread = thread::spawn(move || theirs.success());
        mine.success();
        // Of the generation that has begun, whoever closed.
        breaker.try_acquire().unwrap().failure();
        thread.join().unwrap();
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.state, snapshot.stale), (State::Closed, 1));
        assert_eq!((snapshot.calls, snapshot.failures), (1, 1));
        assert_eq!(events.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn loom_invariant_4_two_failures_in_a_time_window_open_once() {
    model(|| {
        let (breaker, _) = breaker(timed());
        let events = transitions(&breaker);
        let mine = breaker.try_acquire_owned().unwrap();
        let theirs = breaker.try_acquire_owned().unwrap();
        let thread = thread::spawn(move || theirs.failure());
        mine.failure();
        thread.join().unwrap();
        assert_eq!(breaker.state(), State::Open);
        assert_eq!(events.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn loom_invariant_5_a_time_window_counts_every_outcome() {
    model(|| {
        let (breaker, _) = breaker(timed().failure_rate(None));
        // Three threads: the third shares its stripe with others.
        let threads = [true, false].map(|ok| {
            let breaker = breaker.clone();
            thread::spawn(move || {
                let permit = breaker.try_acquire().unwrap();
                if ok {
                    permit.success()
                } else {
                    permit.failure()
                }
            })
        });
        breaker.try_acquire().unwrap().failure();
        for thread in threads {
            thread.join().unwrap();
        }
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.calls, snapshot.failures), (3, 2));
    });
}

#[test]
fn loom_a_success_that_reaches_minimum_calls_beside_a_failure_is_judged_at_the_latest_by_the_next()
{
    model(|| {
        let (breaker, _) = breaker(timed().failure_rate(0.3));
        let mine = breaker.try_acquire_owned().unwrap();
        let theirs = breaker.try_acquire_owned().unwrap();
        let thread = thread::spawn(move || theirs.failure());
        mine.success();
        thread.join().unwrap();
        if let Ok(next) = breaker.try_acquire() {
            next.success();
        }
        assert_eq!(breaker.state(), State::Open);
    });
}

#[test]
fn loom_forcing_open_beats_the_failure_that_opens() {
    model(|| {
        let (breaker, time) = breaker(small().failure_rate(None).consecutive_failures(1));
        let last = breaker.try_acquire_owned().unwrap();
        let thread = thread::spawn(move || last.failure());
        breaker.set_mode(Mode::ForcedOpen);
        thread.join().unwrap();
        time.advance(1_000_000);
        let refused = breaker.try_acquire().map(drop).unwrap_err();
        assert_eq!(refused.reason(), Reason::ForcedOpen);
        breaker.set_mode(Mode::Automatic);
        assert_eq!(breaker.state(), State::HalfOpen);
    });
}

#[test]
fn loom_a_failure_and_a_window_that_grows_lose_no_mark() {
    model(|| {
        let (breaker, _) = breaker(small().failure_rate(None));
        breaker.try_acquire().unwrap().failure();
        let mine = breaker.try_acquire_owned().unwrap();
        let thread = thread::spawn(move || mine.failure());
        breaker.set_config(small().failure_rate(None).count_window(16).build().unwrap());
        thread.join().unwrap();
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.calls, snapshot.failures), (2, 2));
    });
}

#[test]
fn loom_of_two_who_promote_a_shadow_one_does() {
    model(|| {
        let (breaker, _) = breaker(small());
        breaker.set_shadow(small().minimum_calls(3).build().unwrap());
        let other = breaker.clone();
        let thread = thread::spawn(move || other.promote_shadow());
        let mine = breaker.promote_shadow();
        assert!(mine ^ thread.join().unwrap());
        assert_eq!(breaker.config().minimum_calls(), 3);
        // No shadow, no clock: the short path again.
        assert!(breaker.shadow().is_none());
    });
}

/// A prober that was late to tag the words of its half-open period took the tag of the next closed
/// generation away from who closed it. Every later outcome was stale, and nothing ever opened.
fn a_late_prober(windows: impl Fn(ConfigBuilder) -> ConfigBuilder + Send + Sync + 'static) {
    model(move || {
        let (breaker, time) = breaker(windows(small().half_open_permits(2)));
        open(&breaker);
        time.advance(10);
        let other = breaker.clone();
        let thread = thread::spawn(move || {
            other.try_acquire_owned().map(OwnedPermit::success).ok();
        });
        breaker.try_acquire().map(Permit::success).ok();
        thread.join().unwrap();
        assert_eq!(breaker.state(), State::Closed);
        // One of them may have come when it was closed, and be a success in the window.
        for _ in 0..2 {
            breaker.try_acquire().map(Permit::failure).ok();
        }
        assert_eq!(breaker.state(), State::Open);
    });
}

#[test]
fn loom_a_late_prober_never_takes_the_count_window_from_who_closes() {
    a_late_prober(|config| config);
}

#[test]
fn loom_a_late_prober_never_takes_the_time_window_from_who_closes() {
    a_late_prober(|config| {
        config
            .count_window(None)
            .time_window(Duration::from_secs(1))
    });
}
