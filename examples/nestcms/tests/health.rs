//! Health and metrics.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::FromRef,
    http::{Request, StatusCode},
    middleware::from_fn_with_state,
    routing::get,
};
use http_body_util::BodyExt;
use nestcms::{
    events::{EventBus, Recorder},
    health::{self, Dependency, Health},
    metrics::{self, Metrics},
};
use resilience_core::{
    breaker::{CircuitBreaker, Config},
    clock::{ManualClock, SharedClock},
};
use serde_json::Value;
use tower::ServiceExt;
use webhook_verify::clock::ManualWallClock;

#[derive(Clone)]
struct State {
    health: Health,
    metrics: Metrics,
}

impl FromRef<State> for Health {
    fn from_ref(state: &State) -> Self {
        state.health.clone()
    }
}

impl FromRef<State> for Metrics {
    fn from_ref(state: &State) -> Self {
        state.metrics.clone()
    }
}

struct Server {
    router: Router,
    state: State,
    recorder: Recorder,
    bus: EventBus,
    database_up: Arc<AtomicBool>,
    paytabs: CircuitBreaker,
    clock: ManualClock,
}

fn server() -> Server {
    let clock = ManualClock::new();
    let shared = SharedClock::from(clock.clone());
    let bus = EventBus::new(Arc::new(ManualWallClock::new(1_767_323_045)));
    let database_up = Arc::new(AtomicBool::new(true));
    let config = Config::builder()
        .consecutive_failures(2)
        .build()
        .expect("valid");
    let paytabs = CircuitBreaker::with_clock("paytabs", config, shared.clone());
    let up = Arc::clone(&database_up);
    let database = Dependency::required("database").check(move || {
        let up = up.load(Ordering::SeqCst);
        async move {
            if up {
                Ok(())
            } else {
                Err("connection to 10.1.2.3 refused")
            }
        }
    });
    let provider = Dependency::optional("paytabs").breaker(&paytabs);
    let health = Health::new(
        vec![database, provider],
        shared.clone(),
        Arc::new(bus.clone()),
    );
    let metrics = Metrics::new("nestcms", shared);
    metrics.watch_breaker(&paytabs);
    metrics.watch_bus(&bus);
    let state = State { health, metrics };
    let router = Router::new()
        .route("/items/{id}", get(async || "an item"))
        .route("/broken", get(async || StatusCode::INTERNAL_SERVER_ERROR))
        .merge(health::routes())
        .merge(metrics::routes())
        .layer(from_fn_with_state(state.metrics.clone(), metrics::track))
        .with_state(state.clone());
    Server {
        recorder: bus.recorder(),
        router,
        state,
        bus,
        database_up,
        paytabs,
        clock,
    }
}

impl Server {
    async fn request(&self, method: &str, path: &str) -> (StatusCode, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::empty())
            .expect("a request");
        let router = self.router.clone();
        let response = router.oneshot(request).await.expect("infallible");
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        self.request("GET", path).await
    }

    async fn get_json(&self, path: &str) -> (StatusCode, Value) {
        let (status, body) = self.get(path).await;
        (status, serde_json::from_str(&body).expect("JSON"))
    }

    fn open_paytabs(&self) {
        for _ in 0..2 {
            self.paytabs.try_acquire().expect("closed").failure();
        }
        assert!(self.paytabs.try_acquire().is_err());
    }
}

/// L.c3
#[tokio::test]
async fn a_required_dependency_that_is_down_ends_readiness_and_not_life() {
    let server = server();
    assert_eq!(server.get("/health/ready").await.0, StatusCode::OK);
    server.database_up.store(false, Ordering::SeqCst);
    let (status, body) = server.get_json("/health/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["dependencies"][0]["name"], "database");
    assert_eq!(body["dependencies"][0]["status"], "down");
    assert_eq!(server.get("/health/live").await.0, StatusCode::OK);
    assert_eq!(server.get("/health").await.0, StatusCode::OK);
    let (status, text) = server.get("/health/detailed").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        !text.contains("10.1.2.3"),
        "the reason stays inside: {text}"
    );
}

