//! The layers around a tonic client. What needs no more than that a call is made goes around the
//! channel; what keeps or repeats messages, which a channel knows as a stream only, goes around the
//! method.
//!
//! ```sh
//! cargo run -p resilience-tower --all-features --example client_tonic
//! ```

mod stock;
mod upstream;

use std::error::Error as StdError;
use std::time::Duration;

use http::Request;
use resilience_core::adaptive::AdaptiveLimit;
use resilience_core::balance::{self, Balancer, Endpoint};
use resilience_core::bulkhead::Bulkhead;
use resilience_core::cache;
use resilience_core::chaos::{self, Chaos};
use resilience_core::deadline::{self, Deadlines};
use resilience_core::hedge::{self, HedgePolicy};
use resilience_core::rate_limit::{Quota, RateLimiter};
use resilience_core::retry::{RetryBudget, RetryPolicy};
use resilience_tower::adaptive::AdaptiveLayer;
use resilience_tower::balance::Balance;
use resilience_tower::breaker::{BreakerLayer, grpc::GrpcClassifier, http::OnBodyEnd};
use resilience_tower::bulkhead::BulkheadLayer;
use resilience_tower::cache::{ByRule, CacheLayer, Keep, Store};
use resilience_tower::chaos::ChaosLayer;
use resilience_tower::coalesce::{CoalesceLayer, Coalescing};
use resilience_tower::fallback::FallbackLayer;
use resilience_tower::hedge::{CloneIf, HedgeLayer};
use resilience_tower::rate_limit::RateLimitLayer;
use resilience_tower::retry::{RetryLayer, http::HttpReplay};
use resilience_tower::stack;
use resilience_tower::telemetry::TelemetryLayer;
use resilience_tower::timeout::deadline::{DeadlineLayer, http::Headers};
use stock::{Stock, StockClient};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server, channel};
use tonic::{Code, Status};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use upstream::{at_once, fail, hang, runs};

