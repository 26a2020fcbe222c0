//! One request from its head to the last byte of its answer: access log and metrics.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, StatusCode};
use resilience_core::clock::Clock;
use tracing::info;
use uuid::Uuid;
use uuid::fmt::Simple;

use crate::headers;
use crate::metrics::{RequestLabels, method_label};
use crate::route::Route;
use crate::shared::Shared;
use crate::upstream::Upstream;

/// Recorded when it is dropped: with the last byte of the answer, or when the client has gone.
#[derive(Debug)]
pub(crate) struct Exchange {
    shared: Arc<Shared>,
    /// In the form in which it is sent on, which all copies share.
    pub(crate) correlation_id: HeaderValue,
    method: Method,
    route: Option<Arc<Route>>,
    upstream: Option<Arc<Upstream>>,
    /// Stands for a route when the gateway answers itself.
    built_in: Option<&'static str>,
    started: Duration,
    status: Option<StatusCode>,
    bytes: u64,
    error: Option<&'static str>,
    complete: bool,
}

/// What the log and the metrics say when the client left before there was an answer; nginx's
/// number for it.
const CLIENT_GONE: u16 = 499;

impl Exchange {
    pub(crate) fn begin<B>(shared: &Arc<Shared>, request: &Request<B>) -> Self {
        let given = headers::correlation_id(request.headers()).cloned();
        let correlation_id = given.unwrap_or_else(new_correlation_id);
        Self::new(shared, correlation_id, request.method().clone())
    }

    /// Of a request whose head cannot be parsed.
    pub(crate) fn malformed(shared: &Arc<Shared>) -> Self {
        // Any that is not known; it is `OTHER` where it is shown.
        let method = Method::from_bytes(b"OTHER").unwrap_or_default();
        Self::new(shared, new_correlation_id(), method)
    }

    fn new(shared: &Arc<Shared>, correlation_id: HeaderValue, method: Method) -> Self {
        shared.metrics.in_flight.increment(1.0);
        Self {
            shared: Arc::clone(shared),
            correlation_id,
            method,
            route: None,
            upstream: None,
            built_in: None,
            started: shared.clock.now(),
            status: None,
            bytes: 0,
            error: None,
            complete: false,
        }
    }

    pub(crate) fn correlation_id(&self) -> &str {
        // Both kinds are ASCII.
        self.correlation_id.to_str().unwrap_or_default()
    }

    pub(crate) fn routed(&mut self, route: &Arc<Route>) {
        self.route = Some(Arc::clone(route));
        self.upstream = route.upstreams().first().cloned();
    }

    /// The upstream is another than the first of the route.
    pub(crate) fn chosen(&mut self, upstream: &Arc<Upstream>) {
        self.upstream = Some(Arc::clone(upstream));
    }

    pub(crate) fn built_in(&mut self, path: &'static str) {
        self.built_in = Some(path);
    }

    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    pub(crate) fn fail(&mut self, error: &'static str) {
        self.error = Some(error);
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    pub(crate) fn complete(&mut self) {
        self.complete = true;
    }
}

pub(crate) fn new_correlation_id() -> HeaderValue {
    let mut text = [0; Simple::LENGTH];
    let text = Uuid::now_v7().simple().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let metrics = &self.shared.metrics;
        metrics.in_flight.decrement(1.0);
        let elapsed = self.shared.clock.now().saturating_sub(self.started);
        let unanswered = if std::thread::panicking() {
            StatusCode::INTERNAL_SERVER_ERROR.as_u16()
        } else {
            CLIENT_GONE
        };
        let status = self.status.map_or(unanswered, |status| status.as_u16());
        let (service, route) = match (&self.route, self.built_in) {
            (Some(route), _) => {
                let upstream = self.upstream.as_ref();
                let service = upstream.map_or("gateway", |upstream| upstream.name.as_str());
                (service, route.label.as_str())
            }
            (None, Some(path)) => ("gateway", path),
            (None, None) => ("gateway", "none"),
        };
        let method = method_label(&self.method);
        let labels = RequestLabels {
            service,
            route,
            method,
            status,
        };
        match &self.route {
            Some(route) => route
                .series
                .finished(metrics, &labels, elapsed.as_secs_f64()),
            None => metrics.finished(&labels, elapsed.as_secs_f64()),
        }
        let error = match self.error {
            None if std::thread::panicking() => Some("panic"),
            None if !self.complete => Some("client_gone"),
            error => error,
        };
        info!(
            target: "gateway_kit::access",
            correlation_id = self.correlation_id(),
            method,
            service,
            route,
            status,
            duration_ms = elapsed.as_secs_f64() * 1e3,
            bytes = self.bytes,
            error,
            "request"
        );
    }
}
