//! The breaker layer around a hyper client, against servers that misbehave byte by byte.
#![cfg(all(feature = "breaker", feature = "http"))]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use resilience_core::breaker::{CircuitBreaker, Config, OnCancel, State};
use resilience_core::clock::ManualClock;
use resilience_tower::breaker::BreakerLayer;
use resilience_tower::breaker::http::HttpClassifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt};

/// A server that reads one request, writes `answer` and hangs up.
async fn server(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            connection.read_buf(&mut request).await.unwrap();
        }
        connection.write_all(answer.as_bytes()).await.unwrap();
    });
    address
}

/// Opens at the first failure, and at a call that is dropped.
fn breaker() -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let config = Config::builder()
        .consecutive_failures(Some(1))
        .reset_timeout(Duration::from_secs(1))
        .max_reset_timeout(Duration::from_secs(600))
        .on_cancel(OnCancel::Failure)
        .build()
        .unwrap();
    let breaker = CircuitBreaker::with_clock("images", config, clock.clone());
    (breaker, clock)
}

fn client() -> Client<HttpConnector, Empty<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

fn request(address: SocketAddr) -> Request<Empty<Bytes>> {
    Request::get(format!("http://{address}/"))
        .body(Empty::new())
        .unwrap()
}

/// Nothing here takes long; a test that waits for longer has failed.
async fn in_time<F: Future>(future: F) -> F::Output {
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, future)
        .await
        .expect("it takes no time")
}

/// The body that the client could read, and the breaker after that.
async fn read_all(answer: &'static str) -> (Result<Bytes, hyper::Error>, CircuitBreaker) {
    let (breaker, _clock) = breaker();
    let layer = BreakerLayer::from_handle(breaker.clone()).classify_body(HttpClassifier);
    let call = layer.layer(client()).oneshot(request(server(answer).await));
    let response = in_time(call).await.unwrap();
    assert_eq!(breaker.snapshot().calls, 0);
    let body = in_time(response.into_body().collect()).await;
    (body.map(|body| body.to_bytes()), breaker)
}

#[tokio::test]
async fn a_body_shorter_than_its_content_length_is_a_failure() {
    let (body, breaker) = read_all("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
    body.unwrap_err();
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test]
async fn a_chunked_body_without_its_last_chunk_is_a_failure() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let (body, breaker) = read_all(answer).await;
    body.unwrap_err();
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test]
async fn a_whole_body_is_a_success_in_each_framing() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello",
    ] {
        let (body, breaker) = read_all(answer).await;
        assert_eq!(body.unwrap(), "hello", "{answer}");
        assert_eq!(
            (breaker.snapshot().calls, breaker.state()),
            (1, State::Closed)
        );
    }
}

/// The reader of a body with a length need not poll it again after the last byte.
#[tokio::test]
async fn a_body_read_to_its_length_and_dropped_is_a_success() {
    let (breaker, _clock) = breaker();
    let address = server("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
    let layer = BreakerLayer::from_handle(breaker.clone()).classify_body(HttpClassifier);
    let response = in_time(layer.layer(client()).oneshot(request(address))).await;
    let mut body = response.unwrap().into_body();
    let frame = in_time(body.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "hello");
    drop(body);
    assert_eq!(
        (breaker.snapshot().calls, breaker.state()),
        (1, State::Closed)
    );
}

#[tokio::test]
async fn judged_at_the_head_a_broken_body_is_none_of_its_business() {
    let (breaker, _clock) = breaker();
    let address = server("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
    let layer = BreakerLayer::from_handle(breaker.clone()).classify(HttpClassifier);
    let response = in_time(layer.layer(client()).oneshot(request(address)))
        .await
        .unwrap();
    assert_eq!(
        (breaker.snapshot().calls, breaker.state()),
        (1, State::Closed)
    );
    in_time(response.into_body().collect()).await.unwrap_err();
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test]
async fn a_server_that_hangs_up_without_an_answer_is_a_failure() {
    let (breaker, _clock) = breaker();
    let layer = BreakerLayer::from_handle(breaker.clone()).classify_body(HttpClassifier);
    let call = layer.layer(client()).oneshot(request(server("").await));
    in_time(call).await.unwrap_err();
    assert_eq!(breaker.state(), State::Open);
}

/// Neither clock is right about the time of day here, and the wait still is.
#[tokio::test]
async fn it_stays_open_until_the_date_that_the_upstream_asked_for() {
    let (breaker, clock) = breaker();
    let address = server(concat!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n",
        "date: Fri, 31 Dec 1999 23:58:30 GMT\r\n",
        "retry-after: Sat, 01 Jan 2000 00:00:00 GMT\r\n\r\n",
    ))
    .await;
    let layer = BreakerLayer::from_handle(breaker.clone()).classify(HttpClassifier);
    in_time(layer.layer(client()).oneshot(request(address)))
        .await
        .unwrap();
    let refusal = breaker.try_acquire().unwrap_err();
    assert_eq!(refusal.retry_after(), Duration::from_secs(90));
    clock.advance(Duration::from_secs(90));
    assert!(breaker.try_acquire().is_ok());
}
