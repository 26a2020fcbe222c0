//! An axum server that calls an upstream through a stack, and tells Prometheus about both at
//! `/metrics`; changes of the breaker are logged.
//!
//! ```sh
//! cargo run -p resilience-tower --features metrics,retry,tracing --example telemetry_prometheus
//! ```

use std::error::Error as StdError;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use resilience_core::breaker::{CircuitBreaker, Config, Outcome, classify_fn};
use resilience_core::retry::{self, Backoff, RetryBudget, RetryPolicy};
use resilience_tower::breaker::{BreakerLayer, Error};
use resilience_tower::retry::RetryLayer;
use resilience_tower::telemetry::{Collector, TelemetryLayer, events};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt, service_fn};

static UPSTREAM_WORKS: AtomicBool = AtomicBool::new(true);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    tracing_subscriber::fmt().with_ansi(false).init();
    // The recorder first: what is told before there is one is lost.
    let seconds = Matcher::Suffix("_duration_seconds".to_owned());
    let attempts = Matcher::Full("resilience_call_attempts".to_owned());
    let prometheus = PrometheusBuilder::new()
        .set_buckets_for_metric(seconds, &[0.001, 0.01, 0.1, 1.0])?
        .set_buckets_for_metric(attempts, &[1.0, 2.0, 3.0])?
        .install_recorder()?;

    let config = Config::builder().consecutive_failures(4).build()?;
    let breaker = CircuitBreaker::with_config("payments", config);
    events::breaker(&breaker).forget();
    let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(5))?;
    let config = retry::Config::builder().backoff(backoff).build()?;
    let retries = RetryPolicy::new(config, RetryBudget::default());

    let collector = Collector::new();
    collector.add("payments", &breaker);
    collector.add("payments", &retries);

    let payments = ServiceBuilder::new()
        .layer(TelemetryLayer::call("payments").admission())
        .layer(RetryLayer::new(retries).classify(classify_fn(worth_another)))
        .layer(TelemetryLayer::attempt("payments").admission())
        .layer(BreakerLayer::from_handle(breaker.clone()))
        .service(service_fn(async |()| {
            if UPSTREAM_WORKS.load(Ordering::Relaxed) {
                Ok("paid")
            } else {
                Err(io::Error::other("the upstream is down"))
            }
        }));

    let pay = async move || {
        let answer = payments.oneshot(()).await;
        answer.map_err(|_| StatusCode::BAD_GATEWAY)
    };
    let scrape = async move || {
        collector.publish();
        prometheus.run_upkeep();
        prometheus.render()
    };
    let app = Router::new()
        .route("/pay", get(pay))
        .route("/metrics", get(scrape));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, app).into_future());

    let client = reqwest::Client::new();
    let fetch = async |path: &str| client.get(format!("http://{address}{path}")).send().await;
    for works in [true, true, true, false, false, false] {
        UPSTREAM_WORKS.store(works, Ordering::Relaxed);
        println!("GET /pay: {}", fetch("/pay").await?.status());
    }
    let text = fetch("/metrics").await?.text().await?;
    let mut shown: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("resilience_"))
        .filter(|line| !line.contains("_bucket") && !line.ends_with(" 0"))
        .collect();
    shown.sort_unstable();
    shown.iter().for_each(|line| println!("{line}"));

    for expected in [
        r#"resilience_breaker_state{policy="breaker",name="payments",state="open"} 1"#,
        r#"resilience_call_duration_seconds_count{name="payments",outcome="success"} 3"#,
        r#"resilience_attempt_duration_seconds_count{name="payments",outcome="failure"} 4"#,
    ] {
        assert!(text.lines().any(|line| line == expected), "{expected}");
    }
    let figures = breaker.snapshot();
    let refused = format!(
        r#"resilience_attempt_refused_total{{policy="breaker",name="payments",reason="open"}} {}"#,
        figures.rejected
    );
    assert!(text.lines().any(|line| line == refused), "{refused}");
    Ok(())
}

/// What the breaker refuses is not tried again.
fn worth_another(result: Result<&&str, &Error<io::Error>>) -> Outcome {
    match result {
        Ok(_) => Outcome::Success,
        Err(Error::Inner(_)) => Outcome::Failure,
        Err(_) => Outcome::Ignored,
    }
}
