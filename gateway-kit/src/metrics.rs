//! The metrics of one gateway: its own recorder, so that two gateways in one process do not
//! mix and none touches the global one.
//!
//! Labels are names from the configuration (route prefixes, upstreams, addresses), methods from
//! a fixed list and status codes: no client can add series.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Method, StatusCode};
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use resilience_core::breaker::{CircuitBreaker, State, Subscription};
use resilience_core::clock::{Clock, SharedClock};

use crate::reload::ReloadOutcome;
use crate::upstream::{Upstream, View};

/// Names as operators see them.
mod name {
    pub(super) const REQUESTS: &str = "http_requests_total";
    pub(super) const DURATION: &str = "http_request_duration_seconds";
    pub(super) const IN_FLIGHT: &str = "http_requests_in_flight";
    pub(super) const BREAKER_STATE: &str = "circuit_breaker_state";
    pub(super) const BREAKER_TRANSITIONS: &str = "circuit_breaker_transitions_total";
    pub(super) const BREAKER_REJECTED: &str = "circuit_breaker_rejected_total";
    pub(super) const RATE_LIMITED: &str = "rate_limit_rejected_total";
    pub(super) const AUTH_FAILURES: &str = "auth_failures_total";
    #[cfg(feature = "jwt")]
    pub(super) const KEY_FETCHES: &str = "jwt_key_fetches_total";
    pub(super) const CONNECTIONS_REFUSED: &str = "connections_refused_total";
    #[cfg(feature = "admin")]
    pub(super) const ADMIN_REFUSED: &str = "admin_refused_total";
    pub(super) const BACKEND_REQUESTS: &str = "lb_backend_requests_total";
    pub(super) const RETRIES: &str = "upstream_retries_total";
    pub(super) const RETRY_BUDGET_SPENT: &str = "upstream_retry_budget_spent_total";
    pub(super) const BULKHEAD_FULL: &str = "bulkhead_rejected_total";
    pub(super) const ADAPTIVE_LIMIT: &str = "adaptive_limit";
    pub(super) const ADAPTIVE_REFUSED: &str = "adaptive_limit_rejected_total";
    pub(super) const BACKEND_UP: &str = "lb_backend_up";
    pub(super) const POOL_IN_USE: &str = "pool_in_use";
    pub(super) const POOL_WAIT: &str = "pool_wait_seconds";
    pub(super) const CPU: &str = "process_cpu_seconds_total";
    pub(super) const MEMORY: &str = "process_resident_memory_bytes";
    pub(super) const RELOADS: &str = "config_reloads_total";
    pub(super) const LAST_RELOAD: &str = "config_last_reload_success_timestamp_seconds";
    #[cfg(feature = "cache")]
    pub(super) const CACHE_REQUESTS: &str = "cache_requests_total";
    #[cfg(feature = "cache")]
    pub(super) const CACHE_EVICTIONS: &str = "cache_evictions_total";
    #[cfg(feature = "cache")]
    pub(super) const CACHE_BYTES: &str = "cache_bytes";
    #[cfg(feature = "otel")]
    pub(super) const SPANS_EXPORTED: &str = "otel_spans_exported_total";
    #[cfg(feature = "otel")]
    pub(super) const SPANS_DROPPED: &str = "otel_spans_dropped_total";
    #[cfg(feature = "webhook")]
    pub(super) const WEBHOOKS: &str = "webhook_verifications_total";
}

/// Upper bounds in seconds, from a cached answer to the slowest that a caller waits for.
const BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

const METADATA: Metadata<'static> = Metadata::new("gateway_kit", Level::INFO, None);

pub(crate) struct Metrics {
    recorder: std::sync::Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    pub(crate) in_flight: Gauge,
    /// Connections of clients that have too many.
    pub(crate) connections_refused: Counter,
    /// By result.
    reloads: [Counter; 3],
    last_reload: Gauge,
    /// Requests to the admin that were not let in.
    #[cfg(feature = "admin")]
    pub(crate) admin_refused: Counter,
}

/// What is counted of one endpoint. Endpoints come and go, and the recorder never forgets a
/// series: these are kept with the endpoint, shown while it is there, and gone with it.
pub(crate) struct EndpointMetrics {
    pub(crate) requests: Count,
    pub(crate) breaker: BreakerMetrics,
    /// `service="…",backend="…"`.
    backend: String,
}

/// What is counted of one breaker.
pub(crate) struct BreakerMetrics {
    pub(crate) rejected: Count,
    transitions: Arc<Transitions>,
    /// `name="…"`.
    named: String,
    _subscription: Subscription,
}

