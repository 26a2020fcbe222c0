//! The breaker layer in each of its modes touches the heap only to refuse with a response.
#![cfg(all(feature = "breaker", feature = "http"))]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame};
use resilience_core::breaker::{
    CircuitBreaker, Config, ConfigBuilder, Registry, ResultClassifier, State,
};
use resilience_tower::breaker::http::HttpClassifier;
use resilience_tower::breaker::{BreakerLayer, OnFull, OnResult};
use tower::{Layer, Service};

/// Answers at once by a body of one frame and trailers without a field.
#[derive(Clone)]
struct Upstream;

impl Service<u64> for Upstream {
    type Response = Response<Frames>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Frames>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u64) -> Self::Future {
        ready(Ok(Response::new(Frames { left: 2 })))
    }
}

struct Frames {
    left: u32,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(match self.left {
            0 => None,
            1 => {
                self.left = 0;
                Some(Ok(Frame::trailers(HeaderMap::new())))
            }
            _ => {
                self.left -= 1;
                Some(Ok(Frame::data(Bytes::new())))
            }
        })
    }
}

/// Allocations in a thousand calls whose bodies are read to their ends, and how many of them
/// were answered by 200.
fn thousand_calls<S, B>(service: &mut S) -> (u64, usize)
where
    S: Service<u64, Response = Response<B>>,
    B: Body,
{
    let mut context = Context::from_waker(Waker::noop());
    let mut calls = |n: u64| {
        let mut answered = 0;
        for request in 0..n {
            assert!(service.poll_ready(&mut context).is_ready());
            let call = pin!(service.call(request));
            let Poll::Ready(Ok(response)) = call.poll(&mut context) else {
                continue;
            };
            answered += usize::from(response.status() == StatusCode::OK);
            let mut body = pin!(response.into_body());
            while let Poll::Ready(Some(_)) = body.as_mut().poll_frame(&mut context) {}
        }
        answered
    };
    // The first call of a thread may set up what its breaker keeps for it.
    calls(1);
    let mut answered = 0;
    let counted = allocation_counter::measure(|| answered = calls(1_000));
    (counted.count_total, answered)
}

fn breaker(config: ConfigBuilder) -> CircuitBreaker {
    CircuitBreaker::with_config("images", config.build().unwrap())
}

#[test]
fn judging_at_the_head_or_at_the_end_of_the_body_allocates_nothing() {
    let layer = BreakerLayer::new("images");
    let mut head = layer.clone().classify(HttpClassifier).layer(Upstream);
    assert_eq!(thousand_calls(&mut head), (0, 1_000));
    let mut body = layer.clone().classify_body(HttpClassifier).layer(Upstream);
    assert_eq!(thousand_calls(&mut body), (0, 1_000));
    assert_eq!(layer.handle().state(), State::Closed);
}

/// Trailers without a status are failures: the breaker is kept closed by its settings.
#[test]
fn judging_by_trailers_allocates_nothing() {
    let layer = BreakerLayer::from_handle(breaker(
        Config::builder()
            .failure_rate(None)
            .consecutive_failures(None)
            .failure_count(100_000)
            .count_window(1_000_000),
    ));
    let mut grpc = layer.clone().grpc().layer(Upstream);
    assert_eq!(thousand_calls(&mut grpc), (0, 1_000));
    assert_eq!(layer.handle().snapshot().failures, 1_001);
}

#[test]
fn windows_and_slow_calls_allocate_nothing() {
    for config in [
        Config::builder().time_window(Duration::from_secs(10)),
        Config::builder()
            .slow_call(Duration::from_secs(1))
            .slow_call_rate(0.5),
        Config::builder().half_open_permits(3).jitter(0.1),
    ] {
        let mut service = BreakerLayer::from_handle(breaker(config)).layer(Upstream);
        assert_eq!(thousand_calls(&mut service), (0, 1_000));
    }
}

#[test]
fn a_judge_chosen_by_the_request_allocates_nothing() {
    let layer = BreakerLayer::new("images").classify_by(|_: &u64| OnResult(ResultClassifier));
    assert_eq!(thousand_calls(&mut layer.layer(Upstream)), (0, 1_000));
}

#[test]
fn a_call_of_a_known_key_allocates_nothing() {
    let registry: Registry<u64> = Registry::builder(Config::default()).max(10).build();
    let layer = BreakerLayer::keyed(registry, OnFull::Refuse, |request: &u64| request % 4);
    let mut service = layer.layer(Upstream);
    // The first calls make the breakers.
    thousand_calls(&mut service);
    assert_eq!(thousand_calls(&mut service), (0, 1_000));

    let registry: Registry<Arc<str>> = Registry::builder(Config::default()).max(10).build();
    let host: Arc<str> = Arc::from("db-7.internal");
    let layer = BreakerLayer::keyed(registry, OnFull::Refuse, move |_: &u64| Arc::clone(&host));
    assert_eq!(thousand_calls(&mut layer.layer(Upstream)), (0, 1_000));
}

#[test]
fn refusals_as_responses_cost_nothing_until_there_is_one() {
    let layer = BreakerLayer::new("images")
        .classify_body(HttpClassifier)
        .into_response();
    assert_eq!(thousand_calls(&mut layer.layer(Upstream)), (0, 1_000));

    let open = breaker(Config::builder().consecutive_failures(1));
    open.try_acquire().unwrap().failure();
    let layer = BreakerLayer::from_handle(open);
    let mut problem = layer.clone().into_response().layer(Upstream);
    let (allocations, answered) = thousand_calls(&mut problem);
    assert_eq!(answered, 0);
    // The text, the tables of headers and of extensions, and what they hold.
    assert!(allocations <= 9_000, "{allocations}");
    let mut status = layer.into_grpc_response().layer(Upstream);
    let (allocations, _) = thousand_calls(&mut status);
    assert!(allocations <= 11_000, "{allocations}");
}
