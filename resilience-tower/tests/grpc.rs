//! gRPC over real connections: where the status is, and what the breaker makes of it.
#![cfg(feature = "tonic")]

use std::convert::Infallible;
use std::net::SocketAddr;

use crate::support::{Echo, RESET, breaker, channel, in_time, listener, streaming, unary};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use resilience_core::breaker::{CircuitBreaker, State};
use resilience_tower::breaker::{Breaker, BreakerLayer, grpc::GrpcClassifier, http::OnBodyEnd};
use tonic::Code;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tower::Layer;

type Client = Breaker<Channel, OnBodyEnd<GrpcClassifier>>;

/// A client with a breaker of an `Echo` without one.
async fn client(breaker: &CircuitBreaker) -> Client {
    let (listener, address) = listener().await;
    let server = Server::builder().add_service(Echo);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    guarded(breaker, address)
}

fn guarded(breaker: &CircuitBreaker, address: SocketAddr) -> Client {
    let layer = BreakerLayer::from_handle(breaker.clone()).grpc();
    layer.layer(channel(address))
}

fn calls(breaker: &CircuitBreaker) -> (u64, u64) {
    let snapshot = breaker.snapshot();
    (snapshot.calls, snapshot.failures)
}

#[tokio::test]
async fn a_unary_call_succeeds_by_the_status_in_its_trailers() {
    let (breaker, _clock) = breaker();
    let mut client = client(&breaker).await;
    assert_eq!(in_time(unary(&mut client, "hello")).await.unwrap(), "hello");
    assert_eq!(calls(&breaker), (1, 0));
}

#[tokio::test]
async fn a_status_without_messages_is_read_from_the_headers() {
    for (request, state) in [
        ("!2", State::Open),
        ("!14", State::Open),
        ("!8+250", State::Open),
        ("!1", State::Closed),
        ("!5", State::Closed),
    ] {
        let (breaker, _clock) = breaker();
        let mut client = client(&breaker).await;
        in_time(unary(&mut client, request)).await.unwrap_err();
        assert_eq!(breaker.state(), state, "{request}");
    }
}

