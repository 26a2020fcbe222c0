//! A gRPC service and its client without generated code: messages are texts.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream;
use http::uri::PathAndQuery;
use http::{Request, Response};
use resilience_core::breaker::{CircuitBreaker, Config, OnCancel};
use resilience_core::clock::ManualClock;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tower::{Service, service_fn};

use bytes::{Buf, BufMut};

/// Nothing here takes long; a test that waits for longer has failed.
pub(crate) async fn in_time<F: Future>(future: F) -> F::Output {
    let limit = Duration::from_secs(20);
    let done = tokio::time::timeout(limit, future).await;
    done.expect("it takes no time")
}

pub(crate) const RESET: Duration = Duration::from_secs(30);

/// Opens at the first failure for 30 s; one permit while half-open.
pub(crate) fn breaker() -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let config = Config::builder()
        .consecutive_failures(Some(1))
        .half_open_permits(1)
        .success_threshold(1)
        .reset_timeout(RESET)
        .on_cancel(OnCancel::Ignore)
        .build()
        .unwrap();
    let breaker = CircuitBreaker::with_clock("echo", config, clock.clone());
    (breaker, clock)
}

/// Answers each word of the request by a message; the word `!13` ends the answer with the
/// status 13, and `!8+250` with the status 8 and a pushback of 250 ms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Text);
            Ok(if request.uri().path().ends_with("/Stream") {
                let stream = service_fn(async |request: tonic::Request<String>| {
                    let answers: Vec<_> = answers(request.get_ref()).collect();
                    Ok(tonic::Response::new(stream::iter(answers)))
                });
                grpc.server_streaming(stream, request).await
            } else {
                let unary = service_fn(async |request: tonic::Request<String>| {
                    let mut answers = answers(request.get_ref());
                    let none = Err(Status::invalid_argument("no word"));
                    answers.next().unwrap_or(none).map(tonic::Response::new)
                });
                grpc.unary(unary, request).await
            })
        })
    }
}

fn answers(request: &str) -> impl Iterator<Item = Result<String, Status>> + Send {
    let words: Vec<String> = request.split_whitespace().map(str::to_owned).collect();
    words.into_iter().map(|word| {
        let Some(status) = word.strip_prefix('!') else {
            return Ok(word);
        };
        let (code, pushback) = status.split_once('+').unwrap_or((status, ""));
        let mut status = Status::new(Code::from_bytes(code.as_bytes()), "as you wish");
        if !pushback.is_empty() {
            let pushback = pushback.parse().unwrap();
            status
                .metadata_mut()
                .insert("grpc-retry-pushback-ms", pushback);
        }
        Err(status)
    })
}

/// A free port of this machine.
pub(crate) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub(crate) fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect_lazy()
}

/// Calls `Echo` once; the first word of `request` comes back.
pub(crate) async fn unary<S>(service: &mut S, request: &str) -> Result<String, Status>
where
    S: GrpcService<Body, Error: std::fmt::Debug> + Clone,
    S::ResponseBody: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    S::ResponseBody: Send + 'static,
{
    let mut client = tonic::client::Grpc::new(service.clone());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/test.Echo/Unary");
    let request = tonic::Request::new(request.to_owned());
    let answer = client.unary(request, path, Text).await?;
    Ok(answer.into_inner())
}

/// Calls `Echo` for a stream of all the words.
pub(crate) async fn streaming<S>(
    service: &mut S,
    request: &str,
) -> Result<Streaming<String>, Status>
where
    S: GrpcService<Body, Error: std::fmt::Debug> + Clone,
    S::ResponseBody: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    S::ResponseBody: Send + 'static,
{
    let mut client = tonic::client::Grpc::new(service.clone());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/test.Echo/Stream");
    let request = tonic::Request::new(request.to_owned());
    let answer = client.server_streaming(request, path, Text).await?;
    Ok(answer.into_inner())
}

/// Messages are the UTF-8 bytes of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, item: String, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(item.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let text = String::from_utf8(bytes.into()).map_err(|_| Status::internal("no text"))?;
        Ok(Some(text))
    }
}
