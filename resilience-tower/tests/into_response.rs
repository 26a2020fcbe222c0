//! Refusals as responses: what axum and a tonic router take, with the inner service's error.
#![cfg(all(feature = "breaker", feature = "http"))]

use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use resilience_core::breaker::{CircuitBreaker, Config, Reason, Rejected, State};
use resilience_core::clock::ManualClock;
use resilience_tower::breaker::http::{HttpClassifier, problem};
use resilience_tower::breaker::{BreakerLayer, Error};
use resilience_tower::refusal::{IntoResponse, RefusalBody};
use tokio_test::{assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, service_fn};

/// Opens at the first failure, for `reset`.
fn breaker(name: &str, reset: Duration) -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let config = Config::builder()
        .consecutive_failures(Some(1))
        .half_open_permits(1)
        .success_threshold(1)
        .reset_timeout(reset)
        .build()
        .unwrap();
    let breaker = CircuitBreaker::with_clock(name, config, clock.clone());
    (breaker, clock)
}

fn opened(name: &str, reset: Duration) -> (CircuitBreaker, ManualClock) {
    let (breaker, clock) = breaker(name, reset);
    breaker.try_acquire().unwrap().failure();
    (breaker, clock)
}

type Refusal = Response<RefusalBody<Full<Bytes>>>;

/// The refusal of an open breaker; the inner service must not be called.
fn refused<F>(breaker: &CircuitBreaker, refuse: F) -> Refusal
where
    F: Fn(&Rejected) -> Response<Bytes> + Clone,
{
    let inner = service_fn(
        |()| -> std::future::Ready<Result<Response<Full<Bytes>>, Infallible>> {
            unreachable!("the breaker is open")
        },
    );
    let layer = BreakerLayer::from_handle(breaker.clone()).into_response_with(refuse);
    let mut call = task::spawn(layer.layer(inner).oneshot(()));
    assert_ready_ok!(call.poll())
}

fn json(response: Refusal) -> serde_json::Value {
    let mut body = task::spawn(response.into_body().collect());
    let bytes = assert_ready_ok!(body.poll()).to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn a_refusal_is_503_with_retry_after_and_problem_json() {
    let (breaker, _clock) = opened("payments", Duration::from_millis(29_001));
    let response = refused(&breaker, problem);
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "30");
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    assert!(response.body().size_hint().exact().unwrap() > 0);
    assert_eq!(
        json(response),
        serde_json::json!({
            "title": "Service Unavailable",
            "status": 503,
            "breaker": "payments",
            "state": "open",
            "reason": "open",
            "retry_after": 30,
        })
    );
}

#[test]
fn retry_after_is_never_zero_and_never_early() {
    for (waited, told) in [(0, "2"), (1, "2"), (1_000, "1"), (1_999, "1")] {
        let (breaker, clock) = opened("payments", Duration::from_secs(2));
        clock.advance(Duration::from_millis(waited));
        let response = refused(&breaker, problem);
        assert_eq!(response.headers()["retry-after"], told, "after {waited} ms");
    }
}

#[test]
fn a_half_open_breaker_out_of_probes_says_so() {
    let (breaker, clock) = opened("payments", Duration::from_secs(2));
    clock.advance(Duration::from_secs(2));
    let _probe = breaker.try_acquire().unwrap();
    let body = json(refused(&breaker, problem));
    assert_eq!(body["state"], "half_open");
    assert_eq!(body["reason"], "probes_spent");
}

#[test]
fn any_name_makes_valid_json() {
    for name in [
        "",
        "a \"b\" \\ c",
        "line\nbreak\u{0}",
        "Zahlungen 🏦",
        &"x".repeat(200),
    ] {
        let (breaker, _clock) = opened(name, Duration::from_secs(1));
        let told = breaker.try_acquire().unwrap_err();
        assert_eq!(json(refused(&breaker, problem))["breaker"], told.name());
    }
}

#[test]
fn the_typed_refusal_goes_along_also_with_a_function_of_ones_own() {
    let (breaker, _clock) = opened("payments", Duration::from_secs(7));
    let teapot = |_: &Rejected| {
        let response = Response::builder().status(StatusCode::IM_A_TEAPOT);
        response
            .body(Bytes::from_static(b"short and stout"))
            .unwrap()
    };
    for response in [refused(&breaker, problem), refused(&breaker, teapot)] {
        let rejected = response.extensions().get::<Rejected>().unwrap();
        assert_eq!(rejected.reason(), Reason::Open);
        assert_eq!(rejected.retry_after(), Duration::from_secs(7));
    }
    assert_eq!(refused(&breaker, teapot).status(), StatusCode::IM_A_TEAPOT);
}

