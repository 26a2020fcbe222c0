//! What breakers of other libraries get wrong, one test each, named after what ours does instead.
//!
//! That a call costs the same at any window size is a figure, see the benches; here stands what of
//! it can be seen without a stopwatch.

use std::{
    future::Future,
    mem,
    pin::pin,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use resilience_core::{breaker::*, clock::ManualClock};

const RESET: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

fn breaker(config: ConfigBuilder) -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let config = config.reset_timeout(RESET).build().unwrap();
    (
        CircuitBreaker::with_clock("peer", config, clock.clone()),
        clock,
    )
}

/// Opens at the first failure.
fn fragile() -> ConfigBuilder {
    Config::builder().failure_rate(None).consecutive_failures(1)
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

fn failures_until_it_opens(breaker: &CircuitBreaker) -> u32 {
    let mut failures = 0;
    while breaker.state() == State::Closed {
        fail(breaker, 1);
        failures += 1;
    }
    failures
}

/// Fails instead of hanging.
fn in_time<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, end) = mpsc::channel();
    thread::spawn(move || done.send(test()));
    end.recv_timeout(Duration::from_secs(60))
        .expect("deadlock, or a panic above")
}

// ---- windows

// A peer's count window only ever grows: after 100 000 successes it takes 100 000 failures.
#[test]
fn an_outage_after_a_long_good_time_opens_within_one_window() {
    let (breaker, _) = breaker(Config::builder().count_window(100).failure_rate(0.5));
    succeed(&breaker, 100_000);
    assert_eq!(failures_until_it_opens(&breaker), 50);
}

// A peer keeps a record per call of its time window and walks them: 17 times slower at 10 000
// calls held than at 100. Records would need memory.
#[test]
fn a_time_window_keeps_no_record_per_call() {
    let config = || {
        let config = Config::builder().count_window(None).failure_rate(None);
        config.failure_count(10_000_000)
    };
    let held = |calls: u32| {
        let (breaker, clock) = breaker(config().time_window(SECOND * 10));
        let calls_of_one_segment = || {
            for call in 0..calls {
                let permit = breaker.try_acquire().unwrap();
                if call % 4 == 0 {
                    permit.failure();
                } else {
                    permit.success();
                }
            }
        };
        let info = allocation_counter::measure(|| {
            for _ in 0..12 {
                calls_of_one_segment();
                clock.advance(SECOND);
            }
        });
        assert_eq!(breaker.snapshot().calls, u64::from(calls) * 9);
        info.bytes_max
    };
    assert_eq!(held(10_000), held(10));
}

// Peers evaluate on successes too: there the last good calls leave the time window and the next
// success finds a bad rate, and opens.
#[test]
fn a_success_does_not_open_whatever_has_left_the_window() {
    let config = Config::builder().count_window(None).minimum_calls(5);
    let (breaker, clock) = breaker(config.time_window(SECOND * 10).failure_rate(0.5));
    succeed(&breaker, 100);
    clock.advance(SECOND * 5);
    fail(&breaker, 10);
    clock.advance(SECOND * 5);
    succeed(&breaker, 1);
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.calls, snapshot.failures), (11, 10));
    assert_eq!(snapshot.state, State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

// ---- thresholds

// Peers clamp minimum calls to the window without a word, or never open at all.
#[test]
fn minimum_calls_beyond_the_count_window_are_an_error_that_says_so() {
    let config = Config::builder().count_window(50).minimum_calls(51);
    let error = config.build().unwrap_err();
    assert_eq!((error.field, error.value.as_str()), ("minimum_calls", "51"));
    assert!(error.allowed.contains("50"), "{error}");
    // And at the window they are reached.
    let (breaker, _) = breaker(Config::builder().count_window(50).minimum_calls(50));
    succeed(&breaker, 25);
    fail(&breaker, 24);
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

// Several peers say -1 below minimum calls, and dashboards add it up.
#[test]
fn below_minimum_calls_there_is_no_rate_rather_than_a_magic_one() {
    let config = Config::builder().minimum_calls(5).slow_call(SECOND);
    let (breaker, _) = breaker(config.time_window(SECOND * 10).failure_rate(0.9));
    fail(&breaker, 4);
    let rates = |snapshot: Snapshot| (snapshot.failure_rate, snapshot.slow_call_rate);
    assert_eq!(rates(breaker.snapshot()), (None, None));
    succeed(&breaker, 1);
    assert_eq!(rates(breaker.snapshot()), (Some(0.8), Some(0.0)));
}

// Peers compare with `>`, so that a threshold of 1.0 never opens.
#[test]
fn a_rate_equal_to_its_threshold_opens() {
    let (breaker, _) = breaker(Config::builder().minimum_calls(10).failure_rate(1.0));
    assert_eq!(failures_until_it_opens(&breaker), 10);
}

#[test]
fn a_call_as_long_as_the_slow_threshold_is_not_slow_and_one_longer_is() {
    let config = Config::builder().minimum_calls(2).slow_call_rate(0.5);
    let (breaker, clock) = breaker(config.slow_call(SECOND));
    let call_of = |duration: Duration| {
        let permit = breaker.try_acquire().unwrap();
        clock.advance(duration);
        permit.success();
    };
    call_of(SECOND);
    call_of(SECOND);
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.calls, snapshot.slow_calls), (2, 0));
    call_of(SECOND + Duration::from_nanos(1));
    assert_eq!(breaker.snapshot().slow_calls, 1);
    call_of(SECOND * 2);
    assert_eq!(breaker.state(), State::Open);
}

