//! Metrics of one instance, and the `/metrics` page.
//!
//! Each [`Metrics`] has a recorder of its own, so that several instances in one process
//! (the tour, the tests) do not count into each other. Label values come from closed sets
//! (route templates, known methods, names in the code): a client cannot make new series.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use ::metrics::{
    counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
    with_local_recorder,
};
use axum::{
    Router,
    extract::{FromRef, MatchedPath, Request, State},
    http::{Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use parking_lot::Mutex;
use resilience_core::{
    breaker::{CircuitBreaker, State as BreakerState},
    clock::{Clock, SharedClock},
};

use crate::{domain::task::Priority, events::EventBus};

/// Counts for one instance. Clones share the counts.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    service: String,
    clock: SharedClock,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    breakers: Mutex<Vec<CircuitBreaker>>,
    bus: OnceLock<EventBus>,
    looks: Mutex<Vec<Look>>,
}

/// Sets what is measured when somebody looks.
type Look = Box<dyn Fn() + Send + Sync>;

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics")
            .field("service", &self.inner.service)
            .finish_non_exhaustive()
    }
}

impl Metrics {
    /// Counts for the instance `service`; durations are measured with `clock`.
    #[must_use]
    pub fn new(service: impl Into<String>, clock: SharedClock) -> Self {
        let seconds = Matcher::Suffix("_seconds".to_owned());
        let builder = PrometheusBuilder::new();
        // It refuses an empty list only; should it, the durations become a summary.
        let builder = builder
            .set_buckets_for_metric(seconds, &BUCKETS)
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        with_local_recorder(&recorder, describe);
        Self {
            inner: Arc::new(Inner {
                service: service.into(),
                clock,
                recorder,
                handle,
                breakers: Mutex::default(),
                bus: OnceLock::new(),
                looks: Mutex::default(),
            }),
        }
    }

    /// The clock that durations are measured with.
    #[must_use]
    pub fn clock(&self) -> &SharedClock {
        &self.inner.clock
    }

    /// Shows the state of `breaker` from now on and counts its transitions.
    pub fn watch_breaker(&self, breaker: &CircuitBreaker) {
        // Weak: the breaker holds the subscriber, and we hold the breaker.
        let inner = Arc::downgrade(&self.inner);
        breaker
            .subscribe(move |change| {
                if let Some(inner) = inner.upgrade() {
                    with_local_recorder(&inner.recorder, || {
                        counter!("circuit_breaker_transitions_total",
                            "name" => change.breaker.to_string(),
                            "from" => change.from.as_str(), "to" => change.to.as_str())
                        .increment(1);
                    });
                }
            })
            .forget();
        self.inner.breakers.lock().push(breaker.clone());
    }

    /// Shows what waits for the listeners of `bus`, and what they lost. The first bus
    /// counts.
    pub fn watch_bus(&self, bus: &EventBus) {
        let _ = self.inner.bus.set(bus.clone());
    }

    /// Calls `look` before each page: it sets, by the macros of the crate `metrics`, what is measured
    /// only then.
    pub fn watch(&self, look: impl Fn() + Send + Sync + 'static) {
        self.inner.looks.lock().push(Box::new(look));
    }

    /// A webhook check: the `step` that refused, or `all`, and `accepted` or `refused`.
    pub fn webhook_verified(&self, step: &'static str, result: &'static str) {
        self.count(|| {
            counter!("webhook_verifications_total", "step" => step, "result" => result)
                .increment(1);
        });
    }

    /// A look into the cache: `tier`, and `hit`, `miss` or `error`.
    pub fn cache_request(&self, tier: &'static str, result: &'static str) {
        self.count(|| {
            counter!("cache_requests_total", "tier" => tier, "result" => result).increment(1);
        });
    }

    /// Runs `query`, which `node` was given; `read` or `write`.
    pub async fn store_query<F: Future>(
        &self,
        node: String,
        intent: &'static str,
        query: F,
    ) -> F::Output {
        self.count(|| {
            counter!("store_queries_total", "node" => node.clone(), "intent" => intent)
                .increment(1);
        });
        let began = self.inner.clock.now();
        let answer = query.await;
        let took = self.inner.clock.now().saturating_sub(began);
        self.count(|| {
            histogram!("store_query_seconds", "node" => node, "intent" => intent)
                .record(took.as_secs_f64());
        });
        answer
    }

    /// So long a `read` or `write` waited for a connection, the search for its node included.
    pub fn pool_waited(&self, intent: &'static str, time: Duration) {
        self.count(|| {
            histogram!("pool_wait_seconds", "intent" => intent).record(time.as_secs_f64());
        });
    }

    /// So long a transaction waited for the lock of the file.
    pub fn lock_waited(&self, time: Duration) {
        self.count(|| histogram!("store_lock_wait_seconds").record(time.as_secs_f64()));
    }

    /// A pipeline that ran elsewhere than on the replica it is meant for.
    pub fn pipeline_deviated(&self, pipeline: &'static str, node: &str) {
        let node = node.to_owned();
        self.count(|| {
            counter!("pipeline_deviations_total", "pipeline" => pipeline, "node" => node)
                .increment(1);
        });
    }