#[tokio::test]
async fn an_open_breaker_degrades_and_shows_the_rest_of_its_wait() {
    let server = server();
    server.open_paytabs();
    server.clock.advance(Duration::from_secs(10));
    let (status, body) = server.get_json("/health/detailed").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["status"], "degraded");
    let paytabs = &body["dependencies"][1];
    assert_eq!(paytabs["breaker"]["state"], "open");
    assert_eq!(paytabs["breaker"]["retry_after_ms"], 20_000);
    assert_eq!(server.get("/health/ready").await.0, StatusCode::OK);
}

#[tokio::test]
async fn each_change_of_health_is_one_event() {
    let server = server();
    for up in [true, false, false, true] {
        server.database_up.store(up, Ordering::SeqCst);
        server.get("/health/ready").await;
    }
    assert_eq!(
        server.recorder.types(),
        ["health.changed", "health.changed"]
    );
}

#[tokio::test]
async fn a_stopping_instance_is_not_ready() {
    let server = server();
    server.state.health.stop();
    assert_eq!(
        server.get("/health/ready").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(server.get("/health/live").await.0, StatusCode::OK);
}

/// L.c1, for the metrics of this application.
#[tokio::test]
async fn requests_breakers_and_business_are_counted() {
    let server = server();
    for id in 0..3 {
        server.get(&format!("/items/{id}")).await;
    }
    server.get("/broken").await;
    server.open_paytabs();
    let metrics = &server.state.metrics;
    metrics.webhook_verified("signature", "refused");
    metrics.cache_request("memory", "hit");
    metrics.auth_failed("credentials");
    metrics.queue_depth("jobs", 7);
    metrics.payment_succeeded("SAR", 1050);
    metrics.status_changed("SAR", "succeeded".to_owned());
    let (status, page) = server.get("/metrics").await;
    assert_eq!(status, StatusCode::OK);
    for line in [
        r#"http_requests_total{service="nestcms",method="GET",route="/items/{id}",status="200"} 3"#,
        r#"http_requests_total{service="nestcms",method="GET",route="/broken",status="500"} 1"#,
        r#"http_request_duration_seconds_count{service="nestcms",method="GET",route="/items/{id}"} 3"#,
        "http_requests_in_flight 1",
        r#"circuit_breaker_state{name="paytabs"} 2"#,
        r#"circuit_breaker_transitions_total{name="paytabs",from="closed",to="open"} 1"#,
        r#"circuit_breaker_rejected_total{name="paytabs"} 1"#,
        r#"webhook_verifications_total{step="signature",result="refused"} 1"#,
        r#"cache_requests_total{tier="memory",result="hit"} 1"#,
        r#"auth_failures_total{reason="credentials"} 1"#,
        r#"queue_depth{queue="jobs"} 7"#,
        r#"business_payments_total{currency="SAR"} 1"#,
        r#"business_payment_minor_units_total{currency="SAR"} 1050"#,
        r#"business_status_changes_total{currency="SAR",to="succeeded"} 1"#,
    ] {
        assert!(page.lines().any(|l| l == line), "{line}\n{page}");
    }
}

/// L.c6
#[tokio::test]
async fn a_client_cannot_make_new_series() {
    let server = server();
    server.request("GET", "/items/1").await;
    server.request("GET", "/nothing").await;
    server.request("INVENTED", "/nothing").await;
    let before = server.state.metrics.render().lines().count();
    for n in 0..1000 {
        server
            .request(&format!("INVENTED{n}"), &format!("/nothing/{n}"))
            .await;
        server.request("GET", &format!("/items/{n}")).await;
    }
    let after = server.state.metrics.render().lines().count();
    assert_eq!(before, after);
}

#[tokio::test]
async fn two_instances_do_not_count_into_each_other() {
    let (one, two) = (server(), server());
    one.get("/items/1").await;
    assert!(!two.state.metrics.render().contains("/items/"));
    assert!(one.bus.stats().is_empty());
}