// ---- late outcomes

// Nearly all peers let a call that began before the opening close the breaker.
#[test]
fn a_late_success_does_not_close_an_open_or_half_open_breaker() {
    let (breaker, clock) = breaker(fragile());
    let late: Vec<_> = (0..2)
        .map(|_| breaker.try_acquire_owned().unwrap())
        .collect();
    fail(&breaker, 1);
    let mut late = late.into_iter();
    late.next().unwrap().success();
    assert_eq!(breaker.state(), State::Open);
    clock.advance(RESET);
    let probe = breaker.try_acquire().unwrap();
    late.next().unwrap().success();
    assert_eq!(breaker.state(), State::HalfOpen);
    assert_eq!(breaker.snapshot().stale, 2);
    probe.ignore();
}

// Nor may it open one that has recovered since, or reopen one that is being probed.
#[test]
fn a_late_failure_does_not_open_again() {
    let (breaker, clock) = breaker(fragile());
    let late: Vec<_> = (0..2)
        .map(|_| breaker.try_acquire_owned().unwrap())
        .collect();
    fail(&breaker, 1);
    clock.advance(RESET);
    let probe = breaker.try_acquire().unwrap();
    let mut late = late.into_iter();
    late.next().unwrap().failure();
    assert_eq!(breaker.state(), State::HalfOpen);
    probe.success();
    late.next().unwrap().failure();
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().failures, 0);
}

// ---- half-open

// Several peers let every waiting caller through the moment the timeout ends.
#[test]
fn callers_at_the_end_of_the_timeout_share_the_half_open_permits() {
    const CALLERS: usize = 32;
    let (breaker, clock) = breaker(fragile().half_open_permits(3));
    fail(&breaker, 1);
    clock.advance(RESET);
    let start = Barrier::new(CALLERS);
    let admitted: Vec<_> = thread::scope(|scope| {
        let call = || {
            start.wait();
            breaker.try_acquire_owned().ok()
        };
        let threads: Vec<_> = (0..CALLERS).map(|_| scope.spawn(call)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap();
        threads.into_iter().filter_map(join).collect()
    });
    assert_eq!(admitted.len(), 3);
}

// In most peers a probe that never ends keeps its permit; one outage of six days is on record.
#[test]
fn probes_that_never_end_do_not_keep_it_half_open() {
    let (breaker, clock) = breaker(fragile().half_open_permits(2));
    fail(&breaker, 1);
    clock.advance(RESET);
    for _ in 0..2 {
        mem::forget(breaker.try_acquire_owned().unwrap());
    }
    assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), RESET);
    clock.advance(RESET);
    succeed(&breaker, 1);
    assert_eq!(breaker.state(), State::Closed);
}

// ---- cancelled calls

/// A call that begins, and whose caller goes away.
fn client_leaves(breaker: &CircuitBreaker) {
    let mut call = pin!(breaker.call(std::future::pending::<Result<(), ()>>()));
    let poll = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll.is_pending());
}

// A Rust peer counts a dropped future as a failure and opens after five clients hung up.
#[test]
fn clients_that_leave_early_do_not_open_it() {
    let (breaker, _) = breaker(fragile());
    (0..1_000).for_each(|_| client_leaves(&breaker));
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.calls), (State::Closed, 0));
}

// Polly closes when a probe is cancelled.
#[test]
fn a_cancelled_probe_does_not_close_it_and_gives_its_permit_back() {
    let (breaker, clock) = breaker(fragile().half_open_permits(1));
    fail(&breaker, 1);
    clock.advance(RESET);
    for _ in 0..10 {
        client_leaves(&breaker);
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.state, snapshot.permits_out), (State::HalfOpen, 0));
    }
}

// Where a cancelled call counts as nothing, a timeout around the breaker hides an outage.
#[test]
fn a_timeout_around_the_breaker_is_seen_when_asked_for() {
    let on_cancel = OnCancel::FailureAfter(SECOND);
    let (breaker, clock) = breaker(fragile().on_cancel(on_cancel));
    client_leaves(&breaker);
    assert_eq!(breaker.state(), State::Closed);
    let call = breaker.try_acquire_owned().unwrap();
    clock.advance(SECOND);
    drop(call);
    assert_eq!(breaker.state(), State::Open);
}