/// A number that only grows.
// ORDERING: Relaxed; it publishes nothing else.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn increment(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Changes of a breaker's state, from one to another.
type Transitions = [[Count; STATES.len()]; STATES.len()];

/// In the order of their numbers.
const STATES: [State; 3] = [State::Closed, State::HalfOpen, State::Open];

fn number(state: State) -> usize {
    let known = STATES.iter().position(|known| *known == state);
    known.unwrap_or(STATES.len() - 1)
}

/// What the cache makes of requests.
#[cfg(feature = "cache")]
const CACHE_RESULTS: [&str; 6] = ["hit", "stale", "revalidated", "coalesced", "miss", "bypass"];

/// The handles of the cache.
#[cfg(feature = "cache")]
pub(crate) struct CacheMetrics {
    requests: [Counter; CACHE_RESULTS.len()],
    evictions: Counter,
    bytes: Gauge,
}

/// Bytes that count as long as this lives.
#[cfg(feature = "cache")]
pub(crate) struct Held {
    bytes: Gauge,
    size: f64,
}

#[cfg(feature = "cache")]
impl CacheMetrics {
    /// Counts a request by what became of it, one of `CACHE_RESULTS`.
    pub(crate) fn requests(&self, result: &str) {
        let mut known = CACHE_RESULTS.iter().zip(&self.requests);
        if let Some((_, counter)) = known.find(|(known, _)| **known == result) {
            counter.increment(1);
        }
    }

    pub(crate) fn evicted(&self) {
        self.evictions.increment(1);
    }

    pub(crate) fn hold(&self, size: usize) -> Held {
        // An object has no more bytes than a double counts.
        let size = size as f64;
        self.bytes.increment(size);
        let bytes = self.bytes.clone();
        Held { bytes, size }
    }
}

#[cfg(feature = "cache")]
impl Drop for Held {
    fn drop(&mut self) {
        self.bytes.decrement(self.size);
    }
}

#[cfg(feature = "cache")]
impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "cache")]
impl std::fmt::Debug for CacheMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheMetrics").finish_non_exhaustive()
    }
}

/// The handles of one service.
pub(crate) struct ServiceMetrics {
    pub(crate) retries: Counter,
    pub(crate) budget_spent: Counter,
    pub(crate) full: Counter,
    pub(crate) refused: Counter,
    /// Waits for a place in the bulkhead, and for a connection.
    pub(crate) place: Histogram,
    pub(crate) connection: Histogram,
}

/// A wait, recorded when it ends, however it ends.
pub(crate) struct Wait<'a> {
    histogram: &'a Histogram,
    clock: &'a SharedClock,
    began: Duration,
}

