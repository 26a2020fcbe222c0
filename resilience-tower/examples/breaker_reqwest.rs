//! A circuit breaker around a reqwest client: as a tower service, and without tower.
//!
//! ```sh
//! cargo run -p resilience-tower --features http --example breaker_reqwest
//! ```

use std::error::Error as StdError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use reqwest::{Client, Method, Request, Response};
use resilience_core::breaker::{CircuitBreaker, Config, Outcome, State, classify_fn};
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
    let client = Client::new();
    let url = upstream().await?;

    // As a tower service, in a stack with other layers.
    let mut guarded = ServiceBuilder::new()
        .layer(BreakerLayer::from_handle(breaker.clone()).classify(classify_fn(judge)))
        .service(client.clone());
    for works in [true, false, false, false, true] {
        UPSTREAM_WORKS.store(works, Ordering::Relaxed);
        let request = Request::new(Method::GET, url.parse()?);
        match guarded.ready().await?.call(request).await {
            Ok(response) => println!("the upstream: {}", response.status()),
            Err(Error::Rejected(refusal)) => println!("refused: {refusal}"),
            Err(error) => return Err(error.into()),
        }
    }
    assert_eq!(breaker.state(), State::Open);

    // Without tower: the same breaker around a future, which is not polled when refused.
    let refusal = breaker.try_acquire().expect_err("it is open");
    tokio::time::sleep(refusal.retry_after()).await;
    let probe = client.get(&url).send();
    let response = breaker.call_with(&classify_fn(judge), probe).await?;
    println!("the upstream: {}", response.status());
    assert_eq!(breaker.state(), State::Closed);
    Ok(())
}

/// A reqwest response is no `http::Response`, but its head says as much.
fn judge(result: Result<&Response, &reqwest::Error>) -> Outcome {
    result.map_or(Outcome::Failure, |response| {
        HttpClassifier::outcome(response.status(), response.headers())
    })
}

/// An upstream on a free port, which works or does not.
async fn upstream() -> Result<String, std::io::Error> {
    let answer = get(async || match UPSTREAM_WORKS.load(Ordering::Relaxed) {
        true => StatusCode::OK,
        false => StatusCode::INTERNAL_SERVER_ERROR,
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let app = Router::new().route("/", answer);
    tokio::spawn(axum::serve(listener, app).into_future());
    Ok(url)
}
