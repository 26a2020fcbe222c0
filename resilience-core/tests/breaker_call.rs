//! `call` and `call_with`: what each way to end counts as. Polled by hand, no runtime.

use std::{
    future::{pending, poll_fn, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use resilience_core::{breaker::*, clock::ManualClock};

const RESET: Duration = Duration::from_secs(30);

/// One probe; opens at the second failure in a row.
fn fixture() -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let config = Config::builder()
        .failure_rate(None)
        .consecutive_failures(2)
        .half_open_permits(1)
        .build()
        .unwrap();
    let breaker = CircuitBreaker::with_clock("payments", config, clock.clone());
    (breaker, clock)
}

fn half_open_next() -> (CircuitBreaker, ManualClock) {
    let (breaker, clock) = fixture();
    (0..2).for_each(|_| breaker.try_acquire().unwrap().failure());
    assert_eq!(breaker.state(), State::Open);
    clock.advance(RESET);
    (breaker, clock)
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn now<F: Future>(future: F) -> F::Output {
    match poll(pin!(future)) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("expected to be ready at once"),
    }
}

fn counts(breaker: &CircuitBreaker) -> (u64, u64) {
    let snapshot = breaker.snapshot();
    (snapshot.calls, snapshot.failures)
}

#[test]
fn ok_is_a_success_and_err_a_failure_that_comes_back_as_it_was() {
    let (breaker, _) = fixture();
    assert_eq!(now(breaker.call(ready(Ok::<_, &str>(7)))), Ok(7));
    assert_eq!(counts(&breaker), (1, 0));
    let failed = now(breaker.call(ready(Err::<u32, _>("no route"))));
    assert_eq!(failed, Err(Error::Inner("no route")));
    assert_eq!(counts(&breaker), (2, 1));
}

#[test]
fn an_open_breaker_never_polls_the_call() {
    let (breaker, _) = fixture();
    (0..2).for_each(|_| breaker.try_acquire().unwrap().failure());
    let call = poll_fn(|_| -> Poll<Result<(), ()>> { panic!("it was polled") });
    match now(breaker.call(call)) {
        Err(Error::Rejected(rejected)) => assert_eq!(rejected.retry_after(), RESET),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_classifier_decides_what_a_result_counts_as() {
    let (breaker, _) = fixture();
    let statuses = classify_fn(|result: Result<&u16, &()>| match result {
        Ok(429) => Outcome::Overloaded {
            retry_after: Some(RESET * 3),
        },
        Ok(404) => Outcome::Ignored,
        Ok(500..) | Err(()) => Outcome::Failure,
        Ok(_) => Outcome::Success,
    });
    for status in [200, 404, 500] {
        let answer = now(breaker.call_with(&statuses, ready(Ok(status))));
        assert_eq!(answer, Ok(status));
    }
    assert_eq!(counts(&breaker), (2, 1));
    assert_eq!(now(breaker.call_with(&statuses, ready(Ok(429)))), Ok(429));
    assert_eq!(breaker.snapshot().retry_after, Some(RESET * 3));
}

#[test]
fn a_dropped_call_gives_its_probe_permit_back_and_decides_nothing() {
    let (breaker, _) = half_open_next();
    let mut call = Box::pin(breaker.call(pending::<Result<(), ()>>()));
    assert!(poll(call.as_mut()).is_pending());
    assert_eq!(breaker.snapshot().permits_out, 1);
    assert!(breaker.try_acquire().is_err());
    drop(call);
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.permits_out, snapshot.calls), (0, 0));
    assert_eq!(snapshot.state, State::HalfOpen);
    assert_eq!(now(breaker.call(ready(Ok::<_, ()>(())))), Ok(()));
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_call_that_is_never_polled_takes_no_permit() {
    let (breaker, _) = half_open_next();
    let call = breaker.call(pending::<Result<(), ()>>());
    assert_eq!(breaker.state(), State::Open);
    drop(call);
    assert!(breaker.try_acquire().is_ok());
}

#[test]
fn a_call_that_panics_is_a_failure() {
    let (breaker, _) = fixture();
    let call = breaker.call(poll_fn(|_| -> Poll<Result<(), ()>> {
        panic!("on purpose")
    }));
    assert!(catch_unwind(AssertUnwindSafe(|| now(call))).is_err());
    assert_eq!(counts(&breaker), (1, 1));
}

#[test]
fn a_probe_that_panics_reopens() {
    let (breaker, _) = half_open_next();
    let call = breaker.call(poll_fn(|_| -> Poll<Result<(), ()>> {
        panic!("on purpose")
    }));
    assert!(catch_unwind(AssertUnwindSafe(|| now(call))).is_err());
    assert_eq!(breaker.state(), State::Open);
}