impl<'a> Wait<'a> {
    pub(crate) fn begin(histogram: &'a Histogram, clock: &'a SharedClock) -> Self {
        let began = clock.now();
        Self {
            histogram,
            clock,
            began,
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let waited = self.clock.now().saturating_sub(self.began);
        self.histogram.record(waited.as_secs_f64());
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let builder = PrometheusBuilder::new();
        // `set_buckets` fails on an empty list only.
        let builder = builder
            .set_buckets(&BUCKETS)
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let in_flight = recorder.register_gauge(&Key::from_static_name(name::IN_FLIGHT), &METADATA);
        let connections_refused =
            recorder.register_counter(&Key::from_static_name(name::CONNECTIONS_REFUSED), &METADATA);
        #[cfg(feature = "admin")]
        let admin_refused =
            recorder.register_counter(&Key::from_static_name(name::ADMIN_REFUSED), &METADATA);
        #[cfg(feature = "admin")]
        admin_refused.increment(0);
        // A series is shown from its first value on.
        connections_refused.increment(0);
        let reloads = ReloadOutcome::ALL.map(|outcome| {
            let labels = vec![Label::from_static_parts("result", outcome.as_str())];
            let key = Key::from_parts(name::RELOADS, labels);
            let counter = recorder.register_counter(&key, &METADATA);
            counter.increment(0);
            counter
        });
        let key = Key::from_static_name(name::LAST_RELOAD);
        let last_reload = recorder.register_gauge(&key, &METADATA);
        in_flight.set(0.0);
        Self {
            handle: recorder.handle(),
            recorder: std::sync::Arc::new(recorder),
            in_flight,
            connections_refused,
            reloads,
            last_reload,
            #[cfg(feature = "admin")]
            admin_refused,
        }
    }

    /// Counts a reload.
    pub(crate) fn reloaded(&self, outcome: ReloadOutcome) {
        if let Some(counter) = self.reloads.get(outcome as usize) {
            counter.increment(1);
        }
    }

    /// A configuration that was good came, seconds after 1970.
    pub(crate) fn in_force_since(&self, seconds: f64) {
        self.last_reload.set(seconds);
    }

    /// Counts a delivery: the `step` that ended its check, or `all`, and what came of it.
    #[cfg(feature = "webhook")]
    pub(crate) fn webhook(&self, step: &'static str, result: &'static str) {
        let step = Label::from_static_parts("step", step);
        let result = Label::from_static_parts("result", result);
        self.counter(name::WEBHOOKS, vec![step, result])
            .increment(1);
    }

    /// The handles of the cache.
    #[cfg(feature = "cache")]
    pub(crate) fn cache(&self) -> CacheMetrics {
        let requests = CACHE_RESULTS.map(|result| {
            let tier = Label::from_static_parts("tier", "gateway");
            let result = Label::from_static_parts("result", result);
            let counter = self.counter(name::CACHE_REQUESTS, vec![tier, result]);
            counter.increment(0);
            counter
        });
        let evictions = self.counter(name::CACHE_EVICTIONS, Vec::new());
        evictions.increment(0);
        let key = Key::from_static_name(name::CACHE_BYTES);
        let bytes = self.recorder.register_gauge(&key, &METADATA);
        bytes.increment(0.0);
        CacheMetrics {
            requests,
            evictions,
            bytes,
        }
    }

    /// The text exposition: what the recorder knows, and the endpoints of now.
    pub(crate) fn render<'u>(&self, upstreams: impl Iterator<Item = &'u Arc<Upstream>>) -> String {
        let (mut views, mut limits) = (Vec::new(), Vec::new());
        let upstreams: Vec<_> = upstreams.collect();
        for upstream in &upstreams {
            views.extend(upstream.service.views());
            let labels = || format!("service=\"{}\"", escaped(&upstream.name));
            limits.extend(
                upstream
                    .adaptive_limit()
                    .map(|limit| (labels(), limit.into())),
            );
        }
        let mut text = self.handle.render();
        render_family(&mut text, name::ADAPTIVE_LIMIT, "gauge", limits);
        render_endpoints(&mut text, &views);
        if let Some((cpu, memory)) = process() {
            text.push_str(&format!("# TYPE {0} counter\n{0} {cpu}\n\n", name::CPU));
            text.push_str(&format!("# TYPE {0} gauge\n{0} {memory}\n\n", name::MEMORY));
        }
        let services = upstreams.iter();
        let services = services.filter_map(|upstream| upstream.service_breaker());
        let endpoints = views.iter().map(|view| &*view.endpoint);
        let endpoints = endpoints.map(|one| (one.breaker.state(), &one.metrics.breaker));
        let breakers = services.map(|(breaker, metrics)| (breaker.state(), metrics));
        render_breakers(&mut text, &breakers.chain(endpoints).collect::<Vec<_>>());
        text
    }

    /// Moves histogram samples into their buckets; without it they pile up between scrapes.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// Records one finished request.
    pub(crate) fn finished(&self, labels: &RequestLabels<'_>, seconds: f64) {
        let kind = self.kind(labels);
        kind.duration.record(seconds);
        kind.requests.increment(1);
    }

    fn kind(&self, labels: &RequestLabels<'_>) -> Known {
        let service = Label::new("service", labels.service.to_owned());
        let route = Label::new("route", labels.route.to_owned());
        let duration = self.histogram(name::DURATION, vec![service.clone(), route.clone()]);
        let method = Label::from_static_parts("method", labels.method);
        let status = Label::new("status", labels.status.to_string());
        let requests = self.counter(name::REQUESTS, vec![service, method, route, status]);
        Known {
            service: labels.service.into(),
            method: labels.method,
            status: labels.status,
            requests,
            duration,
        }
    }

    /// Counts a request that could not be read, and that the HTTP library has answered.
    pub(crate) fn malformed(&self, status: StatusCode) {
        let labels = RequestLabels {
            service: "gateway",
            route: "none",
            method: "OTHER",
            status: status.as_u16(),
        };
        self.finished(&labels, 0.0);
    }

