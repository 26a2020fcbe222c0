//! Outcomes that are known when the body ends: the breaker layer over bodies that follow a
//! script, on a clock moved by hand.
#![cfg(all(feature = "breaker", feature = "http"))]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use resilience_core::breaker::{CircuitBreaker, Classify, Config, OnCancel, Outcome, State};
use resilience_core::clock::ManualClock;
use resilience_tower::breaker::http::{ClassifyBody, HttpClassifier, JudgedBody};
use resilience_tower::breaker::{Breaker, BreakerLayer};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, service_fn};

const RESET: Duration = Duration::from_secs(30);

/// What the body does, one step per poll.
#[derive(Debug)]
enum Step {
    Wait,
    Data(&'static str),
    Trailers,
    Break,
    Panic,
}

use Step::{Break, Data, Panic, Trailers, Wait};

/// A body that follows a script; it says that it has ended once the script is done, if it is
/// one of those that know.
#[derive(Debug)]
struct Script {
    steps: VecDeque<Step>,
    knows_its_end: bool,
}

impl Body for Script {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let Some(step) = self.steps.pop_front() else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(match step {
            Wait => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Data(data) => Ok(Frame::data(Bytes::from_static(data.as_bytes()))),
            Trailers => Ok(Frame::trailers(HeaderMap::new())),
            Break => Err("reset"),
            Panic => panic!("a bug in the body"),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.knows_its_end && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.steps.len() as u64)
    }
}

fn response(status: u16, steps: impl IntoIterator<Item = Step>) -> Response<Script> {
    let body = Script {
        steps: steps.into_iter().collect(),
        knows_its_end: false,
    };
    Response::builder().status(status).body(body).unwrap()
}

/// Opens at the first failure; one permit while half-open.
fn breaker(on_cancel: OnCancel) -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let config = Config::builder()
        .consecutive_failures(Some(1))
        .half_open_permits(1)
        .success_threshold(1)
        .reset_timeout(RESET)
        .on_cancel(on_cancel)
        .build()
        .unwrap();
    let breaker = CircuitBreaker::with_clock("images", config, clock.clone());
    (breaker, clock)
}

fn half_open() -> (CircuitBreaker, ManualClock) {
    let (breaker, clock) = breaker(OnCancel::Ignore);
    breaker.try_acquire().unwrap().failure();
    clock.advance(RESET);
    (breaker, clock)
}

type Judged = JudgedBody<Script, HttpClassifier>;

/// The response of a call through the layer.
fn call(breaker: &CircuitBreaker, response: Response<Script>) -> Response<Judged> {
    let inner = service_fn(|response| ready(Ok::<_, Infallible>(response)));
    let layer = BreakerLayer::from_handle(breaker.clone()).classify_body(HttpClassifier);
    let mut call = task::spawn(layer.layer(inner).oneshot(response));
    assert_ready_ok!(call.poll())
}

type Polled = Poll<Option<Result<Frame<Bytes>, &'static str>>>;

fn poll(body: &mut task::Spawn<Judged>) -> Polled {
    body.enter(|cx, body| body.poll_frame(cx))
}

fn calls(breaker: &CircuitBreaker) -> (u64, u64) {
    let snapshot = breaker.snapshot();
    (snapshot.calls, snapshot.failures)
}

#[test]
fn a_body_that_ends_is_a_success_and_not_before() {
    let (breaker, _clock) = breaker(OnCancel::Ignore);
    let response = call(&breaker, response(200, [Data("a"), Wait, Data("b")]));
    let mut body = task::spawn(response.into_body());
    assert!(assert_ready!(poll(&mut body)).is_some());
    assert_pending!(poll(&mut body));
    assert!(assert_ready!(poll(&mut body)).is_some());
    assert_eq!(calls(&breaker), (0, 0));
    assert!(assert_ready!(poll(&mut body)).is_none());
    assert_eq!(calls(&breaker), (1, 0));
    // Polled on, it says no more.
    assert!(assert_ready!(poll(&mut body)).is_none());
    drop(body);
    assert_eq!(calls(&breaker), (1, 0));
}

