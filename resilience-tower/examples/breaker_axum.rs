//! A circuit breaker around a route of an axum server, which answers refusals by 503,
//! `Retry-After` and `application/problem+json`.
//!
//! ```sh
//! cargo run -p resilience-tower --features http --example breaker_axum
//! ```

use std::error::Error as StdError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use resilience_core::breaker::{CircuitBreaker, Config, State};
use resilience_tower::breaker::BreakerLayer;
use tokio::net::TcpListener;

static DATABASE_WORKS: AtomicBool = AtomicBool::new(true);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    let config = Config::builder()
        .consecutive_failures(3)
        .half_open_permits(1)
        .reset_timeout(Duration::from_millis(200))
        .build()?;
    let breaker = CircuitBreaker::with_config("reports", config);
    let _events = breaker.subscribe(|change| {
        let (from, to, cause) = (change.from, change.to, change.cause.as_str());
        println!("  {from} -> {to}: {cause}");
    });

    let guard = BreakerLayer::from_handle(breaker.clone())
        .http()
        .into_response();
    let app = Router::new()
        .route("/report", get(report).route_layer(guard))
        // Not behind the breaker: it must answer when the reports do not.
        .route("/health", get(async || "up"));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, app).into_future());

    let client = reqwest::Client::new();
    let fetch = async |path: &str| client.get(format!("http://{address}{path}")).send().await;
    for works in [true, false, false, false, true] {
        DATABASE_WORKS.store(works, Ordering::Relaxed);
        let response = fetch("/report").await?;
        let retry_after = response.headers().get("retry-after").cloned();
        let (status, body) = (response.status(), response.text().await?);
        println!("GET /report: {status}, Retry-After {retry_after:?}, {body}");
    }
    assert_eq!(breaker.state(), State::Open);
    println!("GET /health: {}", fetch("/health").await?.status());

    let refusal = breaker.try_acquire().expect_err("it is open");
    tokio::time::sleep(refusal.retry_after()).await;
    println!("GET /report: {}", fetch("/report").await?.status());
    assert_eq!(breaker.state(), State::Closed);
    Ok(())
}

async fn report() -> Result<&'static str, StatusCode> {
    if DATABASE_WORKS.load(Ordering::Relaxed) {
        Ok("all is well")
    } else {
        Err(StatusCode::INTERNAL_SERVER_ERROR)
    }
}
