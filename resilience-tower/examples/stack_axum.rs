//! A whole stack on both sides: around the routes of an axum server, and around the hyper client by
//! which it calls another service. The second comes out of a file, and changes while calls run.
//!
//! ```sh
//! cargo run -p resilience-tower --features http,serde,stack --example stack_axum
//! ```

use std::error::Error as StdError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, body::Body};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use resilience_tower::retry::http::ReplayBody;
use resilience_tower::stack::{self, Description, Stack, Stacked, http::Http, http::problem};
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt};

const PAYMENTS: &str = r#"
name = "payments"
order = ["deadline", "retry", "breaker", "bulkhead", "attempt_timeout"]

[deadline]
total = "1s"

[retry]
max_attempts = 3
max_retry_after = "100ms"
backoff = { base = "5ms", cap = "20ms" }

[breaker]
consecutive_failures = 4
reset_timeout = "200ms"

[attempt_timeout]
after = "300ms"
"#;

type Upstream = Client<HttpConnector, ReplayBody<Full<Bytes>>>;
type Payments = Stacked<Upstream, Http>;

static UPSTREAM_WORKS: AtomicBool = AtomicBool::new(true);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    let description: Description = toml::from_str(PAYMENTS)?;
    let payments = Stack::from_description(&description)?.http();
    let handle = payments.handle();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let upstream = serve(Router::new().route("/", get(upstream))).await?;

    let shop = Router::new()
        .route("/pay", get(pay))
        .layer(stack::inbound("shop").http().into_response())
        .with_state((payments.layer(client), upstream));
    let shop = serve(shop).await?;

    let fetch = async || reqwest::get(format!("{shop}pay")).await;
    for works in [true, false, false, true] {
        UPSTREAM_WORKS.store(works, Ordering::Relaxed);
        let response = fetch().await?;
        let status = response.status();
        println!("{status}: {}", response.text().await?);
    }
    println!(
        "the breaker is {}",
        handle.breaker().expect("it is in the file").state()
    );

    // Another file, while calls run: all of it, or nothing.
    let mut changed = description;
    changed.attempt_timeout = Some(stack::AttemptTimeout {
        after: Duration::from_secs(2),
    });
    if let Err(error) = handle.apply(&changed) {
        println!("not applied: {error}");
    }
    // Nobody has to wait for the breaker: whoever knows that the upstream works may say so.
    handle.breaker().expect("it is in the file").reset();
    println!("{}: after a reset", fetch().await?.status());
    Ok(())
}

async fn pay(State((payments, upstream)): State<(Payments, String)>) -> Response {
    let request = Request::get(upstream).body(Full::default());
    let Ok(request) = request else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    match payments.oneshot(request).await {
        Ok(response) => response.map(Body::new),
        Err(error) => match error.admission() {
            // Which policy, why, and when to try again.
            Some(refused) => problem(refused).map(Body::from),
            None => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
        },
    }
}

async fn upstream() -> Result<&'static str, StatusCode> {
    match UPSTREAM_WORKS.load(Ordering::Relaxed) {
        true => Ok("paid"),
        false => Err(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// A server on a free port, and its address.
async fn serve(app: Router) -> Result<String, std::io::Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, app).into_future());
    Ok(url)
}
