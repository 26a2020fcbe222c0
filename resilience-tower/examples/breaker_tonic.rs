//! A circuit breaker on both sides of a tonic service: the server answers refusals by
//! `UNAVAILABLE` and a pushback, which the client's breaker honours.
//!
//! ```sh
//! cargo run -p resilience-tower --features tonic --example breaker_tonic
//! ```

use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use resilience_core::breaker::{CircuitBreaker, Config, State};
use resilience_tower::breaker::BreakerLayer;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::NamedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, client, server};
use tower::{Layer, Service, service_fn};

static STORE_WORKS: AtomicBool = AtomicBool::new(true);

fn breaker(
    name: &'static str,
    failures: u32,
    reset_ms: u64,
) -> Result<CircuitBreaker, Box<dyn StdError>> {
    let config = Config::builder()
        .consecutive_failures(failures)
        .half_open_permits(1)
        .reset_timeout(Duration::from_millis(reset_ms))
        .max_reset_timeout(Duration::from_secs(1))
        .build()?;
    let breaker = CircuitBreaker::with_config(name, config);
    breaker
        .subscribe(move |change| {
            let (from, to, cause) = (change.from, change.to, change.cause.as_str());
            println!("  {name}: {from} -> {to}: {cause}");
        })
        .forget();
    Ok(breaker)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    // The server: the layered service keeps its name, so the router takes it as any other.
    let of_server = breaker("server", 3, 300)?;
    let guard = BreakerLayer::from_handle(of_server.clone())
        .grpc()
        .into_grpc_response();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = Server::builder().add_service(guard.layer(Stock));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));

    // The client: generated clients take the guarded channel in place of the channel.
    let of_client = breaker("client", 4, 50)?;
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect_lazy();
    let channel = BreakerLayer::from_handle(of_client.clone())
        .grpc()
        .layer(channel);
    let mut client = client::Grpc::new(channel);
    let mut count = async || {
        client
            .ready()
            .await
            .map_err(|error| Status::unknown(error.to_string()))?;
        let path = PathAndQuery::from_static("/example.Stock/Count");
        client
            .unary(Request::new("apples".to_owned()), path, Text)
            .await
    };

    for works in [true, false, false, false, true] {
        STORE_WORKS.store(works, Ordering::Relaxed);
        match count().await {
            Ok(answer) => println!("apples: {}", answer.get_ref()),
            Err(status) => println!("{:?}: {}", status.code(), status.message()),
        }
    }
    assert_eq!([of_server.state(), of_client.state()], [State::Open; 2]);

    // The client's own reset timeout is shorter; it waits for as long as the server asked.
    let refusal = of_client.try_acquire().expect_err("it is open");
    tokio::time::sleep(refusal.retry_after()).await;
    println!("apples: {}", count().await?.get_ref());
    assert_eq!([of_server.state(), of_client.state()], [State::Closed; 2]);
    Ok(())
}

/// What `tonic-build` would generate for `service Stock { rpc Count(string) returns (string); }`.
#[derive(Clone)]
struct Stock;

impl NamedService for Stock {
    const NAME: &'static str = "example.Stock";
}

impl Service<http::Request<Body>> for Stock {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let count =
            service_fn(
                async |_: Request<String>| match STORE_WORKS.load(Ordering::Relaxed) {
                    true => Ok(Response::new("12".to_owned())),
                    false => Err(Status::internal("the store is gone")),
                },
            );
        Box::pin(async move { Ok(server::Grpc::new(Text).unary(count, request).await) })
    }
}

/// Messages are texts instead of protocol buffers, so that the example needs no compiler for them.
#[derive(Clone, Copy)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, text: String, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(text.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let text = String::from_utf8(bytes.into());
        text.map(Some).map_err(|_| Status::internal("not a text"))
    }
}
