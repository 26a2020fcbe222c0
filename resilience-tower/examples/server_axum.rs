//! The layers that protect a server, around an axum router or one of its routes. A refusal is a
//! response, and so the error stays `Infallible`, as axum asks; what has no response of its own
//! goes through axum's `HandleErrorLayer`.
//!
//! ```sh
//! cargo run -p resilience-tower --all-features --example server_axum
//! ```

mod upstream;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt::Display;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::http::{Response, StatusCode};
use axum::routing::get;
use resilience_core::adaptive::{self, AdaptiveLimit};
use resilience_core::breaker::{self, CircuitBreaker, State};
use resilience_core::bulkhead::{self, Bulkhead};
use resilience_core::cache;
use resilience_core::chaos::{self, Chaos};
use resilience_core::deadline::{self, Deadlines};
use resilience_core::load_shed::{self, Class, LoadShed};
use resilience_core::rate_limit::{Quota, RateLimiter};
use resilience_tower::adaptive::AdaptiveLayer;
use resilience_tower::breaker::{BreakerLayer, http::HttpClassifier};
use resilience_tower::bulkhead::BulkheadLayer;
use resilience_tower::cache::{Keep, Store, http::Head, http::HttpCacheLayer};
use resilience_tower::chaos::ChaosLayer;
use resilience_tower::coalesce::{Coalescing, http::HttpCoalesceLayer, http::HttpKey};
use resilience_tower::fallback::FallbackLayer;
use resilience_tower::load_shed::{LoadShedLayer, StampLayer, http::Paths};
use resilience_tower::rate_limit::RateLimitLayer;
use resilience_tower::stack;
use resilience_tower::telemetry::TelemetryLayer;
use resilience_tower::timeout::deadline::{DeadlineLayer, http::Headers};
use resilience_tower::timeout::{self, TimeoutLayer};
use tower::ServiceBuilder;
use upstream::{at_once, fail, hang, runs, serve, work};