const MS: Duration = Duration::from_millis(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    // A preset around the channel, which takes bodies of tonic's own.
    let stack = stack::outbound("stock")
        .grpc()
        .replay(HttpReplay::default());
    let handle = stack.handle();
    let channel = ServiceBuilder::new()
        .layer(stack.into_grpc_response())
        .map_request(|request: Request<_>| request.map(Body::new))
        .service(serve().await?);
    let mut client = StockClient::new(channel);
    fail(2);
    assert_eq!(client.count(twice("apples")).await?, "12");
    assert_eq!(runs(), 3);
    // Nobody has said that it may be sent twice.
    fail(1);
    let status = client.count("apples".to_owned()).await.unwrap_err();
    assert_eq!((status.code(), runs()), (Code::Unavailable, 1));
    println!("{:?}", handle.retry().expect("outbound has one").snapshot());

    // The same and more, one by one, around as many channels as there are endpoints.
    let endpoints = Balancer::new(balance::Config::default());
    for name in ["first", "second"] {
        let limit = AdaptiveLimit::new(Default::default());
        let limit = AdaptiveLayer::new(limit).classify(GrpcClassifier::new());
        let channel = limit.into_grpc_response().layer(serve().await?);
        endpoints.insert(Endpoint::new(name, channel))?;
    }
    let balance = Balance::new(endpoints.clone()).judge(OnBodyEnd(GrpcClassifier::new()));
    let retries = RetryPolicy::default();
    let retry = RetryLayer::new(retries.clone()).classify(GrpcClassifier::new());
    let attempt = deadline::Config::builder().attempt(500 * MS).build()?;
    let deadline =
        DeadlineLayer::new(Deadlines::new(attempt)).propagate(Headers::new().write_grpc());
    let chaos = Chaos::new(chaos::Config::builder().abort_rate(1.0).build()?);
    let places = Bulkhead::new(Default::default());
    let quota = RateLimiter::new(Quota::per_second(100)?);
    let channel = ServiceBuilder::new()
        .layer(TelemetryLayer::call("stock").classify(GrpcClassifier::new()))
        .layer(RateLimitLayer::new(quota).into_grpc_response().wait(100))
        .layer(retry.replay(HttpReplay::default()))
        .layer(BulkheadLayer::new(places).wait().into_grpc_response())
        .layer(BreakerLayer::new("stock").grpc().into_grpc_response())
        .layer(deadline.into_grpc_response())
        .layer(ChaosLayer::new(chaos.clone()).only(|request: &Request<_>| !safe(request)))
        .map_request(|request: Request<_>| request.map(Body::new))
        .service(balance.into_grpc_response());
    let mut client = StockClient::new(channel);
    fail(1);
    assert_eq!(
        (client.count(twice("apples")).await?, runs()),
        ("12".to_owned(), 2)
    );
    hang(1);
    assert_eq!(
        (client.count(twice("apples")).await?, runs()),
        ("12".to_owned(), 2)
    );
    assert_eq!(retries.snapshot().retries, 2);
    chaos.switch_on();
    let status = client.count("apples".to_owned()).await.unwrap_err();
    println!("{status}");
    for endpoint in endpoints.snapshot().endpoints {
        println!("{}: {} successes", endpoint.name, endpoint.successes);
    }

    // Around the method: messages can be cloned, and so can answers and their statuses.
    let channel = StockClient::new(serve().await?);
    let count = service_fn(move |item: String| {
        let mut client = channel.clone();
        async move { client.count(item).await }
    });
    let soon = hedge::Config::builder().fixed_delay(20 * MS).build()?;
    let hedges = HedgePolicy::new(soon, RetryBudget::default());
    let hedged = HedgeLayer::new(hedges.clone(), CloneIf(|_: &String| true));
    let store = Store::new(cache::Config::default());
    let minute = ByRule::new(|answer: Result<&String, &Status>| match answer {
        Ok(_) => Keep::fresh_for(Duration::from_secs(60)),
        Err(_) => Keep::not(),
    });
    let fallback = FallbackLayer::value("some".to_owned());
    let fallbacks = fallback.handle().clone();
    let counts = ServiceBuilder::new()
        .layer(fallback)
        .layer(CacheLayer::new(
            store.clone(),
            |item: &String| Some(item.clone()),
            minute,
        ))
        .layer(hedged)
        .service(count.clone());
    hang(1);
    assert_eq!(counts.clone().oneshot("apples".to_owned()).await?, "12");
    assert_eq!((runs(), hedges.snapshot().won), (2, 1));
    assert_eq!(counts.clone().oneshot("apples".to_owned()).await?, "12");
    assert_eq!((runs(), store.snapshot().hits), (0, 1));
    // The call, and its hedge where the machine is slow enough for one.
    fail(2);
    assert_eq!(counts.oneshot("pears".to_owned()).await?, "some");
    assert_eq!(fallbacks.snapshot().failure, 1);
    fail(0);

    let calls = Coalescing::default();
    let shared = CoalesceLayer::new(calls.clone(), |item: &String| Some(item.clone()));
    let counts = ServiceBuilder::new().layer(shared).service(count);
    let call = async || counts.clone().oneshot("apples".to_owned()).await;
    let (first, second) = at_once(call, || calls.snapshot().followers == 1).await;
    assert_eq!(
        (first?, second?, runs()),
        ("12".to_owned(), "12".to_owned(), 1)
    );
    Ok(())
}

/// A call that may be made twice.
fn twice(item: &str) -> tonic::Request<String> {
    let mut request = tonic::Request::new(item.to_owned());
    let key = "idempotency-key".parse::<tonic::metadata::AsciiMetadataKey>();
    let metadata = request.metadata_mut();
    metadata.insert(
        key.expect("it is a key"),
        "1".parse().expect("it is a value"),
    );
    request
}

fn safe<B>(request: &Request<B>) -> bool {
    request.headers().contains_key("idempotency-key")
}

/// A channel to a server on a free port.
async fn serve() -> Result<Channel, Box<dyn StdError>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let server = Server::builder().add_service(Stock);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    Ok(channel::Endpoint::from_shared(url)?.connect_lazy())
}