#[tokio::test]
async fn a_stream_that_ends_in_a_failure_is_one_and_not_before() {
    let (breaker, _clock) = breaker();
    let mut client = client(&breaker).await;
    let mut stream = in_time(streaming(&mut client, "a b !13")).await.unwrap();
    for word in ["a", "b"] {
        let message = in_time(stream.message()).await.unwrap();
        assert_eq!(message.as_deref(), Some(word));
        assert_eq!(calls(&breaker), (0, 0));
    }
    let status = in_time(stream.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test]
async fn a_stream_that_ends_well_is_a_success() {
    let (breaker, clock) = breaker();
    breaker.try_acquire().unwrap().failure();
    clock.advance(RESET);
    let mut client = client(&breaker).await;
    let mut stream = in_time(streaming(&mut client, "a b")).await.unwrap();
    while in_time(stream.message()).await.unwrap().is_some() {
        assert_eq!(breaker.state(), State::HalfOpen);
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test]
async fn a_stream_dropped_half_way_gives_its_permit_back() {
    let (breaker, clock) = breaker();
    breaker.try_acquire().unwrap().failure();
    clock.advance(RESET);
    let mut client = client(&breaker).await;
    let mut stream = in_time(streaming(&mut client, "a b c")).await.unwrap();
    in_time(stream.message()).await.unwrap();
    assert_eq!(breaker.snapshot().permits_out, 1);
    drop(stream);
    assert_eq!(breaker.snapshot().permits_out, 0);
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_a_failure() {
    let (breaker, _clock) = breaker();
    let (listener, address) = listener().await;
    drop(listener);
    let mut client = guarded(&breaker, address);
    let status = in_time(unary(&mut client, "hello")).await.unwrap_err();
    assert_eq!(breaker.state(), State::Open);
    // The layer does not hide from tonic what kind of error it was.
    assert_eq!(status.code(), Code::Unavailable);
    let status = in_time(unary(&mut client, "hello")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown, "a refusal as an error");
}

#[tokio::test]
async fn a_refusal_is_unavailable_with_a_pushback_on_either_side() {
    let (breaker, clock) = breaker();
    let (listener, address) = listener().await;
    let layer = BreakerLayer::from_handle(breaker.clone()).grpc();
    let service = layer.clone().into_grpc_response().layer(Echo);
    // The name of the inner service is the name of the service.
    let server = Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let mut plain = channel(address);
    let mut guarded = layer.into_grpc_response().layer(channel(address));

    assert_eq!(in_time(unary(&mut plain, "hello")).await.unwrap(), "hello");
    assert_eq!(
        in_time(unary(&mut guarded, "hello")).await.unwrap(),
        "hello"
    );
    in_time(unary(&mut plain, "!13")).await.unwrap_err();
    assert_eq!(breaker.state(), State::Open);
    let from_server = in_time(unary(&mut plain, "hello")).await.unwrap_err();
    let from_client = in_time(unary(&mut guarded, "hello")).await.unwrap_err();
    for refusal in [from_server, from_client] {
        assert_eq!(refusal.code(), Code::Unavailable);
        let expected = "circuit breaker echo is open, retry in 30s";
        assert_eq!(refusal.message(), expected);
        let pushback = refusal.metadata().get("grpc-retry-pushback-ms").unwrap();
        assert_eq!(pushback, "30000");
    }
    clock.advance(RESET);
    assert_eq!(in_time(unary(&mut plain, "hello")).await.unwrap(), "hello");
    assert_eq!(breaker.state(), State::Closed);
}

/// A breaker further out honours the pushback of one further in.
#[tokio::test]
async fn a_refusal_of_the_upstreams_breaker_opens_ours_for_as_long() {
    let (inner, _clock) = breaker();
    inner.try_acquire().unwrap().failure();
    let (listener, address) = listener().await;
    let service = BreakerLayer::from_handle(inner).grpc().into_grpc_response();
    let server = Server::builder().layer(service).add_service(Echo);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));

    let config = resilience_core::breaker::Config::builder()
        .consecutive_failures(Some(1))
        .reset_timeout(RESET / 30)
        .max_reset_timeout(RESET * 2);
    let clock = resilience_core::clock::ManualClock::new();
    let outer = CircuitBreaker::with_clock("outer", config.build().unwrap(), clock);
    let mut client = guarded(&outer, address);
    in_time(unary(&mut client, "hello")).await.unwrap_err();
    assert_eq!(outer.state(), State::Open);
    assert_eq!(outer.try_acquire().unwrap_err().retry_after(), RESET);
}

/// What a server may answer without tonic: frames, then an end, a reset, or trailers.
async fn raw(status: u16, frames: fn() -> Vec<Result<Frame<Bytes>, &'static str>>) -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let service = hyper::service::service_fn(move |_: Request<Incoming>| async move {
                let response = Response::builder()
                    .status(status)
                    .header("content-type", "application/grpc");
                let body = StreamBody::new(stream::iter(frames()));
                Ok::<_, Infallible>(response.body(body).unwrap())
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(connection), service),
            );
        }
    });
    address
}

/// One message: not compressed, two bytes long.
fn message() -> Result<Frame<Bytes>, &'static str> {
    Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x02hi")))
}

async fn outcome_of_raw(
    status: u16,
    frames: fn() -> Vec<Result<Frame<Bytes>, &'static str>>,
) -> (State, Option<Code>) {
    let (breaker, _clock) = breaker();
    let mut client = guarded(&breaker, raw(status, frames).await);
    let mut stream = match in_time(streaming(&mut client, "hi")).await {
        Ok(stream) => stream,
        Err(status) => return (breaker.state(), Some(status.code())),
    };
    loop {
        match in_time(stream.message()).await {
            Ok(Some(text)) => assert_eq!(text, "hi"),
            Ok(None) => return (breaker.state(), None),
            Err(status) => return (breaker.state(), Some(status.code())),
        }
    }
}

#[tokio::test]
async fn a_stream_that_ends_without_trailers_is_a_failure() {
    let (state, code) = outcome_of_raw(200, || vec![message(), message()]).await;
    assert_eq!(state, State::Open, "tonic says {code:?}");
}

#[tokio::test]
async fn a_stream_that_is_reset_is_a_failure() {
    let (state, code) = outcome_of_raw(200, || vec![message(), Err("reset")]).await;
    assert_eq!(state, State::Open);
    assert!(code.is_some());
}

#[tokio::test]
async fn an_http_error_without_a_status_is_a_failure() {
    let (state, code) = outcome_of_raw(503, Vec::new).await;
    assert_eq!(state, State::Open);
    assert_eq!(code, Some(Code::Unavailable));
}

#[tokio::test]
async fn trailers_with_a_status_decide_over_http_2() {
    let (state, code) = outcome_of_raw(200, || {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", 0.into());
        vec![message(), Ok(Frame::trailers(trailers))]
    })
    .await;
    assert_eq!((state, code), (State::Closed, None));
}
