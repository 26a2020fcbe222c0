//! The breaker layer over a mock upstream, on a clock moved by hand.
#![cfg(feature = "breaker")]

use std::convert::Infallible;
use std::error::Error as _;
use std::future::{pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::time::Duration;

use resilience_core::breaker::{CircuitBreaker, Config, Outcome, State, classify_fn};
use resilience_core::clock::ManualClock;
use resilience_tower::breaker::{Breaker, BreakerLayer, Error};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::limit::ConcurrencyLimit;
use tower::{Service, ServiceExt, service_fn};
use tower_test::mock::{self, Handle, Mock, Spawn};

type Upstream = Handle<&'static str, &'static str>;
type Payments = Spawn<Breaker<Mock<&'static str, &'static str>>>;

const RESET: Duration = Duration::from_secs(30);

/// Opens at the second failure in a row; one permit while half-open.
fn breaker() -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let config = Config::builder()
        .consecutive_failures(Some(2))
        .half_open_permits(1)
        .success_threshold(1)
        .reset_timeout(RESET)
        .build()
        .unwrap();
    let breaker = CircuitBreaker::with_clock("payments", config, clock.clone());
    (breaker, clock)
}

fn opened() -> (CircuitBreaker, ManualClock) {
    let (breaker, clock) = breaker();
    for _ in 0..2 {
        breaker.try_acquire().unwrap().failure();
    }
    assert_eq!(breaker.state(), State::Open);
    (breaker, clock)
}

fn half_open() -> (CircuitBreaker, ManualClock) {
    let (breaker, clock) = opened();
    clock.advance(RESET);
    (breaker, clock)
}

fn payments(breaker: &CircuitBreaker) -> (Payments, Upstream) {
    mock::spawn_layer(BreakerLayer::from_handle(breaker.clone()))
}

fn answer(upstream: &mut Upstream, response: Result<&'static str, &'static str>) {
    let (_, respond) = assert_ready!(upstream.poll_request()).unwrap();
    match response {
        Ok(response) => respond.send_response(response),
        Err(error) => respond.send_error(error),
    }
}

fn fail(payments: &mut Payments, upstream: &mut Upstream) {
    assert_ready_ok!(payments.poll_ready());
    let mut call = task::spawn(payments.call("pay"));
    answer(upstream, Err("down"));
    let error = assert_ready_err!(call.poll());
    assert!(matches!(error, Error::Inner(_)));
}

