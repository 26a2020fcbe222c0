//! The layers that protect a server of hyper alone, whose services are no tower services: a function
//! that calls a clone is one.
//!
//! ```sh
//! cargo run -p resilience-tower --all-features --example server_hyper
//! ```

mod upstream;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use resilience_core::adaptive::{self, AdaptiveLimit};
use resilience_core::bulkhead::{self, Bulkhead};
use resilience_core::cache;
use resilience_core::deadline::{self, Deadlines};
use resilience_core::load_shed::{self, LoadShed};
use resilience_core::rate_limit::{Quota, RateLimiter};
use resilience_tower::adaptive::AdaptiveLayer;
use resilience_tower::breaker::{BreakerLayer, http::HttpClassifier};
use resilience_tower::bulkhead::BulkheadLayer;
use resilience_tower::cache::{Keep, Store, http::Head, http::HttpCacheLayer};
use resilience_tower::coalesce::{Coalescing, http::HttpCoalesceLayer, http::HttpKey};
use resilience_tower::fallback::FallbackLayer;
use resilience_tower::load_shed::{LoadShedLayer, StampLayer};
use resilience_tower::rate_limit::RateLimitLayer;
use resilience_tower::stack;
use resilience_tower::telemetry::TelemetryLayer;
use resilience_tower::timeout::deadline::DeadlineLayer;
use tokio::net::TcpListener;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use upstream::{at_once, fail, hang, runs, work};

type Page = Response<Full<Bytes>>;
type Cause = Box<dyn StdError + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    // A preset; outside of it, figures and load shedding, and a quota for all clients together.
    let shed = LoadShed::new(load_shed::Config::default());
    let shedding = LoadShedLayer::new(shed.clone());
    let measure = shedding.measure();
    let limiter = RateLimiter::new(Quota::per_minute(2)?);
    let shop = ServiceBuilder::new()
        .layer(TelemetryLayer::call("shop").http())
        .layer(StampLayer)
        .layer(shedding.into_response())
        .layer(RateLimitLayer::new(limiter).into_response())
        .layer(stack::inbound("shop").http().into_response())
        .layer(measure)
        .service(tower::service_fn(page));
    let url = serve(shop).await?;
    for status in [200, 200, 429] {
        assert_eq!(get(&url).await?, status);
    }
    println!("{:?}", shed.snapshot());

    // Others, one by one.
    let one = bulkhead::Config::builder().limit(1).build()?;
    let bulkhead = Bulkhead::new(one);
    let one = adaptive::Config::builder().initial_limit(1).min_limit(1);
    let limit = AdaptiveLimit::new(one.build()?);
    let places = BulkheadLayer::new(bulkhead.clone()).into_response();
    let found_out = AdaptiveLayer::new(limit.clone()).classify(HttpClassifier);
    let url = serve(places.layer(tower::service_fn(page))).await?;
    let refused = || bulkhead.snapshot().refused == 1;
    let (first, second) = at_once(async || get(&url).await, refused).await;
    assert_eq!([first?, second?], [200, 503]);
    let url = serve(found_out.into_response().layer(tower::service_fn(page))).await?;
    let refused = || limit.snapshot().refused == 1;
    let (first, second) = at_once(async || get(&url).await, refused).await;
    assert_eq!([first?, second?], [200, 503]);

    let soon = deadline::Config::builder().total(Duration::from_millis(20));
    let late = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Deadlines::new(soon.build()?)).into_response())
        .layer(BreakerLayer::new("reports").http().into_response())
        .service(tower::service_fn(page));
    let url = serve(late).await?;
    hang(1);
    assert_eq!(get(&url).await?, 504);

    let store = Store::new(cache::Config::default());
    let minute = |_: &Head<'_>| Keep::fresh_for(Duration::from_secs(60));
    let usual = async |_| Ok::<_, Infallible>(Response::new(Full::from("the usual")));
    let known = ServiceBuilder::new()
        .layer(HttpCacheLayer::new(store.clone(), HttpKey::new(), minute).into_response())
        .layer(FallbackLayer::function(usual).http())
        .service(tower::service_fn(page));
    let url = serve(known).await?;
    runs();
    fail(1);
    assert_eq!([get(&url).await?, get(&url).await?], [200, 200]);
    assert_eq!((runs(), store.snapshot().hits), (1, 1));

    let calls = Coalescing::default();
    let share = HttpCoalesceLayer::new(calls.clone(), HttpKey::new()).into_response();
    let url = serve(share.layer(tower::service_fn(page))).await?;
    let joined = || calls.snapshot().followers == 1;
    let (first, second) = at_once(async || get(&url).await, joined).await;
    assert_eq!(([first?, second?], runs()), ([200, 200], 1));
    Ok(())
}

async fn page<B>(_: Request<B>) -> Result<Page, Infallible> {
    let (status, text) = match work().await {
        Ok(text) => (StatusCode::OK, text),
        Err(status) => (status, ""),
    };
    let mut page = Response::new(Full::from(text));
    *page.status_mut() = status;
    Ok(page)
}

async fn get(url: &str) -> Result<u16, reqwest::Error> {
    Ok(reqwest::get(url).await?.status().as_u16())
}

/// Serves on a free port, whose address it tells.
async fn serve<S, B>(service: S) -> std::io::Result<String>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<Cause>>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<Cause>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let service = service.clone();
            let service = service_fn(move |request| service.clone().oneshot(request));
            let connection = TokioIo::new(connection);
            tokio::spawn(http1::Builder::new().serve_connection(connection, service));
        }
    });
    Ok(url)
}
