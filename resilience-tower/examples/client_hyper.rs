//! The layers around a hyper client.
//!
//! ```sh
//! cargo run -p resilience-tower --all-features --example client_hyper
//! ```

mod upstream;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use resilience_core::adaptive::AdaptiveLimit;
use resilience_core::balance::{self, Balancer, Endpoint};
use resilience_core::breaker::{Classify, Outcome, classify_fn};
use resilience_core::bulkhead::Bulkhead;
use resilience_core::cache;
use resilience_core::chaos::{self, Chaos};
use resilience_core::clock::SharedClock;
use resilience_core::deadline::{self, Deadlines};
use resilience_core::hedge::{self, HedgePolicy};
use resilience_core::rate_limit::{Quota, RateLimiter};
use resilience_core::retry::RetryPolicy;
use resilience_tower::adaptive::{self, AdaptiveLayer};
use resilience_tower::balance::Balance;
use resilience_tower::breaker::{BreakerLayer, http::HttpClassifier};
use resilience_tower::bulkhead::BulkheadLayer;
use resilience_tower::cache::{Keep, Store, http::Head, http::HttpCacheLayer};
use resilience_tower::chaos::ChaosLayer;
use resilience_tower::coalesce::{Coalescing, http::HttpCoalesceLayer, http::HttpKey};
use resilience_tower::fallback::FallbackLayer;
use resilience_tower::hedge::HedgeLayer;
use resilience_tower::rate_limit::RateLimitLayer;
use resilience_tower::retry::RetryLayer;
use resilience_tower::stack;
use resilience_tower::telemetry::TelemetryLayer;
use resilience_tower::timeout::TimeoutLayer;
use resilience_tower::timeout::deadline::{DeadlineLayer, http::ENVOY_TIMEOUT_MS, http::Headers};
use tower::{ServiceBuilder, ServiceExt};
use upstream::{at_once, fail, hang, runs, serve, work};

type Sent = BoxBody<Bytes, Infallible>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Sent>();
    let first = serve(Router::new().fallback(get(work))).await?;
    let second = serve(Router::new().fallback(get(work))).await?;

    // A preset. What it sends is a body that it keeps for a retry.
    let stack = stack::outbound("shop").http();
    let handle = stack.handle();
    let shop = ServiceBuilder::new()
        .layer(stack)
        .map_request(|request: Request<_>| request.map(BodyExt::boxed))
        .service(client.clone());
    fail(2);
    let response = shop.oneshot(page(&first)).await?;
    assert_eq!((response.status(), runs()), (StatusCode::OK, 3));
    println!("{:?}", handle.retry().expect("outbound has one").snapshot());

    // All one by one: around the call, around an attempt, around an endpoint.
    let store = Store::new(cache::Config::default());
    let minute = |_: &Head<'_>| Keep::fresh_for(Duration::from_secs(60));
    let cache = HttpCacheLayer::new(store.clone(), HttpKey::new(), minute);
    let usual = async |_| Ok::<_, Infallible>(Response::default());
    let fallback = FallbackLayer::function(usual).http();
    let fallbacks = fallback.handle().clone();
    let retries = RetryPolicy::default();
    let soon = hedge::Config::builder().fixed_delay(Duration::from_millis(20));
    let hedges = HedgePolicy::inside_retry(
        soon.build()?,
        retries.budget().clone(),
        SharedClock::default(),
    );
    let places = Bulkhead::new(Default::default());
    let quota = RateLimiter::new(Quota::per_second(100)?);
    let attempt = deadline::Config::builder().attempt(Duration::from_secs(1));
    let headers = Headers::new().write_millis(ENVOY_TIMEOUT_MS);
    let chaos = Chaos::new(chaos::Config::builder().error_rate(1.0).build()?);
    let broken = |request: &Request<Sent>| request.uri().path() == "/broken";

    let endpoints = Balancer::new(balance::Config::default());
    for url in [first.clone(), second] {
        let at = url.clone();
        let limit = AdaptiveLimit::new(Default::default());
        let one = ServiceBuilder::new()
            .layer(BreakerLayer::new(&url).classify(classify_fn(unless_refused)))
            .layer(AdaptiveLayer::new(limit).classify(HttpClassifier))
            .layer(TimeoutLayer::new(Duration::from_secs(1)))
            .map_request(move |request| to(&at, request))
            .service(client.clone());
        endpoints.insert(Endpoint::new(url, one))?;
    }
    let shop = ServiceBuilder::new()
        .layer(TelemetryLayer::call("shop").http())
        .layer(fallback)
        .layer(RateLimitLayer::new(quota).wait(100))
        .map_response(|response: Response<_>| response.map(drop))
        .layer(cache.share_answers_only())
        .layer(RetryLayer::new(retries.clone()).http())
        .layer(HedgeLayer::http(hedges.clone()))
        .layer(BulkheadLayer::new(places).wait().honour_deadline())
        .layer(DeadlineLayer::new(Deadlines::new(attempt.build()?)).propagate(headers))
        .map_request(|request: Request<_>| request.map(BodyExt::boxed))
        .layer(ChaosLayer::new(chaos.clone()).only(broken))
        .service(Balance::new(endpoints.clone()).classify(HttpClassifier));
    let get = async |path: &str| {
        let response = shop.clone().oneshot(page(path)).await;
        response.map(|response| response.status().as_u16())
    };
    fail(1);
    assert_eq!((get("/retried").await?, runs()), (200, 2));
    assert_eq!(retries.snapshot().retries, 1);
    assert_eq!((get("/retried").await?, runs()), (200, 0));
    assert_eq!(store.snapshot().hits, 1);
    hang(1);
    assert_eq!((get("/hedged").await?, runs()), (200, 2));
    assert_eq!(hedges.snapshot().won, 1);
    chaos.switch_on();
    assert_eq!((get("/broken").await?, runs()), (200, 0));
    assert_eq!(fallbacks.snapshot().failure, 1);
    for endpoint in endpoints.snapshot().endpoints {
        println!("{}: {} successes", endpoint.name, endpoint.successes);
    }

    // An error of hyper is no `Clone`: each caller has one of its own.
    let calls = Coalescing::default();
    let share = HttpCoalesceLayer::new(calls.clone(), HttpKey::new()).share_answers_only();
    let shared = ServiceBuilder::new().layer(share).service(client);
    let call = async || {
        let request = page(&first).map(BodyExt::boxed);
        shared.clone().oneshot(request).await
    };
    let joined = || calls.snapshot().followers == 1;
    let (first, second) = at_once(call, joined).await;
    let (first, second) = (first?.collect().await?, second?.collect().await?);
    assert_eq!((first.to_bytes(), runs()), (second.to_bytes(), 1));
    Ok(())
}

/// What the limit inside of the breaker refuses says nothing about the upstream. (A stack knows that.)
fn unless_refused<B, E>(result: Result<&Response<B>, &adaptive::Error<E>>) -> Outcome {
    match result {
        Err(adaptive::Error::Refused(_)) => Outcome::Ignored,
        result => HttpClassifier.classify(result),
    }
}

fn page(uri: &str) -> Request<Full<Bytes>> {
    let request = Request::get(uri).body(Full::default());
    request.expect("it is an address")
}

/// The same request to an endpoint.
fn to<B>(url: &str, mut request: Request<B>) -> Request<B> {
    let uri = format!("{url}{}", request.uri().path()).parse();
    *request.uri_mut() = uri.expect("a path and the address of a server");
    request
}