#[test]
fn request_and_response_pass_through_a_closed_breaker() {
    let (breaker, _clock) = breaker();
    let (mut payments, mut upstream) = payments(&breaker);
    assert_ready_ok!(payments.poll_ready());
    let mut call = task::spawn(payments.call("pay"));
    assert_pending!(call.poll());
    let (request, respond) = assert_ready!(upstream.poll_request()).unwrap();
    assert_eq!(request, "pay");
    respond.send_response("paid");
    assert!(call.is_woken());
    assert_eq!(assert_ready_ok!(call.poll()), "paid");
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn failures_open_it_and_the_inner_service_is_left_alone() {
    let (breaker, _clock) = breaker();
    let (mut payments, mut upstream) = payments(&breaker);
    fail(&mut payments, &mut upstream);
    assert_eq!(breaker.state(), State::Closed);
    fail(&mut payments, &mut upstream);
    assert_eq!(breaker.state(), State::Open);

    assert_ready_ok!(payments.poll_ready());
    let mut call = task::spawn(payments.call("pay"));
    let Error::Rejected(rejected) = assert_ready_err!(call.poll()) else {
        panic!("the breaker is open");
    };
    assert_eq!(rejected.retry_after(), RESET);
    assert_pending!(upstream.poll_request());
}

#[test]
fn a_refusal_polled_again_is_the_same_refusal() {
    let (breaker, _clock) = opened();
    let (mut payments, _upstream) = payments(&breaker);
    assert_ready_ok!(payments.poll_ready());
    let mut call = task::spawn(payments.call("pay"));
    for _ in 0..2 {
        assert!(matches!(assert_ready_err!(call.poll()), Error::Rejected(_)));
    }
}

#[test]
fn a_success_while_half_open_closes_it() {
    let (breaker, _clock) = half_open();
    let (mut payments, mut upstream) = payments(&breaker);
    assert_ready_ok!(payments.poll_ready());
    let mut call = task::spawn(payments.call("pay"));
    answer(&mut upstream, Ok("paid"));
    assert_ready_ok!(call.poll());
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn readiness_is_the_inner_services_whatever_the_breaker_says() {
    for (breaker, _clock) in [breaker(), opened(), half_open()] {
        let (mut payments, mut upstream) = payments(&breaker);
        upstream.allow(0);
        assert_pending!(payments.poll_ready());
        upstream.allow(1);
        assert!(payments.is_woken());
        assert_ready_ok!(payments.poll_ready());
    }
}

#[test]
fn an_inner_service_that_fails_its_readiness_is_an_inner_error() {
    let (breaker, _clock) = breaker();
    let (mut payments, mut upstream) = payments(&breaker);
    upstream.send_error("gone");
    assert!(matches!(
        assert_ready_err!(payments.poll_ready()),
        Error::Inner(_)
    ));
}

#[test]
fn a_ready_service_that_is_never_called_holds_no_half_open_permit() {
    let (breaker, _clock) = half_open();
    let (mut idle, mut upstream) = payments(&breaker);
    let mut busy = idle.clone();
    assert_ready_ok!(idle.poll_ready());
    assert_ready_ok!(busy.poll_ready());
    let mut call = task::spawn(busy.call("pay"));
    answer(&mut upstream, Ok("paid"));
    assert_ready_ok!(call.poll());
    assert_eq!(breaker.state(), State::Closed);
}

/// `ConcurrencyLimit` panics when a clone that was not polled ready is called.
#[test]
fn the_service_that_was_polled_ready_is_the_one_called() {
    let (breaker, _clock) = breaker();
    let inner = ConcurrencyLimit::new(service_fn(|()| ready(Ok::<_, Infallible>(1))), 1);
    let mut service = task::spawn(Breaker::new(inner, breaker));
    for _ in 0..3 {
        assert_ready_ok!(service.enter(|cx, mut service| service.poll_ready(cx)));
        let mut call = task::spawn(service.enter(|_, mut service| service.call(())));
        assert_ready_ok!(call.poll());
    }
}

#[test]
fn clones_share_one_breaker_and_layers_by_name_do_not() {
    let (breaker, _clock) = breaker();
    let (mut first, mut upstream) = payments(&breaker);
    let mut second = first.clone();
    fail(&mut first, &mut upstream);
    fail(&mut second, &mut upstream);
    assert_eq!(first.get_ref().handle().state(), State::Open);
    assert_eq!(second.get_ref().handle().state(), State::Open);

    let opened = BreakerLayer::new("mail");
    let config = Config::builder().consecutive_failures(Some(1));
    let alone = CircuitBreaker::with_config("mail", config.build().unwrap());
    alone.try_acquire().unwrap().failure();
    assert_eq!(alone.state(), State::Open);
    assert_eq!(opened.handle().state(), State::Closed);
}

#[test]
fn dropping_a_call_gives_its_half_open_permit_back() {
    let (breaker, _clock) = half_open();
    let (mut payments, mut upstream) = payments(&breaker);
    for polled in [false, true] {
        assert_ready_ok!(payments.poll_ready());
        let mut call = task::spawn(payments.call("pay"));
        if polled {
            assert_pending!(call.poll());
        }
        drop(call);
        assert_ready!(upstream.poll_request());
        assert_eq!(breaker.state(), State::HalfOpen);
    }
    // The one permit of the half-open period is there for the next caller.
    assert_ready_ok!(payments.poll_ready());
    let mut call = task::spawn(payments.call("pay"));
    answer(&mut upstream, Ok("paid"));
    assert_ready_ok!(call.poll());
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn clients_that_go_away_do_not_open_it() {
    let (breaker, _clock) = breaker();
    let service = Breaker::new(
        service_fn(|()| pending::<Result<(), Infallible>>()),
        breaker.clone(),
    );
    for _ in 0..100 {
        let mut call = task::spawn(service.clone().oneshot(()));
        assert_pending!(call.poll());
    }
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().failures, 0);
}

/// The runtime catches the panic of a task, and drops its future when nothing is unwinding
/// any more: the permit must not have waited in the future until then.
#[test]
fn a_panic_while_polled_is_a_failure_even_when_it_is_caught() {
    let (breaker, _clock) = half_open();
    let service = Breaker::new(
        service_fn(|()| {
            let mut polls = 0;
            poll_fn(move |_| -> Poll<Result<(), Infallible>> {
                polls += 1;
                assert!(polls < 2, "the upstream's client has a bug");
                Poll::Pending
            })
        }),
        breaker.clone(),
    );
    let mut call = task::spawn(service.oneshot(()));
    assert_pending!(call.poll());
    assert_eq!(breaker.state(), State::HalfOpen);
    assert!(catch_unwind(AssertUnwindSafe(|| call.poll())).is_err());
    assert_eq!(breaker.state(), State::Open);
    drop(call);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_panic_in_the_inner_call_is_a_failure() {
    let (breaker, _clock) = half_open();
    let mut service = Breaker::new(
        service_fn(|()| -> std::future::Ready<Result<(), Infallible>> {
            panic!("the upstream's client has a bug")
        }),
        breaker.clone(),
    );
    assert!(catch_unwind(AssertUnwindSafe(|| drop(service.call(())))).is_err());
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_panic_of_the_classifier_is_a_failure() {
    let (breaker, _clock) = half_open();
    let mut service = Breaker::with_classifier(
        service_fn(|()| ready(Ok::<_, Infallible>(()))),
        breaker.clone(),
        classify_fn(|_: Result<&(), &Infallible>| -> Outcome { panic!("a bug") }),
    );
    let mut call = task::spawn(service.call(()));
    assert!(catch_unwind(AssertUnwindSafe(|| call.poll())).is_err());
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn the_classifier_decides_and_the_response_stays_as_it_is() {
    let (breaker, _clock) = breaker();
    let layer = BreakerLayer::from_handle(breaker.clone()).classify(classify_fn(
        |result: Result<&u16, &&'static str>| match result {
            Ok(500..) => Outcome::Failure,
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Ignored,
        },
    ));
    let service = tower::ServiceBuilder::new()
        .layer(layer)
        .service(service_fn(|status: Result<u16, &'static str>| {
            ready(status)
        }));
    let call = |status| {
        let mut call = task::spawn(service.clone().oneshot(status));
        assert_ready!(call.poll())
    };
    for _ in 0..5 {
        assert!(matches!(
            call(Err("cancelled")),
            Err(Error::Inner("cancelled"))
        ));
    }
    assert_eq!(breaker.state(), State::Closed);
    for _ in 0..2 {
        assert_eq!(call(Ok(503)).unwrap(), 503);
    }
    assert_eq!(breaker.state(), State::Open);
    assert!(matches!(call(Ok(200)), Err(Error::Rejected(_))));
}

#[test]
fn an_outcome_is_recorded_once_however_often_the_future_is_polled() {
    let (breaker, _clock) = breaker();
    let mut service = Breaker::new(
        service_fn(|()| poll_fn(|_| Poll::Ready(Err::<(), _>("down")))),
        breaker.clone(),
    );
    let mut call = task::spawn(service.call(()));
    for _ in 0..3 {
        assert!(matches!(
            assert_ready_err!(call.poll()),
            Error::Inner("down")
        ));
    }
    drop(call);
    assert_eq!(breaker.snapshot().failures, 1);
    assert_eq!(breaker.state(), State::Closed);
}

/// FLOWS A6: a call admitted before the breaker opened must not close it later.
#[test]
fn a_late_success_does_not_close_it() {
    let (breaker, clock) = breaker();
    let (mut payments, mut upstream) = payments(&breaker);
    assert_ready_ok!(payments.poll_ready());
    let mut late = task::spawn(payments.call("pay"));
    let (_, respond) = assert_ready!(upstream.poll_request()).unwrap();
    for _ in 0..2 {
        fail(&mut payments, &mut upstream);
    }
    clock.advance(RESET);
    respond.send_response("paid");
    assert_ready_ok!(late.poll());
    assert_ne!(breaker.state(), State::Closed);
}

#[test]
fn errors_tell_their_own_story_and_hide_nothing() {
    let (breaker, _clock) = opened();
    let rejected = breaker.try_acquire().unwrap_err();
    let text = rejected.to_string();
    let error: Error<std::io::Error> = Error::from(rejected);
    assert_eq!(error.to_string(), text);
    assert!(text.contains("payments"), "{text}");

    let error = Error::Inner(Connect(std::io::Error::other("reset by peer")));
    assert_eq!(error.to_string(), "connect");
    assert_eq!(error.source().unwrap().to_string(), "reset by peer");
}

#[derive(Debug, thiserror::Error)]
#[error("connect")]
struct Connect(#[source] std::io::Error);