    pub(crate) fn service(&self, upstream: &str) -> ServiceMetrics {
        let counter = |name| {
            let counter = self.counter(name, vec![Label::new("service", upstream.to_owned())]);
            counter.increment(0);
            counter
        };
        let wait = |reason| {
            let service = Label::new("service", upstream.to_owned());
            let reason = Label::from_static_parts("reason", reason);
            self.histogram(name::POOL_WAIT, vec![service, reason])
        };
        ServiceMetrics {
            place: wait("bulkhead"),
            connection: wait("connection"),
            retries: counter(name::RETRIES),
            budget_spent: counter(name::RETRY_BUDGET_SPENT),
            full: counter(name::BULKHEAD_FULL),
            refused: counter(name::ADAPTIVE_REFUSED),
        }
    }

    /// Requests that were not authenticated; the reason is of a fixed list.
    pub(crate) fn auth_failure(&self, route: &str, reason: &'static str) {
        let route = Label::new("route", route.to_owned());
        let reason = Label::from_static_parts("reason", reason);
        self.counter(name::AUTH_FAILURES, vec![route, reason])
            .increment(1);
    }

    /// Fetches of the keys of issuers that ended so.
    #[cfg(feature = "jwt")]
    pub(crate) fn key_fetch(&self, result: &'static str) -> Counter {
        let result = Label::from_static_parts("result", result);
        self.counter(name::KEY_FETCHES, vec![result])
    }

    /// What becomes of spans.
    #[cfg(feature = "otel")]
    pub(crate) fn spans(&self) -> crate::otel::SpanCounts {
        let exported = self.counter(name::SPANS_EXPORTED, Vec::new());
        exported.increment(0);
        let dropped = |reason| {
            let reason = Label::from_static_parts("reason", reason);
            let counter = self.counter(name::SPANS_DROPPED, vec![reason]);
            counter.increment(0);
            counter
        };
        crate::otel::SpanCounts {
            exported,
            queue_full: dropped("queue_full"),
            failed: dropped("failed"),
            rejected: dropped("rejected"),
            stopped: dropped("stopped"),
        }
    }

    /// The refusals of one limit.
    pub(crate) fn rate_limit(&self, limit: &str) -> Counter {
        let limit = Label::new("limit", limit.to_owned());
        self.counter(name::RATE_LIMITED, vec![limit])
    }

    fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        let key = Key::from_parts(name, labels);
        self.recorder.register_counter(&key, &METADATA)
    }

    fn histogram(&self, name: &'static str, labels: Vec<Label>) -> Histogram {
        let key = Key::from_parts(name, labels);
        self.recorder.register_histogram(&key, &METADATA)
    }
}

impl EndpointMetrics {
    pub(crate) fn new(upstream: &str, address: &str, breaker: &CircuitBreaker) -> Self {
        let (service, backend) = (escaped(upstream), escaped(address));
        Self {
            requests: Count::default(),
            breaker: BreakerMetrics::new(breaker),
            backend: format!("service=\"{service}\",backend=\"{backend}\""),
        }
    }
}

impl BreakerMetrics {
    pub(crate) fn new(breaker: &CircuitBreaker) -> Self {
        let transitions = Arc::<Transitions>::default();
        let counts = Arc::clone(&transitions);
        let name = breaker.name().to_owned();
        let subscription = breaker.subscribe(move |transition| {
            let (before, after) = (state_name(transition.from), state_name(transition.to));
            tracing::info!(breaker = name, from = before, to = after, "breaker changed");
            let (from, to) = (number(transition.from), number(transition.to));
            if let Some(count) = counts.get(from).and_then(|row| row.get(to)) {
                count.increment(1);
            }
        });
        Self {
            rejected: Count::default(),
            transitions,
            named: format!("name=\"{}\"", escaped(breaker.name())),
            _subscription: subscription,
        }
    }
}

/// Seconds of processor time and bytes of memory that this process has used (proc(5));
/// `None` elsewhere than on Linux.
fn process() -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program is in brackets and may have anything in it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let ticks: f64 = times.next()?.parse().ok()?;
    let system: f64 = times.next()?.parse().ok()?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
    // A hundred ticks a second, whatever the kernel's own clock is.
    Some(((ticks + system) / 100.0, kilobytes * 1024.0))
}

