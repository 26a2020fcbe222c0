//! A rate limit per client address in front of an axum server, behind a trusted proxy: 429,
//! `Retry-After` and the `RateLimit` fields.
//!
//! ```sh
//! cargo run -p resilience-tower --features http,client-key --example rate_limit_axum
//! ```

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::routing::get;
use resilience_core::rate_limit::{KeyedRateLimiter, Quota};
use resilience_tower::client_key::ClientKeys;
use resilience_tower::rate_limit::RateLimitLayer;
use resilience_tower::rate_limit::http::HttpFields;
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    // Two at once, and one more every three seconds; for up to 100 000 clients.
    let quota = Quota::new(1, Duration::from_secs(3))?.burst(2)?;
    let limiter = KeyedRateLimiter::new(quota, 100_000);
    // The proxy is on this machine, and writes whom it speaks for into X-Forwarded-For.
    let clients = ClientKeys::builder()
        .trust_proxies(["127.0.0.0/8"])
        .build()?;
    let by_client = clients.of(|request: &Request| {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        peer.map(|ConnectInfo(address)| address.ip())
    });
    let limit = RateLimitLayer::keyed(limiter, by_client)
        .into_response_with(&HttpFields::new().policies(["per-client"]))?;

    let app = Router::new().route("/", get(async || "hello")).layer(limit);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, app).into_future());

    let client = reqwest::Client::new();
    let fetch = async |forwarded: &str| -> Result<(u16, u64), reqwest::Error> {
        let request = client.get(format!("http://{address}/"));
        let response = request.header("x-forwarded-for", forwarded).send().await?;
        let field = |name| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let (limit, wait) = (field("ratelimit"), field("retry-after"));
        let status = response.status();
        println!("{forwarded:30} {status}, RateLimit {limit:?}, Retry-After {wait:?}");
        let wait = wait.and_then(|seconds| seconds.parse().ok());
        Ok((status.as_u16(), wait.unwrap_or_default()))
    };

    for expected in [200, 200, 429] {
        assert_eq!(fetch("198.51.100.7").await?.0, expected);
    }
    // Another client has its own quota; two addresses of one /64 have one.
    assert_eq!(fetch("2001:db8:1:2::1").await?.0, 200);
    assert_eq!(fetch("2001:db8:1:2::2").await?.0, 200);
    assert_eq!(fetch("2001:db8:1:2::3").await?.0, 429);
    // What a client writes itself stands to the left of what the proxy adds, and is not read.
    let (status, wait) = fetch("203.0.113.99, 198.51.100.7").await?;
    assert_eq!(status, 429);
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(fetch("198.51.100.7").await?.0, 200);
    Ok(())
}
