//! A circuit breaker around a hyper client, which judges a response when its body has ended.
//!
//! ```sh
//! cargo run -p resilience-tower --features http --example breaker_hyper
//! ```

use std::convert::Infallible;
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use resilience_core::breaker::{CircuitBreaker, Config, State};
use resilience_tower::breaker::http::HttpClassifier;
use resilience_tower::breaker::{BreakerLayer, Error};
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder, ServiceExt};

static UPSTREAM_WORKS: AtomicBool = AtomicBool::new(true);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    let config = Config::builder()
        .consecutive_failures(3)
        .half_open_permits(1)
        .reset_timeout(Duration::from_millis(200))
        .build()?;
    let breaker = CircuitBreaker::with_config("upstream", config);
    let _events = breaker.subscribe(|change| {
        let (from, to, cause) = (change.from, change.to, change.cause.as_str());
        println!("  {from} -> {to}: {cause}");
    });

    let uri = format!("http://{}/", upstream().await?);
    let mut client = ServiceBuilder::new()
        .layer(BreakerLayer::from_handle(breaker.clone()).classify_body(HttpClassifier))
        .service(Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>());

    for (call, works) in [true, false, false, false, true].into_iter().enumerate() {
        UPSTREAM_WORKS.store(works, Ordering::Relaxed);
        let request = Request::get(&uri).body(Full::default())?;
        match client.ready().await?.call(request).await {
            Ok(response) => {
                let status = response.status();
                // The breaker learns how the call ended when the body does.
                let body = response.into_body().collect().await?.to_bytes();
                println!("call {call}: {status}, {} bytes", body.len());
            }
            Err(Error::Rejected(refusal)) => println!("call {call}: {refusal}"),
            Err(error) => return Err(error.into()),
        }
    }
    assert_eq!(breaker.state(), State::Open);

    let refusal = breaker.try_acquire().expect_err("it is open");
    tokio::time::sleep(refusal.retry_after()).await;
    let request = Request::get(&uri).body(Full::default())?;
    let response = client.ready().await?.call(request).await?;
    println!("the probe: {}", response.status());
    response.into_body().collect().await?;
    assert_eq!(breaker.state(), State::Closed);
    Ok(())
}

/// An upstream on a free port, which works or does not.
async fn upstream() -> Result<SocketAddr, std::io::Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let service = hyper::service::service_fn(async |_: Request<hyper::body::Incoming>| {
                let mut response = Response::new(Full::from("hello"));
                if !UPSTREAM_WORKS.load(Ordering::Relaxed) {
                    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                }
                Ok::<Response<Full<Bytes>>, Infallible>(response)
            });
            let connection = TokioIo::new(connection);
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(connection, service),
            );
        }
    });
    Ok(address)
}
