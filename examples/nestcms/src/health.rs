//! Liveness, readiness and the state of each dependency.
//!
//! `/health` and `/health/live` touch no dependency. `/health/ready` asks the required
//! ones. `/health/detailed` asks all and shows state, latency and breaker of each. A
//! dependency whose state differs from the last look gives a `health.changed` event.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{FromRef, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use resilience_core::{
    breaker::{CircuitBreaker, State as BreakerState},
    clock::{Clock, SharedClock},
};
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    correlation,
    domain::event::{EventData, Source},
    ports::EventSink,
};

type Check = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Something that the application needs.
pub struct Dependency {
    name: &'static str,
    required: bool,
    breaker: Option<CircuitBreaker>,
    check: Option<Check>,
}

impl fmt::Debug for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dependency")
            .field("name", &self.name)
            .field("required", &self.required)
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}

impl Dependency {
    /// Without it the application can do nothing: readiness depends on it.
    #[must_use]
    pub fn required(name: &'static str) -> Self {
        Self::new(name, true)
    }

    /// Without it the application does less.
    #[must_use]
    pub fn optional(name: &'static str) -> Self {
        Self::new(name, false)
    }

    fn new(name: &'static str, required: bool) -> Self {
        Self {
            name,
            required,
            breaker: None,
            check: None,
        }
    }

    /// Shows this breaker. Without a check, an open breaker means that the dependency is
    /// down.
    #[must_use]
    pub fn breaker(mut self, breaker: &CircuitBreaker) -> Self {
        self.breaker = Some(breaker.clone());
        self
    }

    /// Asks the dependency itself; an answer takes at most [`CHECK_TIMEOUT`].
    #[must_use]
    pub fn check<F, E>(mut self, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        self.check = Some(Box::new(move || {
            let answer = check();
            Box::pin(async move { answer.await.map_err(|error| error.to_string()) })
        }));
        self
    }

    async fn state(&self, clock: &SharedClock) -> DependencyState {
        let started = clock.now();
        let outcome = match &self.check {
            Some(check) => timeout(CHECK_TIMEOUT, check())
                .await
                .unwrap_or_else(|_| Err("no answer in time".to_owned())),
            None if self.is_open() => Err("breaker open".to_owned()),
            None => Ok(()),
        };
        let took = clock.now().saturating_sub(started);
        if let Err(error) = &outcome {
            // The reason stays inside: the page may be public.
            tracing::warn!(dependency = self.name, error, "dependency down");
        }
        DependencyState {
            name: self.name,
            required: self.required,
            status: if outcome.is_ok() { "up" } else { "down" },
            latency_ms: self.check.as_ref().map(|_| took.as_secs_f64() * 1000.0),
            breaker: self.breaker.as_ref().map(|breaker| {
                let now = breaker.snapshot();
                BreakerView {
                    name: breaker.name().to_owned(),
                    state: now.state.as_str(),
                    retry_after_ms: now
                        .retry_after
                        .map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
                }
            }),
        }
    }

    fn is_open(&self) -> bool {
        let open = |breaker: &CircuitBreaker| breaker.state() == BreakerState::Open;
        self.breaker.as_ref().is_some_and(open)
    }
}

/// Answers for the health of one instance. Clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dependencies: Vec<Dependency>,
    clock: SharedClock,
    events: Arc<dyn EventSink>,
    // ORDERING: Relaxed. A flag that only ever goes up and publishes nothing.
    stopping: AtomicBool,
    last: Mutex<HashMap<&'static str, &'static str>>,
}

#[derive(Debug, Serialize)]
struct DependencyState {
    name: &'static str,
    required: bool,
    status: &'static str,
    /// None when nothing was asked.
    latency_ms: Option<f64>,
    breaker: Option<BreakerView>,
}

#[derive(Debug, Serialize)]
struct BreakerView {
    name: String,
    state: &'static str,
    retry_after_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Report {
    status: &'static str,
    dependencies: Vec<DependencyState>,
}

impl Health {
    /// Watches `dependencies`, all taken to be up until asked.
    #[must_use]
    pub fn new(
        dependencies: Vec<Dependency>,
        clock: SharedClock,
        events: Arc<dyn EventSink>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                dependencies,
                clock,
                events,
                stopping: AtomicBool::new(false),
                last: Mutex::default(),
            }),
        }
    }

    /// Readiness answers 503 from now on, so that no new work is sent here.
    pub fn stop(&self) {
        self.inner.stopping.store(true, Ordering::Relaxed);
    }

    async fn states(&self, wanted: impl Fn(&Dependency) -> bool) -> Vec<DependencyState> {
        let dependencies = self.inner.dependencies.iter().filter(|d| wanted(d));
        let states = join_all(dependencies.map(|d| d.state(&self.inner.clock))).await;
        for state in &states {
            self.note(state);
        }
        states
    }

    /// Emits an event when `state` is news.
    fn note(&self, state: &DependencyState) {
        let before = self.inner.last.lock().insert(state.name, state.status);
        let before = before.unwrap_or("up");
        if before != state.status {
            let data = EventData::HealthChanged {
                component: state.name.to_owned(),
                status: state.status.to_owned(),
                detail: format!("was {before}"),
            };
            self.inner
                .events
                .emit(Source::HealthService, &correlation::current(), data);
        }
    }
}

/// `/health`, `/health/live`, `/health/ready` and `/health/detailed`.
pub fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Health: FromRef<S>,
{
    Router::new()
        .route("/health", get(live))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health/detailed", get(detailed))
}

async fn live() -> Response {
    answer(StatusCode::OK, &Report::without_dependencies("up"))
}

async fn ready(State(health): State<Health>) -> Response {
    if health.inner.stopping.load(Ordering::Relaxed) {
        let report = Report::without_dependencies("stopping");
        return answer(StatusCode::SERVICE_UNAVAILABLE, &report);
    }
    let report = Report::of(health.states(|d| d.required).await);
    answer(report.code(), &report)
}

async fn detailed(State(health): State<Health>) -> Response {
    let report = Report::of(health.states(|_| true).await);
    answer(report.code(), &report)
}

impl Report {
    fn without_dependencies(status: &'static str) -> Self {
        Self {
            status,
            dependencies: Vec::new(),
        }
    }

    fn of(dependencies: Vec<DependencyState>) -> Self {
        let is_down = |d: &DependencyState| d.status == "down";
        let status = if dependencies.iter().any(|d| d.required && is_down(d)) {
            "down"
        } else if dependencies.iter().any(is_down) {
            "degraded"
        } else {
            "up"
        };
        Self {
            status,
            dependencies,
        }
    }

    fn code(&self) -> StatusCode {
        if self.status == "down" {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        StatusCode::OK
    }
}

fn answer(code: StatusCode, report: &Report) -> Response {
    (code, [(header::CACHE_CONTROL, "no-store")], Json(report)).into_response()
}

/// Longest wait for the answer of one dependency.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