    /// A refused login or token, and why.
    pub fn auth_failed(&self, reason: &'static str) {
        self.count(|| counter!("auth_failures_total", "reason" => reason).increment(1));
    }

    /// How many items wait in the queue of that name.
    pub fn queue_depth(&self, queue: &'static str, depth: u64) {
        #[allow(clippy::cast_precision_loss)] // A depth over 2^53 is out of reach.
        self.count(|| gauge!("queue_depth", "queue" => queue).set(depth as f64));
    }

    /// Events that were published.
    pub fn outbox_published(&self, events: usize) {
        self.count(|| counter!("outbox_published_total").increment(events as u64));
    }

    /// What is in the outbox, for how long, and how many dead letters there are.
    pub fn outbox_depth(&self, waiting: u64, oldest: Duration, dead: u64) {
        self.queue_depth("outbox", waiting);
        self.queue_depth("dead_letters", dead);
        self.count(|| gauge!("outbox_oldest_seconds").set(oldest.as_secs_f64()));
    }

    /// Events that had an effect at `consumer`, and those that had had it.
    pub fn consumed(&self, consumer: &'static str, new: u64, repeated: u64) {
        self.count(|| {
            counter!("events_consumed_total", "consumer" => consumer).increment(new);
            counter!("events_repeated_total", "consumer" => consumer).increment(repeated);
        });
    }

    /// How many events the broker keeps for `consumer`.
    pub fn consumer_waiting(&self, consumer: &'static str, events: u64) {
        #[allow(clippy::cast_precision_loss)] // A depth over 2^53 is out of reach.
        self.count(|| gauge!("consumer_waiting", "consumer" => consumer).set(events as f64));
    }

    /// An event that `source` gave up.
    pub fn dead_letter(&self, source: &'static str) {
        self.count(|| counter!("dead_letters_total", "source" => source).increment(1));
    }

    /// How many tasks are unfinished, by priority.
    pub fn tasks_waiting(&self, depth: [u64; 3]) {
        for (priority, depth) in Priority::ALL.into_iter().zip(depth) {
            #[allow(clippy::cast_precision_loss)] // A depth over 2^53 is out of reach.
            self.count(|| {
                gauge!("tasks_waiting", "priority" => priority.as_str()).set(depth as f64);
            });
        }
    }

    /// How many tasks run here, and how many workers there are for them.
    pub fn tasks_running(&self, running: usize, workers: usize) {
        #[allow(clippy::cast_precision_loss)] // At most 1000.
        self.count(|| {
            gauge!("tasks_running").set(running as f64);
            gauge!("task_workers").set(workers as f64);
        });
    }

    /// A run of a task that ended: `done`, `retried`, `dead`, `handed_back` or `lost`.
    pub fn task_ended(&self, priority: Priority, outcome: &'static str) {
        self.count(|| {
            counter!("task_runs_total", "priority" => priority.as_str(), "outcome" => outcome)
                .increment(1);
        });
    }

    /// A paid payment of `minor` minor units.
    pub fn payment_succeeded(&self, currency: &'static str, minor: i64) {
        self.count(|| {
            counter!("business_payments_total", "currency" => currency).increment(1);
            counter!("business_payment_minor_units_total", "currency" => currency)
                .increment(u64::try_from(minor).unwrap_or(0));
        });
    }

    /// A payment that moved into the state `to`; one of the states of the domain.
    pub fn status_changed(&self, currency: &'static str, to: String) {
        self.count(|| {
            counter!("business_status_changes_total", "currency" => currency, "to" => to)
                .increment(1);
        });
    }

    /// Everything, in the text exposition format.
    #[must_use]
    pub fn render(&self) -> String {
        self.count(|| {
            self.inner.looks.lock().iter().for_each(|look| look());
            for breaker in self.inner.breakers.lock().iter() {
                let (name, now) = (breaker.name().to_owned(), breaker.snapshot());
                gauge!("circuit_breaker_state", "name" => name.clone()).set(phase(now.state));
                counter!("circuit_breaker_rejected_total", "name" => name).absolute(now.rejected);
            }
            for listener in self
                .inner
                .bus
                .get()
                .map(EventBus::stats)
                .unwrap_or_default()
            {
                counter!("events_dropped_total", "listener" => listener.name)
                    .absolute(listener.dropped);
                counter!("events_failed_total", "listener" => listener.name)
                    .absolute(listener.failed);
                #[allow(clippy::cast_precision_loss)] // Bounded by the queue's capacity.
                gauge!("queue_depth", "queue" => format!("events/{}", listener.name))
                    .set(listener.queued as f64);
            }
        });
        self.inner.handle.run_upkeep();
        self.inner.handle.render()
    }

    fn count<T>(&self, work: impl FnOnce() -> T) -> T {
        with_local_recorder(&self.inner.recorder, work)
    }
}