// ---- settings

// To change a setting, peers have one build a new breaker, which forgets that the old one is open.
#[test]
fn new_settings_forget_neither_the_state_nor_the_openings_nor_the_window() {
    let (breaker, clock) = breaker(fragile());
    fail(&breaker, 1);
    clock.advance(RESET);
    fail(&breaker, 10);
    assert_eq!(breaker.snapshot().openings, 2);
    let lenient = fragile().reset_timeout(RESET).consecutive_failures(5);
    breaker.set_config(lenient.clone().build().unwrap());
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.openings), (State::Open, 2));
    assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), RESET * 2);
    clock.advance(RESET * 2);
    succeed(&breaker, 1);
    fail(&breaker, 4);
    breaker.set_config(lenient.half_open_permits(1).build().unwrap());
    assert_eq!(breaker.snapshot().failures, 4);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

// ---- subscribers

// Peers call back under their lock: a subscriber that asks for the state waits for itself.
#[test]
fn a_subscriber_may_use_the_breaker() {
    in_time(|| {
        let (breaker, _) = breaker(fragile());
        let inside = breaker.clone();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let subscription = breaker.subscribe(move |_| {
            let refused = inside.try_acquire().is_err();
            inside.subscribe(|_| ()).forget();
            sink.lock()
                .unwrap()
                .push((inside.snapshot().state, refused));
            if refused {
                inside.reset();
            }
        });
        fail(&breaker, 1);
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(seen.lock().unwrap().len(), 2);
        assert!(seen.lock().unwrap().contains(&(State::Open, true)));
        drop(subscription);
    });
}

#[test]
fn a_subscriber_may_end_its_own_subscription() {
    in_time(|| {
        let (breaker, clock) = breaker(fragile());
        let own = Arc::new(Mutex::new(None::<Subscription>));
        let (inside, calls) = (Arc::clone(&own), Arc::new(AtomicBool::new(false)));
        let once = Arc::clone(&calls);
        let subscription = breaker.subscribe(move |_| {
            assert!(!once.swap(true, Ordering::SeqCst), "told after its end");
            drop(inside.lock().unwrap().take());
        });
        *own.lock().unwrap() = Some(subscription);
        fail(&breaker, 1);
        clock.advance(RESET);
        succeed(&breaker, 1);
        assert!(calls.load(Ordering::SeqCst));
    });
}

// With the callback under the lock, one slow subscriber stops every call.
#[test]
fn a_subscriber_that_blocks_delays_no_other_call() {
    in_time(|| {
        let (breaker, clock) = breaker(fragile());
        let (entered, told) = mpsc::channel();
        let (release, blocked) = mpsc::channel::<()>();
        let blocked = Mutex::new(blocked);
        breaker
            .subscribe(move |transition| {
                if transition.to == State::Open {
                    entered.send(()).unwrap();
                    let _ = blocked.lock().unwrap().recv();
                }
            })
            .forget();
        let opener = breaker.clone();
        let stuck = thread::spawn(move || fail(&opener, 1));
        told.recv().unwrap();
        // The opener is in the subscriber, and everyone else goes through a whole cycle.
        assert!(breaker.try_acquire().is_err());
        breaker.subscribe(|_| ()).forget();
        clock.advance(RESET);
        succeed(&breaker, 2);
        assert_eq!(breaker.state(), State::Closed);
        drop(release);
        stuck.join().unwrap();
    });
}

#[test]
fn a_channel_that_nobody_reads_delays_no_call_and_its_losses_are_counted() {
    in_time(|| {
        let (breaker, clock) = breaker(fragile());
        let (_subscription, events) = breaker.subscribe_channel(2);
        for _ in 0..3 {
            fail(&breaker, 1);
            clock.advance(RESET);
            succeed(&breaker, 1);
        }
        // Nine changes, room for two.
        assert_eq!(breaker.snapshot().lost_events, 7);
        assert_eq!(events.try_iter().count(), 2);
    });
}

#[test]
fn a_subscriber_that_panics_spoils_neither_the_call_nor_the_other_subscribers() {
    let (breaker, _) = breaker(fragile());
    breaker.subscribe(|_| panic!("on purpose")).forget();
    let (_subscription, events) = breaker.subscribe_channel(8);
    fail(&breaker, 1);
    assert_eq!(events.try_iter().count(), 1);
    assert_eq!(breaker.state(), State::Open);
}

// ---- the inner call

// A peer polls the future once before it looks at its state.
#[test]
fn a_refused_call_is_never_polled() {
    let (breaker, _) = breaker(fragile());
    fail(&breaker, 1);
    let polled = AtomicBool::new(false);
    let mut call = pin!(breaker.call(async {
        polled.store(true, Ordering::SeqCst);
        Ok::<(), ()>(())
    }));
    let poll = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(poll, Poll::Ready(Err(Error::Rejected(_)))));
    assert!(!polled.load(Ordering::SeqCst));
}