/// Adds the series of endpoints.
fn render_endpoints(text: &mut String, endpoints: &[View]) {
    let mut family = |name, kind, line: &dyn Fn(&View, &EndpointMetrics) -> (String, u64)| {
        let lines = endpoints.iter();
        let lines = lines.map(|view| line(view, &view.endpoint.metrics));
        render_family(text, name, kind, lines.collect());
    };
    family(name::BACKEND_REQUESTS, "counter", &|_, metrics| {
        (metrics.backend.clone(), metrics.requests.get())
    });
    family(name::BACKEND_UP, "gauge", &|view, metrics| {
        (metrics.backend.clone(), view.is_up().into())
    });
    family(name::POOL_IN_USE, "gauge", &|view, metrics| {
        (metrics.backend.clone(), view.known.in_flight.into())
    });
}

/// Adds the series of breakers.
fn render_breakers(text: &mut String, breakers: &[(State, &BreakerMetrics)]) {
    let mut family = |name, kind, value: &dyn Fn(State, &BreakerMetrics) -> u64| {
        let lines = breakers.iter();
        let lines = lines.map(|(state, metrics)| (metrics.named.clone(), value(*state, metrics)));
        render_family(text, name, kind, lines.collect());
    };
    family(name::BREAKER_REJECTED, "counter", &|_, metrics| {
        metrics.rejected.get()
    });
    // One of three.
    family(name::BREAKER_STATE, "gauge", &|state, _| {
        number(state) as u64
    });
    let mut changes = Vec::new();
    for (_, metrics) in breakers {
        for (from, row) in STATES.iter().zip(metrics.transitions.iter()) {
            for (to, count) in STATES.iter().zip(row).filter(|(_, count)| count.get() > 0) {
                let (from, to) = (state_name(*from), state_name(*to));
                let labels = format!("{},from=\"{from}\",to=\"{to}\"", metrics.named);
                changes.push((labels, count.get()));
            }
        }
    }
    render_family(text, name::BREAKER_TRANSITIONS, "counter", changes);
}

/// Adds the series of one name in the form of the text exposition, if there are any.
fn render_family(text: &mut String, name: &str, kind: &str, lines: Vec<(String, u64)>) {
    if lines.is_empty() {
        return;
    }
    text.push_str(&format!("# TYPE {name} {kind}\n"));
    for (labels, value) in lines {
        text.push_str(&format!("{name}{{{labels}}} {value}\n"));
    }
    text.push('\n');
}

/// A label's value in the text exposition.
fn escaped(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}

/// The handles that finished requests of one route have needed so far, so that the next one of its
/// kind neither allocates nor asks the recorder.
#[derive(Default)]
pub(crate) struct Series(ArcSwap<Vec<Known>>);

#[derive(Clone)]
struct Known {
    service: Arc<str>,
    method: &'static str,
    status: u16,
    requests: Counter,
    duration: Histogram,
}

/// Most kinds that are kept per route; what an upstream answers beyond is looked up each time.
const KINDS: usize = 64;

impl Series {
    /// Records one finished request.
    pub(crate) fn finished(&self, metrics: &Metrics, labels: &RequestLabels<'_>, seconds: f64) {
        let known = self.0.load();
        let mut kinds = known.iter();
        let kind = kinds.find(|kind| {
            kind.status == labels.status
                && kind.method == labels.method
                && *kind.service == *labels.service
        });
        if let Some(kind) = kind {
            kind.duration.record(seconds);
            kind.requests.increment(1);
            return;
        }
        let kind = metrics.kind(labels);
        kind.duration.record(seconds);
        kind.requests.increment(1);
        if known.len() < KINDS {
            drop(known);
            // Two at once may add the same kind twice, which does no harm.
            self.0.rcu(|known| {
                let mut next = Vec::clone(known);
                next.push(kind.clone());
                next
            });
        }
    }
}

impl std::fmt::Debug for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Series").finish_non_exhaustive()
    }
}

/// What a finished request is counted under.
#[derive(Debug)]
pub(crate) struct RequestLabels<'a> {
    pub(crate) service: &'a str,
    pub(crate) route: &'a str,
    pub(crate) method: &'static str,
    pub(crate) status: u16,
}

/// The method, or `OTHER`: methods are the client's to invent.
pub(crate) fn method_label(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE",
    ];
    let found = KNOWN.into_iter().find(|known| method.as_str() == *known);
    found.unwrap_or("OTHER")
}

/// The state as operators see it.
pub(crate) fn state_name(state: State) -> &'static str {
    match state {
        State::Closed => "closed",
        State::HalfOpen => "half_open",
        _ => "open",
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Wait<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wait").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ServiceMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceMetrics").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for BreakerMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BreakerMetrics").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for EndpointMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointMetrics").finish_non_exhaustive()
    }
}
