//! The layers around calls to an upstream, as routes of an axum server that hands requests on: a
//! gateway. All of them go to the same two endpoints by one hyper client.
//!
//! ```sh
//! cargo run -p resilience-tower --all-features --example client_axum
//! ```

mod upstream;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt::Display;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::http::{Request, Response, StatusCode, Uri};
use axum::routing::get;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use resilience_core::balance::{self, Balancer, Endpoint};
use resilience_core::cache;
use resilience_core::hedge::{self, HedgePolicy};
use resilience_core::retry::{RetryBudget, RetryPolicy};
use resilience_tower::balance::Balance;
use resilience_tower::breaker::http::HttpClassifier;
use resilience_tower::cache::{Keep, Store, http::Head, http::HttpCacheLayer};
use resilience_tower::coalesce::{Coalescing, http::HttpCoalesceLayer, http::HttpKey};
use resilience_tower::fallback::FallbackLayer;
use resilience_tower::hedge::HedgeLayer;
use resilience_tower::retry::RetryLayer;
use resilience_tower::stack;
use resilience_tower::telemetry::TelemetryLayer;
use tower::{ServiceBuilder, ServiceExt};
use upstream::{at_once, fail, hang, runs, serve, work};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    // The endpoints: what is kept for one of them alone would be part of its service.
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let endpoints = Balancer::new(balance::Config::default());
    for _ in 0..2 {
        let url = serve(Router::new().fallback(get(work))).await?;
        let name = url.clone();
        let service = client.clone().map_request(move |request| to(&url, request));
        endpoints.insert(Endpoint::new(name, service))?;
    }
    let shop = Balance::new(endpoints.clone()).classify(HttpClassifier);
    let shop = shop.into_response();

    // Retries and hedges keep what they send in bodies of their own.
    let budget = RetryBudget::default();
    let retries = RetryPolicy::new(Default::default(), budget.clone());
    let retry = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(bad_gateway))
        .layer(RetryLayer::new(retries.clone()).http())
        .layer(TelemetryLayer::attempt("shop").http())
        .map_request(|request: Request<_>| request.map(Body::new))
        .service(shop.clone());
    let soon = hedge::Config::builder().fixed_delay(Duration::from_millis(20));
    let hedges = HedgePolicy::new(soon.build()?, budget);
    let hedge = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(bad_gateway))
        .layer(HedgeLayer::http(hedges.clone()))
        .map_request(|request: Request<_>| request.map(Body::new))
        .service(shop.clone());

    // A preset; the other layers go around it.
    let outbound = stack::outbound("shop").http();
    let handle = outbound.handle();
    let store = Store::new(cache::Config::default());
    let minute = |_: &Head<'_>| Keep::fresh_for(Duration::from_secs(60));
    let cache = HttpCacheLayer::new(store.clone(), HttpKey::new(), minute);
    let usual = async |_| Ok::<_, Infallible>(Response::new(Body::from("the usual")));
    let fallback = FallbackLayer::function(usual).http();
    let fallbacks = fallback.handle().clone();
    let stacked = ServiceBuilder::new()
        .layer(TelemetryLayer::call("shop").http())
        .layer(HandleErrorLayer::new(bad_gateway))
        .layer(fallback)
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(cache.share_answers_only().into_response())
        .layer(outbound.into_response())
        .map_request(|request: Request<_>| request.map(Body::new))
        .service(shop.clone());

    let calls = Coalescing::default();
    let share = HttpCoalesceLayer::new(calls.clone(), HttpKey::new()).share_answers_only();
    let shared = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(bad_gateway))
        .layer(share.into_response())
        .service(shop);

    let gateway = Router::new()
        .route_service("/retry", retry)
        .route_service("/hedge", hedge)
        .route_service("/stacked", stacked)
        .route_service("/shared", shared);
    let url = serve(gateway).await?;
    let get = async |path: &str| {
        let answer = reqwest::get(format!("{url}{path}")).await;
        answer.map(|answer| answer.status().as_u16())
    };

    fail(2);
    assert_eq!((get("/retry").await?, runs()), (200, 3));
    assert_eq!(retries.snapshot().retries, 2);

    hang(1);
    assert_eq!((get("/hedge").await?, runs()), (200, 2));
    assert_eq!(hedges.snapshot().won, 1);

    fail(3);
    assert_eq!((get("/stacked").await?, runs()), (200, 3));
    assert_eq!(fallbacks.snapshot().failure, 1);
    for _ in 0..2 {
        assert_eq!(get("/stacked").await?, 200);
    }
    assert_eq!((runs(), store.snapshot().hits), (1, 1));

    let joined = || calls.snapshot().followers == 1;
    let (first, second) = at_once(async || get("/shared").await, joined).await;
    assert_eq!(([first?, second?], runs()), ([200, 200], 1));

    for endpoint in endpoints.snapshot().endpoints {
        println!("{}: {} successes", endpoint.name, endpoint.successes);
        endpoints.drain(&endpoint.name);
    }
    assert_eq!(get("/hedge").await?, 503);
    println!(
        "the breaker is {}",
        handle.breaker().expect("outbound has one").state()
    );
    Ok(())
}

/// The same request to another server.
fn to<B>(url: &str, mut request: Request<B>) -> Request<B> {
    let uri = format!("{url}{}", request.uri().path()).parse::<Uri>();
    *request.uri_mut() = uri.expect("a path and the address of a server");
    request
}

async fn bad_gateway<E: Display>(error: E) -> (StatusCode, String) {
    (StatusCode::BAD_GATEWAY, error.to_string())
}