const MS: Duration = Duration::from_millis(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    // Around all routes, outermost first: figures, then what refuses before anything is done.
    let settings = load_shed::Config::builder().target(MS).interval(10 * MS);
    let shed = LoadShed::new(settings.build()?);
    let classes = Paths::new().path("/health", Class::Critical);
    let shedding = LoadShedLayer::new(shed.clone()).class(classes);
    let measure = shedding.measure();
    let shop = stack::inbound("shop").http();
    let handle = shop.handle();
    let around = ServiceBuilder::new()
        .layer(TelemetryLayer::call("shop").http())
        .layer(StampLayer)
        .layer(shedding.into_response())
        .layer(shop.into_response())
        .layer(measure);

    // Around one route each.
    let limiter = RateLimiter::new(Quota::per_minute(1)?);
    let quota = RateLimitLayer::new(limiter).into_response();

    let one = bulkhead::Config::builder().limit(1).max_queue(10);
    let bulkhead = Bulkhead::new(one.build()?);
    let places = BulkheadLayer::new(bulkhead.clone()).into_response();
    let places_and_line = BulkheadLayer::new(bulkhead.clone()).wait().into_response();

    let one = adaptive::Config::builder().initial_limit(1).min_limit(1);
    let limit = AdaptiveLimit::new(one.build()?);
    let found_out = AdaptiveLayer::new(limit.clone()).classify(HttpClassifier);

    let total = deadline::Config::builder().total(20 * MS).build()?;
    let deadline = DeadlineLayer::new(Deadlines::new(total)).propagate(Headers::new().read_grpc());

    let all = chaos::Config::builder().error_rate(1.0).build()?;
    let chaos = Chaos::new(all);
    let two = breaker::Config::builder().consecutive_failures(2);
    let breaker = CircuitBreaker::with_config("reports", two.build()?);
    let guarded = ServiceBuilder::new()
        .layer(
            BreakerLayer::from_handle(breaker.clone())
                .http()
                .into_response(),
        )
        .layer(HandleErrorLayer::new(broke))
        .layer(ChaosLayer::new(chaos.clone()).status(StatusCode::INTERNAL_SERVER_ERROR));
    let timed = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(late))
        .layer(TimeoutLayer::new(20 * MS));

    let store = Store::new(cache::Config::default());
    let minute = |_: &Head<'_>| Keep::fresh_for(Duration::from_secs(60));
    let cached = HttpCacheLayer::new(store.clone(), HttpKey::new(), minute).into_response();
    let calls = Coalescing::default();
    let shared = HttpCoalesceLayer::new(calls.clone(), HttpKey::new()).into_response();

    let usual = async |_| Ok::<_, Infallible>(Response::new(Body::from("the usual")));
    let fallback = FallbackLayer::function(usual).http();
    let fallbacks = fallback.handle().clone();

    let app = Router::new()
        .route("/plain", get(work))
        .route("/health", get(async || "up"))
        .route("/quota", get(work).layer(quota))
        .route("/places", get(work).layer(places))
        .route("/line", get(work).layer(places_and_line))
        .route("/adaptive", get(work).layer(found_out.into_response()))
        .route("/deadline", get(work).layer(deadline.into_response()))
        .route("/timeout", get(work).layer(timed))
        .route("/breaker", get(work).layer(guarded))
        .route("/cached", get(work).layer(cached))
        .route("/shared", get(work).layer(shared))
        .route("/fallback", get(work).layer(fallback))
        .layer(around)
        // Makes the services now: else `serve` makes them for each connection, and those of `cached`
        // and `shared` know of no calls but their own.
        .with_state(());
    let url = serve(app).await?;
    let get = async |path: &str| {
        let answer = reqwest::get(format!("{url}{path}")).await;
        answer.map(|answer| answer.status().as_u16())
    };

    assert_eq!([get("/quota").await?, get("/quota").await?], [200, 429]);

    let refused = || bulkhead.snapshot().refused == 1;
    let (first, second) = at_once(async || get("/places").await, refused).await;
    assert_eq!([first?, second?], [200, 503]);
    let waits = || bulkhead.snapshot().queued == 1;
    let (first, second) = at_once(async || get("/line").await, waits).await;
    assert_eq!([first?, second?], [200, 200]);
    let refused = || limit.snapshot().refused == 1;
    let (first, second) = at_once(async || get("/adaptive").await, refused).await;
    assert_eq!([first?, second?], [200, 503]);

    hang(2);
    assert_eq!(
        [get("/deadline").await?, get("/timeout").await?],
        [504, 504]
    );

    chaos.switch_on();
    assert_eq!([get("/breaker").await?, get("/breaker").await?], [500, 500]);
    assert_eq!(get("/breaker").await?, 503);
    assert_eq!(breaker.state(), State::Open);

    runs();
    assert_eq!([get("/cached").await?, get("/cached").await?], [200, 200]);
    assert_eq!((runs(), store.snapshot().hits), (1, 1));
    let joined = || calls.snapshot().followers == 1;
    let (first, second) = at_once(async || get("/shared").await, joined).await;
    assert_eq!(([first?, second?], runs()), ([200, 200], 1));

    fail(1);
    assert_eq!(get("/fallback").await?, 200);
    assert_eq!(fallbacks.snapshot().failure, 1);

    // Requests lie in queues: all are shed but those that never are.
    upstream::until(|| {
        shed.report(Duration::from_secs(1));
        shed.snapshot().level == shed.snapshot().max_level
    })
    .await;
    assert_eq!([get("/plain").await?, get("/health").await?], [503, 200]);
    shed.reset();
    assert_eq!(get("/plain").await?, 200);

    let places = handle.bulkhead().expect("inbound has one").snapshot();
    println!("{} at once, {} refused", places.limit, places.refused);
    Ok(())
}

async fn late(error: timeout::Error<Infallible>) -> (StatusCode, String) {
    (StatusCode::GATEWAY_TIMEOUT, error.to_string())
}

async fn broke<E: Display>(error: E) -> (StatusCode, String) {
    (StatusCode::BAD_GATEWAY, error.to_string())
}
