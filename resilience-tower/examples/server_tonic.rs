//! The layers that protect a tonic server: around one service, which keeps its name so that the
//! router takes it as any other, or around all by `Server::layer`.
//!
//! ```sh
//! cargo run -p resilience-tower --all-features --example server_tonic
//! ```

mod stock;
mod upstream;

use std::error::Error as StdError;
use std::time::Duration;

use resilience_core::adaptive::{self, AdaptiveLimit};
use resilience_core::breaker::CircuitBreaker;
use resilience_core::bulkhead::{self, Bulkhead};
use resilience_core::chaos::{self, Chaos};
use resilience_core::deadline::{self, Deadlines};
use resilience_core::load_shed::{self, Class, LoadShed};
use resilience_core::rate_limit::{Quota, RateLimiter};
use resilience_tower::adaptive::AdaptiveLayer;
use resilience_tower::breaker::BreakerLayer;
use resilience_tower::breaker::grpc::GrpcClassifier;
use resilience_tower::bulkhead::BulkheadLayer;
use resilience_tower::chaos::ChaosLayer;
use resilience_tower::load_shed::{LoadShedLayer, StampLayer, http::Paths};
use resilience_tower::rate_limit::RateLimitLayer;
use resilience_tower::stack;
use resilience_tower::telemetry::TelemetryLayer;
use resilience_tower::timeout::TimeoutLayer;
use resilience_tower::timeout::deadline::{DeadlineLayer, http::Headers};
use stock::{Stock, StockClient};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Status};
use tower::{Layer, ServiceBuilder};
use upstream::{at_once, hang};

const MS: Duration = Duration::from_millis(1);

type Answer = Result<String, Status>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    // A preset, with less time than it would give.
    let stack = stack::inbound("stock").configure(|stock| {
        let (total, least) = (20 * MS, Duration::ZERO);
        stock.deadline = Some(stack::Deadline { total, least });
    });
    let stack = stack?.grpc();
    let handle = stack.handle();
    let preset = stack.into_grpc_response().layer(Stock);
    let (incoming, mut client) = listen().await?;
    tokio::spawn(
        Server::builder()
            .add_service(preset)
            .serve_with_incoming(incoming),
    );
    assert_eq!(client.count("apples".to_owned()).await?, "12");
    hang(1);
    let late = client.count("apples".to_owned()).await;
    assert_eq!(code(late), Code::DeadlineExceeded);
    println!(
        "{:?}",
        handle.deadline().expect("inbound has one").snapshot()
    );

    // Around all services: what is no refusal may fail here, and is the error of the connection.
    let settings = load_shed::Config::builder().target(MS).interval(10 * MS);
    let shed = LoadShed::new(settings.build()?);
    let classes = Paths::new().path("/grpc.health.v1.Health", Class::Critical);
    let shedding = LoadShedLayer::new(shed.clone()).class(classes);
    let measure = shedding.measure();
    let chaos = Chaos::new(chaos::Config::builder().abort_rate(1.0).build()?);
    let around = ServiceBuilder::new()
        .layer(StampLayer)
        .layer(shedding.into_grpc_response())
        .layer(measure)
        .layer(TelemetryLayer::call("stock").classify(GrpcClassifier::new()))
        .layer(TimeoutLayer::new(Duration::from_secs(10)))
        .layer(ChaosLayer::new(chaos.clone()));
    let (incoming, mut client) = listen().await?;
    tokio::spawn(
        Server::builder()
            .layer(around)
            .add_service(Stock)
            .serve_with_incoming(incoming),
    );
    assert_eq!(client.count("apples".to_owned()).await?, "12");
    chaos.switch_on();
    println!(
        "{}",
        client
            .count("apples".to_owned())
            .await
            .expect_err("it breaks off")
    );
    chaos.switch_off();
    upstream::until(|| {
        shed.report(Duration::from_secs(1));
        shed.snapshot().level == shed.snapshot().max_level
    })
    .await;
    assert_eq!(
        code(client.count("apples".to_owned()).await),
        Code::Unavailable
    );

    // Around one service each.
    let limiter = RateLimiter::new(Quota::per_minute(1)?);
    let quota = RateLimitLayer::new(limiter).into_grpc_response();
    let (incoming, mut client) = listen().await?;
    tokio::spawn(
        Server::builder()
            .add_service(quota.layer(Stock))
            .serve_with_incoming(incoming),
    );
    assert_eq!(client.count("apples".to_owned()).await?, "12");
    assert_eq!(
        code(client.count("apples".to_owned()).await),
        Code::ResourceExhausted
    );

    let one = bulkhead::Config::builder().limit(1).max_queue(10);
    let bulkhead = Bulkhead::new(one.build()?);
    let places = BulkheadLayer::new(bulkhead.clone()).into_grpc_response();
    let (incoming, client) = listen().await?;
    tokio::spawn(
        Server::builder()
            .add_service(places.layer(Stock))
            .serve_with_incoming(incoming),
    );
    let refused = || bulkhead.snapshot().refused == 1;
    assert_eq!(two(&client, refused).await, [Code::Ok, Code::Unavailable]);
    let line = BulkheadLayer::new(bulkhead.clone())
        .wait()
        .into_grpc_response();
    let (incoming, client) = listen().await?;
    tokio::spawn(
        Server::builder()
            .add_service(line.layer(Stock))
            .serve_with_incoming(incoming),
    );
    let waits = || bulkhead.snapshot().queued == 1;
    assert_eq!(two(&client, waits).await, [Code::Ok, Code::Ok]);

    let one = adaptive::Config::builder().initial_limit(1).min_limit(1);
    let limit = AdaptiveLimit::new(one.build()?);
    let found_out = AdaptiveLayer::new(limit.clone()).classify(GrpcClassifier::new());
    let service = found_out.into_grpc_response().layer(Stock);
    let (incoming, client) = listen().await?;
    tokio::spawn(
        Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming),
    );
    let refused = || limit.snapshot().refused == 1;
    assert_eq!(two(&client, refused).await, [Code::Ok, Code::Unavailable]);

    let headers = Headers::new().read_grpc();
    let total = deadline::Config::builder().total(20 * MS).build()?;
    let deadline = DeadlineLayer::new(Deadlines::new(total)).propagate(headers);
    let breaker = CircuitBreaker::new("stock");
    let guard = BreakerLayer::from_handle(breaker.clone()).grpc();
    let both = ServiceBuilder::new()
        .layer(TelemetryLayer::call("stock"))
        .layer(deadline.into_grpc_response())
        .layer(guard.into_grpc_response())
        .service(Stock);
    let (incoming, mut client) = listen().await?;
    tokio::spawn(
        Server::builder()
            .add_service(both)
            .serve_with_incoming(incoming),
    );
    assert_eq!(client.count("apples".to_owned()).await?, "12");
    assert_eq!(breaker.snapshot().calls, 1);
    hang(1);
    let late = client.count("apples".to_owned()).await;
    assert_eq!(code(late), Code::DeadlineExceeded);
    Ok(())
}

/// A free port, and a client of it.
async fn listen() -> Result<(TcpIncoming, StockClient<Channel>), Box<dyn StdError>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let channel = Endpoint::from_shared(url)?.connect_lazy();
    Ok((TcpIncoming::from(listener), StockClient::new(channel)))
}

async fn two(client: &StockClient<Channel>, seen: impl Fn() -> bool) -> [Code; 2] {
    let call = async || client.clone().count("apples".to_owned()).await;
    let (first, second) = at_once(call, seen).await;
    [code(first), code(second)]
}

fn code(answer: Answer) -> Code {
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}
