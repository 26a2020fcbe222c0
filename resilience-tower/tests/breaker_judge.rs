//! Who judges a call: presets, functions of the request, and what a judge may not lose.
#![cfg(feature = "breaker")]

use std::convert::Infallible;
use std::future::{Ready, pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};

use resilience_core::breaker::{CircuitBreaker, Config, Outcome, State, classify_fn};
use resilience_tower::breaker::{BreakerLayer, OnResult};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, service_fn};

/// Opens at the first failure.
fn breaker() -> CircuitBreaker {
    let config = Config::builder().consecutive_failures(Some(1)).build();
    CircuitBreaker::with_config("records", config.unwrap())
}

/// A lookup that finds nothing.
fn missing(_: bool) -> Ready<Result<Option<()>, Infallible>> {
    ready(Ok(None))
}

#[test]
fn the_request_decides_how_its_call_is_judged() {
    let breaker = breaker();
    let layer = BreakerLayer::from_handle(breaker.clone()).classify_by(|must_exist: &bool| {
        let must_exist = *must_exist;
        OnResult(classify_fn(
            move |result: Result<&Option<()>, &Infallible>| match result {
                Ok(None) if must_exist => Outcome::Failure,
                _ => Outcome::Success,
            },
        ))
    });
    let mut service = layer.layer(service_fn(missing));
    for (must_exist, state) in [(false, State::Closed), (true, State::Open)] {
        let mut call = task::spawn(service.call(must_exist));
        assert!(assert_ready!(call.poll()).unwrap().is_none());
        assert_eq!(breaker.state(), state);
    }
}

#[test]
fn a_refused_request_is_not_looked_at() {
    let breaker = breaker();
    breaker.try_acquire().unwrap().failure();
    let layer = BreakerLayer::from_handle(breaker).classify_by(
        |_: &bool| -> OnResult<resilience_core::breaker::ResultClassifier> {
            unreachable!("the call is refused")
        },
    );
    let mut call = task::spawn(layer.layer(service_fn(missing)).call(true));
    assert!(assert_ready!(call.poll()).is_err());
}

#[test]
fn a_panic_of_the_function_that_looks_at_the_request_is_a_failure() {
    let breaker = breaker();
    let layer = BreakerLayer::from_handle(breaker.clone()).classify_by(
        |_: &bool| -> OnResult<resilience_core::breaker::ResultClassifier> { panic!("a bug") },
    );
    let mut service = layer.layer(service_fn(missing));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(service.call(true)))).is_err());
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_call_that_is_judged_by_its_request_gives_its_permit_back_when_dropped() {
    let breaker = breaker();
    let judge = classify_fn(|_: Result<&(), &Infallible>| Outcome::Failure);
    let layer =
        BreakerLayer::from_handle(breaker.clone()).classify_by(move |(): &()| OnResult(judge));
    let stuck = service_fn(|()| pending::<Result<(), Infallible>>());
    let mut call = task::spawn(layer.layer(stuck).call(()));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!(breaker.snapshot().failures, 0);
    assert_eq!(breaker.state(), State::Closed);
}

/// A peer's default classifier counts HTTP 500 as a success, and its breaker never opens.
#[cfg(feature = "http")]
#[test]
fn the_http_presets_count_a_500_as_a_failure_and_a_404_as_a_success() {
    use http::Response;
    use http_body_util::Full;
    use resilience_tower::breaker::http::HttpClassifier;

    for (status, state) in [(404, State::Closed), (500, State::Open)] {
        let answer = move |()| {
            let response = Response::builder().status(status);
            let body = Full::<bytes::Bytes>::from("sorry");
            ready(Ok::<_, Infallible>(response.body(body).unwrap()))
        };
        let at_head = breaker();
        let layer = BreakerLayer::from_handle(at_head.clone()).http();
        let mut call = task::spawn(layer.layer(service_fn(answer)).call(()));
        assert_eq!(assert_ready!(call.poll()).unwrap().status(), status);
        assert_eq!(at_head.state(), state, "{status} at the head");

        let at_end = breaker();
        let layer = BreakerLayer::from_handle(at_end.clone()).classify_body(HttpClassifier);
        let mut call = task::spawn(layer.layer(service_fn(answer)).call(()));
        assert_eq!(assert_ready!(call.poll()).unwrap().status(), status);
        assert_eq!(at_end.state(), state, "{status} at the end");
    }
}
