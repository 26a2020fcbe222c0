//! The layers around a reqwest client. Its requests and responses are types of its own, which is all
//! the same to those layers that only let calls pass or not; for the others a few lines make it a
//! service of `http` types.
//!
//! ```sh
//! cargo run -p resilience-tower --all-features --example client_reqwest
//! ```

mod upstream;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use reqwest::{Body, Client, Method};
use resilience_core::adaptive::AdaptiveLimit;
use resilience_core::balance::{self, Balancer, Endpoint};
use resilience_core::breaker::{Outcome, classify_fn};
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
use resilience_tower::bulkhead::{self, BulkheadLayer};
use resilience_tower::cache::{Keep, Store, http::Head, http::HttpCacheLayer};
use resilience_tower::chaos::ChaosLayer;
use resilience_tower::coalesce::{
    Coalescing, http::HttpCoalesceLayer, http::HttpKey, http::Limits,
};
use resilience_tower::fallback::FallbackLayer;
use resilience_tower::hedge::HedgeLayer;
use resilience_tower::rate_limit::RateLimitLayer;
use resilience_tower::retry::RetryLayer;
use resilience_tower::stack;
use resilience_tower::telemetry::TelemetryLayer;
use resilience_tower::timeout::TimeoutLayer;
use resilience_tower::timeout::deadline::{DeadlineLayer, http::ENVOY_TIMEOUT_MS, http::Headers};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use upstream::{at_once, fail, hang, runs, serve, work};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    let client = Client::new();
    let first = serve(Router::new().fallback(get(work))).await?;
    let second = serve(Router::new().fallback(get(work))).await?;

    // Around the client as it is, with a function that judges its responses.
    let quota = RateLimiter::new(Quota::per_second(100)?);
    let plain = ServiceBuilder::new()
        .layer(TelemetryLayer::call("plain").admission())
        .layer(RateLimitLayer::new(quota).wait(100))
        .layer(BreakerLayer::new("plain").classify(classify_fn(unless_refused)))
        .layer(BulkheadLayer::new(Bulkhead::new(Default::default())).wait())
        .layer(
            AdaptiveLayer::new(AdaptiveLimit::new(Default::default())).classify(classify_fn(judge)),
        )
        .layer(TimeoutLayer::new(Duration::from_secs(1)))
        .service(client.clone());
    let request = reqwest::Request::new(Method::GET, first.parse()?);
    let response = plain.oneshot(request).await?;
    assert_eq!((response.status(), runs()), (StatusCode::OK, 1));

    // As a service of `http` types: a preset.
    let stack = stack::outbound("shop").http();
    let handle = stack.handle();
    let shop = ServiceBuilder::new()
        .layer(stack)
        .service(sending(client.clone()));
    fail(2);
    let response = shop.oneshot(page(&first)).await?;
    assert_eq!((response.status(), runs()), (StatusCode::OK, 3));
    println!("{:?}", handle.retry().expect("outbound has one").snapshot());

    // One by one, around as many endpoints as there are.
    let store = Store::new(cache::Config::default());
    let minute = |_: &Head<'_>| Keep::fresh_for(Duration::from_secs(60));
    let cache = HttpCacheLayer::new(store.clone(), HttpKey::new(), minute).limits(limits());
    let usual = async |_| Ok::<_, Infallible>(Response::default());
    let fallback = FallbackLayer::function(usual).http();
    let fallbacks = fallback.handle().clone();
    let retries = RetryPolicy::default();
    let soon = hedge::Config::builder()
        .fixed_delay(Duration::from_millis(20))
        .build()?;
    let budget = retries.budget().clone();
    let hedges = HedgePolicy::inside_retry(soon, budget, SharedClock::default());
    let attempt = deadline::Config::builder()
        .attempt(Duration::from_secs(1))
        .build()?;
    let headers = Headers::new().write_millis(ENVOY_TIMEOUT_MS);
    let chaos = Chaos::new(chaos::Config::builder().error_rate(1.0).build()?);
    let broken = ChaosLayer::new(chaos.clone()).status(StatusCode::BAD_GATEWAY);

    let endpoints = Balancer::new(balance::Config::default());
    for url in [first.clone(), second] {
        let at = url.clone();
        let one = sending(client.clone()).map_request(move |request| to(&at, request));
        endpoints.insert(Endpoint::new(url, one))?;
    }
    let shop = ServiceBuilder::new()
        .layer(fallback)
        .map_response(|response: Response<_>| response.map(drop))
        .layer(cache.share_answers_only())
        .layer(RetryLayer::new(retries.clone()).http())
        .layer(HedgeLayer::http(hedges.clone()))
        .layer(DeadlineLayer::new(Deadlines::new(attempt)).propagate(headers))
        .layer(broken.only(|request: &Request<_>| request.uri().path() == "/broken"))
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

    // An error of reqwest is no `Clone`: each caller has one of its own.
    let calls = Coalescing::default();
    let share = HttpCoalesceLayer::new(calls.clone(), HttpKey::new()).limits(limits());
    let shared = ServiceBuilder::new()
        .layer(share.share_answers_only())
        .service(sending(client));
    let joined = || calls.snapshot().followers == 1;
    let (first, second) = at_once(|| shared.clone().oneshot(page(&first)), joined).await;
    let (first, second) = (first?.collect().await?, second?.collect().await?);
    assert_eq!((first.to_bytes(), runs()), (second.to_bytes(), 1));
    Ok(())
}

/// How long a body of reqwest is, it does not say beforehand.
fn limits() -> Limits {
    Limits::default().unknown_lengths(true)
}

/// A client that takes any body that policies make, and answers with reqwest's.
fn sending<B>(
    client: Client,
) -> impl Service<Request<B>, Response = Response<Body>, Error = reqwest::Error, Future: Send>
+ Clone
+ Send
+ Sync
where
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>>,
    B: Send + Sync + 'static,
{
    service_fn(move |request: Request<B>| {
        let client = client.clone();
        async move {
            let request = request.map(Body::wrap).try_into()?;
            client.execute(request).await.map(Response::from)
        }
    })
}

/// The head of a response of reqwest says what that of any other does.
fn judge<E>(result: Result<&reqwest::Response, &E>) -> Outcome {
    result.map_or(Outcome::Failure, |response| {
        HttpClassifier::outcome(response.status(), response.headers())
    })
}

/// What the limits inside of the breaker refuse says nothing about the upstream. (A stack knows that.)
fn unless_refused<E>(
    result: Result<&reqwest::Response, &bulkhead::Error<adaptive::Error<E>>>,
) -> Outcome {
    match result {
        Err(bulkhead::Error::Refused(_) | bulkhead::Error::Inner(adaptive::Error::Refused(_))) => {
            Outcome::Ignored
        }
        result => judge(result),
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
