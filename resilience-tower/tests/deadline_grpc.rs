//! Deadlines between a tonic client and its service, on tokio's paused clock and without a network.
#![cfg(all(feature = "tonic", feature = "timeout"))]

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use crate::support::{Echo, Text};
use http::uri::PathAndQuery;
use http::{Request, Response};
use resilience_tower::timeout::deadline::http::Headers;
use resilience_tower::timeout::deadline::{DeadlineLayer, WithDeadline};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::ServiceBuilder;

const LIMIT: Duration = Duration::from_millis(250);

/// A call by a generated client's means, with the timeout that tonic writes.
async fn call<S>(service: S, text: &str) -> Result<String, Status>
where
    S: GrpcService<Body, Error: std::fmt::Debug>,
    S::ResponseBody: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    S::ResponseBody: Send + 'static,
{
    let mut client = tonic::client::Grpc::new(service);
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/test.Echo/Unary");
    let mut request = tonic::Request::new(text.to_owned());
    request.set_timeout(LIMIT);
    let answer = client.unary(request, path, Text).await?;
    Ok(answer.into_inner())
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_tonic_client_is_kept_and_it_understands_the_answer() {
    let headers = Headers::new().read_grpc();
    let layer = DeadlineLayer::default().propagate(headers);
    let layer = layer.into_grpc_response();

    let service = ServiceBuilder::new().layer(layer.clone()).service(Echo);
    assert_eq!(call(service, "hello").await.unwrap(), "hello");

    let began = Instant::now();
    let silent = ServiceBuilder::new()
        .layer(layer.clone())
        .service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
    let status = call(silent, "hello").await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(
        status.message(),
        "the deadline came 250ms after the call began"
    );
    let took = began.elapsed();
    assert!(
        (LIMIT..LIMIT + Duration::from_millis(2)).contains(&took),
        "{took:?}"
    );
    assert_eq!(layer.layer_ref().handle().snapshot().deadline, 1);
}

#[test]
fn a_layered_service_keeps_its_name() {
    assert_eq!(<WithDeadline<Echo> as NamedService>::NAME, Echo::NAME);
}