#[test]
fn the_inner_error_stays_the_inner_error() {
    let (breaker, _clock) = breaker("payments", Duration::from_secs(1));
    let inner = service_fn(|()| ready(Err::<Response<Full<Bytes>>, _>("reset by peer")));
    let layer = BreakerLayer::from_handle(breaker.clone()).into_response();
    let mut service = layer.layer(inner);
    let mut call = task::spawn(service.call(()));
    assert_eq!(assert_ready_err!(call.poll()), "reset by peer");
    drop(call);
    assert_eq!(breaker.state(), State::Open);
    let mut call = task::spawn(service.call(()));
    let response: Refusal = assert_ready_ok!(call.poll());
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn an_inner_service_that_fails_its_readiness_fails_as_itself() {
    let (breaker, _clock) = breaker("payments", Duration::from_secs(1));
    let broken = tower::util::MapErr::new(Unready(None), |_: Error<Infallible>| "gone");
    let layer = BreakerLayer::from_handle(breaker).into_response();
    let mut service = task::spawn(layer.layer(broken));
    let polled = service.enter(|cx, mut service| Service::<()>::poll_ready(&mut *service, cx));
    assert_eq!(assert_ready_err!(polled), "gone");
}

/// A service of another crate may refuse when asked whether it is ready: its caller must
/// still get the refusal as a response, once, and only from the service that was asked.
#[test]
fn a_refusal_told_by_readiness_is_the_next_calls_response() {
    let (breaker, _clock) = opened("payments", Duration::from_secs(1));
    let rejected = breaker.try_acquire().unwrap_err();
    let mut service = task::spawn(IntoResponse::new(Unready(Some(rejected)), problem));
    for _ in 0..2 {
        let polled = service.enter(|cx, mut service| Service::<()>::poll_ready(&mut *service, cx));
        assert_ready_ok!(polled);
    }
    let mut clone = (*service).clone();
    let mut call = task::spawn(service.enter(|_, mut service| service.call(())));
    let response = assert_ready_ok!(call.poll());
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.extensions().get::<Rejected>().is_some());
    let mut call = task::spawn(clone.call(()));
    let response: Refusal = assert_ready_ok!(call.poll());
    assert_eq!(response.status(), StatusCode::OK);
}

/// Never ready: fails by a refusal, or for good.
#[derive(Clone)]
struct Unready(Option<Rejected>);

impl Service<()> for Unready {
    type Response = Response<Full<Bytes>>;
    type Error = Error<Infallible>;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        let (breaker, _clock) = opened("other", Duration::from_secs(1));
        let refusal = self.0.unwrap_or_else(|| breaker.try_acquire().unwrap_err());
        Poll::Ready(Err(refusal.into()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(Response::default()))
    }
}

#[test]
fn the_inner_response_passes_untouched() {
    let (breaker, _clock) = breaker("payments", Duration::from_secs(1));
    let inner = service_fn(|()| {
        let response = Response::builder().status(201).header("x-id", "7");
        ready(Ok::<_, Infallible>(
            response.body(Full::<Bytes>::from("made")).unwrap(),
        ))
    });
    let layer = BreakerLayer::from_handle(breaker)
        .classify_body(HttpClassifier)
        .into_response();
    let mut call = task::spawn(layer.layer(inner).oneshot(()));
    let response = assert_ready_ok!(call.poll());
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.headers()["x-id"], "7");
    assert!(response.extensions().get::<Rejected>().is_none());
    assert_eq!(response.body().size_hint().exact(), Some(4));
    assert!(!response.body().is_end_stream());
    let mut body = task::spawn(response.into_body().collect());
    assert_eq!(assert_ready_ok!(body.poll()).to_bytes(), "made");
}

#[tokio::test]
async fn axum_takes_it_as_a_layer_and_as_a_route_layer() {
    let (breaker, clock) = breaker("reports", Duration::from_secs(5));
    let guard = BreakerLayer::from_handle(breaker.clone()).classify(HttpClassifier);
    let broken = get(async || StatusCode::INTERNAL_SERVER_ERROR);
    let app: Router = Router::new()
        .route("/broken", broken)
        .route("/works", get(async || "works"))
        .route_layer(guard.clone().into_response())
        .layer(
            BreakerLayer::new("all")
                .classify_body(HttpClassifier)
                .into_response(),
        );
    let status = async |path: &str| {
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        app.clone().oneshot(request).await.unwrap().status()
    };
    assert_eq!(status("/works").await, StatusCode::OK);
    assert_eq!(status("/broken").await, StatusCode::INTERNAL_SERVER_ERROR);
    // All routes share the breaker of their layer.
    assert_eq!(status("/works").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(breaker.state(), State::Open);
    clock.advance(Duration::from_secs(5));
    assert_eq!(status("/works").await, StatusCode::OK);
    assert_eq!(breaker.state(), State::Closed);
}

#[cfg(feature = "fallback")]
#[tokio::test]
async fn axum_takes_a_fallback_that_cannot_fail_as_a_layer() {
    use axum::response::{IntoResponse, Response};
    use resilience_tower::fallback::FallbackLayer;

    let layer =
        FallbackLayer::function(async |_| Ok::<Response, Infallible>("kept".into_response()));
    let app: Router = Router::new()
        .route("/broken", get(async || StatusCode::INTERNAL_SERVER_ERROR))
        .route("/works", get(async || "made"))
        .layer(layer.http());
    for (path, expected) in [("/broken", "kept"), ("/works", "made")] {
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, expected);
    }
}

#[test]
fn dropping_the_call_drops_the_inner_call_and_its_permit() {
    let (breaker, clock) = opened("payments", Duration::from_secs(1));
    clock.advance(Duration::from_secs(1));
    let inner =
        service_fn(|()| poll_fn(|_| Poll::<Result<Response<Full<Bytes>>, Infallible>>::Pending));
    let layer = BreakerLayer::from_handle(breaker.clone()).into_response();
    let mut call = task::spawn(layer.layer(inner).oneshot(()));
    tokio_test::assert_pending!(call.poll());
    assert_eq!(breaker.snapshot().permits_out, 1);
    drop(call);
    assert_eq!(breaker.snapshot().permits_out, 0);
}