/// `GET /metrics`.
pub fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Metrics: FromRef<S>,
{
    Router::new().route("/metrics", get(page))
}

async fn page(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, EXPOSITION)], metrics.render())
}

/// Middleware that counts requests by route template. Put it on with `Router::layer`, so
/// that the route is known: `layer(from_fn_with_state(metrics, metrics::track))`.
pub async fn track(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let route = route(&request);
    let method = method(request.method());
    let service = metrics.inner.service.clone();
    let started = metrics.inner.clock.now();
    let in_flight = InFlight::enter(&metrics);
    let response = next.run(request).await;
    drop(in_flight);
    let took = metrics.inner.clock.now().saturating_sub(started);
    metrics.count(|| {
        let status = response.status().as_u16().to_string();
        counter!("http_requests_total", "service" => service.clone(), "method" => method,
            "route" => route.clone(), "status" => status)
        .increment(1);
        histogram!("http_request_duration_seconds", "service" => service, "method" => method,
            "route" => route)
        .record(took.as_secs_f64());
    });
    response
}

/// The template of the route that serves `request`, or `unmatched`.
pub(crate) fn route(request: &Request) -> String {
    request
        .extensions()
        .get::<MatchedPath>()
        .map_or("unmatched", MatchedPath::as_str)
        .to_owned()
}

/// The method's name, or `other`: a client may invent methods.
pub(crate) fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Counts a request as running until dropped, also when the client goes away.
struct InFlight(Metrics);

impl InFlight {
    fn enter(metrics: &Metrics) -> Self {
        metrics.count(|| gauge!("http_requests_in_flight").increment(1.0));
        Self(metrics.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0
            .count(|| gauge!("http_requests_in_flight").decrement(1.0));
    }
}

fn phase(state: BreakerState) -> f64 {
    match state {
        BreakerState::Closed => 0.0,
        BreakerState::HalfOpen => 1.0,
        _ => 2.0,
    }
}

fn describe() {
    describe_counter!(
        "http_requests_total",
        "Requests by route template and status."
    );
    describe_histogram!(
        "http_request_duration_seconds",
        "Time to the response's headers."
    );
    describe_gauge!("http_requests_in_flight", "Requests that are being served.");
    describe_gauge!("circuit_breaker_state", "0 closed, 1 half-open, 2 open.");
    describe_counter!("circuit_breaker_transitions_total", "Changes of state.");
    describe_counter!("circuit_breaker_rejected_total", "Calls refused.");
    describe_counter!(
        "webhook_verifications_total",
        "Webhooks by the step that decided."
    );
    describe_counter!("cache_requests_total", "Looks into the cache.");
    describe_counter!("cache_evictions_total", "Entries that had to make room.");
    describe_gauge!("cache_entries", "Entries that are kept.");
    describe_gauge!("cache_bytes", "Their size.");
    describe_counter!("store_queries_total", "Queries of the content by node.");
    describe_histogram!("store_query_seconds", "Time to the answer of a query.");
    describe_histogram!("store_lock_wait_seconds", "Wait for the lock of the file.");
    describe_histogram!("pool_wait_seconds", "Wait for a connection.");
    describe_gauge!(
        "pool_size",
        "Most connections to read, and as many to write."
    );
    describe_gauge!("pool_in_use", "Calls that have or wait for a connection.");
    describe_gauge!("replica_lag_seconds", "How old what a node shows may be.");
    describe_gauge!("store_node_up", "1 if the node answered lately, else 0.");
    describe_counter!(
        "pipeline_deviations_total",
        "Pipelines that ran elsewhere than meant."
    );
    describe_counter!(
        "events_dropped_total",
        "Events lost to a full or closed queue."
    );
    describe_counter!("events_failed_total", "Events at which a listener failed.");
    describe_counter!("auth_failures_total", "Refused logins and tokens.");
    describe_gauge!("queue_depth", "Items that wait.");
    describe_gauge!("tasks_waiting", "Unfinished tasks.");
    describe_gauge!("tasks_running", "Tasks that run in this process.");
    describe_gauge!("task_workers", "Workers of this process.");
    describe_counter!("task_runs_total", "Runs of tasks, by how they ended.");
    describe_counter!("outbox_published_total", "Events published.");
    describe_gauge!(
        "outbox_oldest_seconds",
        "Age of the oldest event that is not published."
    );
    describe_counter!("events_consumed_total", "Events that had their effect.");
    describe_counter!("events_repeated_total", "Events that came again.");
    describe_gauge!(
        "consumer_waiting",
        "Events that the broker keeps for a consumer."
    );
    describe_counter!("dead_letters_total", "Events given up.");
    describe_counter!("business_payments_total", "Successful payments.");
    describe_counter!(
        "business_payment_minor_units_total",
        "Their sum in minor units."
    );
    describe_counter!(
        "business_status_changes_total",
        "Payments that changed their state."
    );
}

/// Seconds; from a cached read to the slowest call that a timeout lets pass.
const BUCKETS: [f64; 12] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// The content type of the text exposition format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