#[test]
fn trailers_are_the_end() {
    let (breaker, _clock) = breaker(OnCancel::Failure);
    let response = call(&breaker, response(200, [Data("a"), Trailers]));
    let mut body = task::spawn(response.into_body());
    assert!(assert_ready!(poll(&mut body)).is_some());
    assert_eq!(calls(&breaker), (0, 0));
    let frame = assert_ready!(poll(&mut body)).unwrap().unwrap();
    assert!(frame.is_trailers());
    assert_eq!(calls(&breaker), (1, 0));
    // Nobody polls a body after its trailers.
    drop(body);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_body_that_breaks_off_is_a_failure() {
    let (breaker, _clock) = breaker(OnCancel::Ignore);
    let response = call(&breaker, response(200, [Data("a"), Break]));
    let mut body = task::spawn(response.into_body());
    assert!(assert_ready!(poll(&mut body)).unwrap().is_ok());
    assert_eq!(breaker.state(), State::Closed);
    assert!(matches!(assert_ready!(poll(&mut body)), Some(Err("reset"))));
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_failure_at_the_head_does_not_wait_for_the_body() {
    let (breaker, _clock) = breaker(OnCancel::Ignore);
    let response = call(&breaker, response(500, [Data("sorry")]));
    assert_eq!(breaker.state(), State::Open);
    let mut body = task::spawn(response.into_body());
    assert!(assert_ready!(poll(&mut body)).unwrap().is_ok());
}

/// A server does not poll a body that has ended: its permit would be dropped as abandoned.
#[test]
fn a_body_that_is_empty_from_the_start_needs_no_poll() {
    let (breaker, _clock) = half_open();
    let mut empty = response(204, []);
    empty.body_mut().knows_its_end = true;
    drop(call(&breaker, empty));
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_body_that_says_after_a_frame_that_it_has_ended_needs_no_further_poll() {
    let (breaker, _clock) = half_open();
    let mut response = response(200, [Data("a"), Data("b")]);
    response.body_mut().knows_its_end = true;
    let mut body = task::spawn(call(&breaker, response).into_body());
    assert!(assert_ready!(poll(&mut body)).is_some());
    assert_eq!(breaker.state(), State::HalfOpen);
    assert!(assert_ready!(poll(&mut body)).is_some());
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn frames_and_hints_pass_untouched() {
    let (breaker, _clock) = breaker(OnCancel::Ignore);
    let mut response = response(200, [Data("a"), Trailers]);
    response.body_mut().knows_its_end = true;
    let response = call(&breaker, response);
    assert_eq!(response.body().size_hint().exact(), Some(2));
    assert!(!response.body().is_end_stream());
    let mut body = task::spawn(response.into_body());
    let data = assert_ready!(poll(&mut body)).unwrap().unwrap();
    assert_eq!(data.into_data().unwrap(), "a");
    assert_eq!(body.size_hint().exact(), Some(1));
    let trailers = assert_ready!(poll(&mut body)).unwrap().unwrap();
    assert!(trailers.into_trailers().unwrap().is_empty());
    assert!(body.is_end_stream());
}

#[test]
fn a_call_dropped_before_after_or_within_the_body_gives_its_permit_back() {
    let (breaker, _clock) = half_open();
    // Before the head.
    let layer = BreakerLayer::from_handle(breaker.clone()).classify_body(HttpClassifier);
    let mut waiting: Breaker<_, _> = layer.layer(service_fn(|()| {
        pending::<Result<Response<Script>, Infallible>>()
    }));
    let mut future = task::spawn(waiting.call(()));
    assert_pending!(future.poll());
    assert_eq!(breaker.snapshot().permits_out, 1);
    drop(future);
    assert_eq!(breaker.snapshot().permits_out, 0);
    // At the head, the body never polled.
    drop(call(&breaker, response(200, [Data("a")])));
    assert_eq!(breaker.snapshot().permits_out, 0);
    // Within the body.
    let response_within = call(&breaker, response(200, [Data("a"), Wait]));
    let mut body = task::spawn(response_within.into_body());
    assert!(assert_ready!(poll(&mut body)).is_some());
    assert_pending!(poll(&mut body));
    assert_eq!(breaker.snapshot().permits_out, 1);
    drop(body);
    assert_eq!(breaker.snapshot().permits_out, 0);
    assert_eq!(breaker.state(), State::HalfOpen);
    // The one permit of the period is there for the next.
    let mut body = task::spawn(call(&breaker, response(200, [])).into_body());
    assert!(assert_ready!(poll(&mut body)).is_none());
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_body_dropped_half_way_is_what_on_cancel_says() {
    for (on_cancel, state) in [
        (OnCancel::Ignore, State::Closed),
        (OnCancel::Failure, State::Open),
    ] {
        let (breaker, _clock) = breaker(on_cancel);
        let response = call(&breaker, response(200, [Data("a"), Data("b")]));
        let mut body = task::spawn(response.into_body());
        assert!(assert_ready!(poll(&mut body)).is_some());
        drop(body);
        assert_eq!(breaker.state(), state, "{on_cancel:?}");
    }
}

#[test]
fn a_panic_of_the_body_is_a_failure_even_when_it_is_caught() {
    let (breaker, _clock) = half_open();
    let response = call(&breaker, response(200, [Data("a"), Panic, Data("b")]));
    let mut body = task::spawn(response.into_body());
    assert!(assert_ready!(poll(&mut body)).is_some());
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut body))).is_err());
    assert_eq!(breaker.state(), State::Open);
    drop(body);
    assert_eq!(breaker.state(), State::Open);
}

/// Fails the call by its own bug, at the head or at the end of the body.
#[derive(Clone, Copy)]
struct Buggy {
    at_head: bool,
}

impl<B, E> Classify<Response<B>, E> for Buggy {
    fn classify(&self, _: Result<&Response<B>, &E>) -> Outcome {
        Outcome::Failure
    }
}

impl<B: Body> ClassifyBody<B> for Buggy {
    fn head(&self, _: &Response<B>) -> Option<Outcome> {
        assert!(!self.at_head, "a bug in the classifier");
        None
    }

    fn end(&self, _: Option<&HeaderMap>) -> Outcome {
        panic!("a bug in the classifier")
    }
}

#[test]
fn a_panic_of_the_classifier_at_the_head_or_at_the_end_is_a_failure() {
    for at_head in [true, false] {
        let (breaker, _clock) = half_open();
        let inner = service_fn(|response| ready(Ok::<_, Infallible>(response)));
        let layer = BreakerLayer::from_handle(breaker.clone()).classify_body(Buggy { at_head });
        let mut call = task::spawn(layer.layer(inner).oneshot(response(200, [Trailers])));
        if at_head {
            assert!(catch_unwind(AssertUnwindSafe(|| call.poll())).is_err());
            assert_eq!(breaker.state(), State::Open);
            continue;
        }
        let response = assert_ready_ok!(call.poll());
        assert_eq!(breaker.state(), State::HalfOpen);
        let mut body = task::spawn(response.into_body());
        let polled = AssertUnwindSafe(|| body.enter(|cx, body| body.poll_frame(cx).is_ready()));
        assert!(catch_unwind(polled).is_err());
        assert_eq!(breaker.state(), State::Open);
    }
}

#[test]
fn a_stream_that_outlives_its_lease_does_not_keep_the_breaker_half_open() {
    let (breaker, clock) = half_open();
    let response_of_probe = call(&breaker, response(200, [Wait]));
    assert!(breaker.try_acquire().is_err());
    clock.advance(RESET);
    let mut body = task::spawn(call(&breaker, response(200, [])).into_body());
    assert!(assert_ready!(poll(&mut body)).is_none());
    assert_eq!(breaker.state(), State::Closed);
    // Its own end comes too late to count.
    drop(response_of_probe);
    assert_eq!(breaker.state(), State::Closed);
}

/// An error instead of a response is judged at once, by the classifier's `Classify`.
#[test]
fn a_call_without_a_response_is_a_failure() {
    let (breaker, _clock) = breaker(OnCancel::Ignore);
    let down = service_fn(|()| -> Ready<Result<Response<Script>, &str>> { ready(Err("down")) });
    let layer = BreakerLayer::from_handle(breaker.clone()).classify_body(HttpClassifier);
    let mut call = task::spawn(layer.layer(down).oneshot(()));
    assert!(assert_ready!(call.poll()).is_err());
    assert_eq!(breaker.state(), State::Open);
}
