//! One request from its head to the last byte of its answer: access log and metrics.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "otel")]
use http::HeaderMap;
use http::header::USER_AGENT;
use http::{HeaderValue, Method, Request, StatusCode};
use resilience_core::clock::Clock;
use tracing::info;
use uuid::Uuid;

use crate::config::{AccessLogConfig, TraceTrust};
use crate::headers;
use crate::ids;
use crate::metrics::{RequestLabels, method_label};
#[cfg(feature = "otel")]
use crate::otel::{Ended, Recording};
use crate::route::Route;
use crate::server::Downstream;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::trace::Trace;
use crate::upstream::upload::Progress;
use crate::upstream::{Endpoint, Upstream};

/// Recorded when it is dropped: with the last byte of the answer, or when the client has gone.
#[derive(Debug)]
pub(crate) struct Exchange {
    shared: Arc<Shared>,
    /// In the form in which it is sent on, which all copies share.
    pub(crate) correlation_id: HeaderValue,
    /// `None` where the gateway has nothing to do with traces.
    pub(crate) trace: Option<Trace>,
    access_log: Option<AccessLogConfig>,
    method: Method,
    /// As far as it is written.
    path: Option<String>,
    user_agent: Option<String>,
    /// `None` where the head cannot be parsed.
    client: Option<IpAddr>,
    route: Option<Arc<Route>>,
    upstream: Option<Arc<Upstream>>,
    /// Stands for a route when the gateway answers itself.
    built_in: Option<&'static str>,
    /// The last that was tried.
    endpoint: Option<Arc<Endpoint>>,
    tries: u32,
    upload: Option<Arc<Progress>>,
    started: Duration,
    status: Option<StatusCode>,
    bytes: u64,
    error: Option<&'static str>,
    complete: bool,
    /// Nobody waits for it: it is no request that counts.
    background: bool,
    /// `None` for what is not sampled. Boxed: exchanges are moved often.
    #[cfg(feature = "otel")]
    recording: Option<Box<Recording>>,
}

/// What the log and the metrics say when the client left before there was an answer; nginx's
/// number for it.
const CLIENT_GONE: u16 = 499;
/// The most bytes of a client's text in a log line.
const LONGEST: usize = 256;

impl Exchange {
    pub(crate) fn begin<B>(
        shared: &Arc<Shared>,
        snapshot: &Snapshot,
        request: &Request<B>,
        downstream: &Downstream,
    ) -> Self {
        let headers = request.headers();
        let given = headers::correlation_id(headers).cloned();
        let peer = downstream.peer.ip();
        let trace = snapshot.trace.map(|config| {
            let trusted = config.trust == TraceTrust::Proxies && snapshot.is_trusted(peer);
            Trace::of(headers, &config, trusted, shared.ids.random())
        });
        let new = || {
            // A trace that begins here is the request's own.
            let own = trace.as_ref().filter(|trace| trace.parent.is_none());
            own.map_or_else(
                || shared.new_id(),
                |trace| ids::text_of(Uuid::from_bytes(trace.id)),
            )
        };
        let id = given.unwrap_or_else(new);
        let mut exchange = Self::new(shared, snapshot, id, request.method().clone(), Some(peer));
        exchange.trace = trace;
        #[cfg(feature = "otel")]
        if let Some(export) = &snapshot.otel
            && exchange.trace.as_ref().is_some_and(|trace| trace.sampled)
        {
            let now = shared.wall.now();
            let recording = Recording::begin(export, request, downstream.tls, now);
            exchange.recording = Some(Box::new(recording));
        }
        if let Some(log) = snapshot.access_log {
            let path = log.path.then(|| plain(request.uri().path().as_bytes()));
            let agent = headers.get(USER_AGENT).filter(|_| log.user_agent);
            exchange.path = path;
            exchange.user_agent = agent.map(|agent| plain(agent.as_bytes()));
        }
        exchange
    }

    /// Of a request whose head cannot be parsed.
    pub(crate) fn malformed(shared: &Arc<Shared>, snapshot: &Snapshot) -> Self {
        // Any that is not known; it is `OTHER` where it is shown.
        let method = Method::from_bytes(b"OTHER").unwrap_or_default();
        Self::new(shared, snapshot, shared.new_id(), method, None)
    }

    fn new(
        shared: &Arc<Shared>,
        snapshot: &Snapshot,
        correlation_id: HeaderValue,
        method: Method,
        peer: Option<IpAddr>,
    ) -> Self {
        shared.metrics.in_flight.increment(1.0);
        Self {
            shared: Arc::clone(shared),
            correlation_id,
            trace: None,
            access_log: snapshot.access_log,
            method,
            path: None,
            user_agent: None,
            client: peer.map(|peer| peer.to_canonical()),
            route: None,
            upstream: None,
            built_in: None,
            endpoint: None,
            tries: 0,
            upload: None,
            started: shared.clock.now(),
            status: None,
            bytes: 0,
            error: None,
            complete: false,
            background: false,
            #[cfg(feature = "otel")]
            recording: None,
        }
    }

    /// What the gateway does by itself because of this request.
    #[cfg(feature = "cache")]
    pub(crate) fn background(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            correlation_id: self.correlation_id.clone(),
            trace: self.trace.clone(),
            access_log: None,
            method: self.method.clone(),
            path: None,
            user_agent: None,
            client: self.client,
            route: self.route.clone(),
            upstream: self.upstream.clone(),
            built_in: None,
            endpoint: None,
            tries: 0,
            upload: None,
            started: self.started,
            status: None,
            bytes: 0,
            error: None,
            complete: false,
            background: true,
            #[cfg(feature = "otel")]
            recording: None,
        }
    }

    /// Who the client is, and whether it came by TLS, as far as it can be believed.
    pub(crate) fn known(&mut self, client: IpAddr, secure: bool) {
        self.client = Some(client);
        #[cfg(feature = "otel")]
        if let Some(recording) = &mut self.recording {
            recording.scheme = if secure { "https" } else { "http" };
        }
        #[cfg(not(feature = "otel"))]
        let _ = secure;
    }

    /// A request body is on its way.
    pub(crate) fn sends(&mut self, upload: Option<Arc<Progress>>) {
        self.upload = upload;
    }

    /// The request goes to an endpoint.
    pub(crate) fn tried(&mut self, endpoint: &Arc<Endpoint>) {
        self.tries += 1;
        self.endpoint = Some(Arc::clone(endpoint));
    }

    /// The last that is tried is to be told of its span, if the request is recorded.
    #[cfg(feature = "otel")]
    pub(crate) fn record_try(&mut self, headers: Option<&mut HeaderMap>) {
        if let (Some(recording), Some(trace)) = (&mut self.recording, &self.trace)
            && let Some(endpoint) = &self.endpoint
        {
            let at = self.shared.clock.now().saturating_sub(self.started);
            recording.tries(trace, &endpoint.authority, at, headers);
        }
    }

    /// A try has ended, if the request is recorded.
    #[cfg(feature = "otel")]
    pub(crate) fn record_tried(
        &mut self,
        outcome: impl FnOnce() -> Result<StatusCode, &'static str>,
    ) {
        if let Some(recording) = &mut self.recording {
            let at = self.shared.clock.now().saturating_sub(self.started);
            recording.tried(at, outcome());
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

/// A client's text for a log line or a span: printable ASCII as it is, all other bytes as `%XX`.
pub(crate) fn plain(text: &[u8]) -> String {
    let mut plain = String::new();
    for byte in text.iter().take(LONGEST) {
        match byte {
            b' '..=b'~' => plain.push(char::from(*byte)),
            _ => {
                let _ = write!(plain, "%{byte:02X}");
            }
        }
    }
    plain
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.background {
            return;
        }
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
        if self.is_logged(status, error) {
            let trace = self.trace.as_ref().map(Trace::hex);
            let trace_id = trace.as_ref().and_then(|hex| std::str::from_utf8(hex).ok());
            let upload = self.upload.as_ref();
            let mut client = [0; 39];
            info!(
                target: "gateway_kit::access",
                correlation_id = self.correlation_id(),
                trace_id,
                client = self.client.map(|known| address(known, &mut client)),
                method,
                path = self.path.as_deref(),
                user_agent = self.user_agent.as_deref(),
                service,
                route,
                endpoint = self.endpoint.as_ref().map(|endpoint| endpoint.address.as_str()),
                tries = self.tries,
                status,
                duration_ms = elapsed.as_secs_f64() * 1e3,
                bytes_in = upload.map_or(0, |upload| upload.bytes()),
                bytes_out = self.bytes,
                error,
                "request"
            );
        }
        #[cfg(feature = "otel")]
        self.record(error, elapsed);
    }
}

impl Exchange {
    /// Sends the spans of the request on their way. What the gateway answers itself has none.
    #[cfg(feature = "otel")]
    fn record(&mut self, error: Option<&'static str>, elapsed: Duration) {
        let recording = self.recording.take();
        let (Some(recording), Some(trace), None) = (recording, &self.trace, self.built_in) else {
            return;
        };
        let panicked = std::thread::panicking().then_some(StatusCode::INTERNAL_SERVER_ERROR);
        recording.end(&Ended {
            trace,
            method: &self.method,
            route: self.route.as_ref().map(|route| route.label.as_str()),
            client: self.client,
            status: self.status.or(panicked).map(|status| status.as_u16()),
            error,
            elapsed,
        });
    }

    fn is_logged(&self, status: u16, error: Option<&'static str>) -> bool {
        let Some(log) = self.access_log else {
            return false;
        };
        if self.built_in.is_some() && !log.built_in {
            return false;
        }
        status >= 500 || error.is_some() || log.sample >= 1.0 || self.shared.turn(log.sample)
    }
}

/// An address as text, without an allocation.
fn address(address: IpAddr, text: &mut [u8; 39]) -> &str {
    let mut rest = &mut text[..];
    let written = write!(rest, "{address}").is_ok();
    let left = rest.len();
    let text = &text[..39 - left];
    std::str::from_utf8(text)
        .ok()
        .filter(|_| written)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_text_has_no_line_ends_and_no_controls() {
        assert_eq!(
            plain(b"a \"b\\ \r\n\x1b[2J\xc2\x9b"),
            "a \"b\\ %0D%0A%1B[2J%C2%9B"
        );
        assert_eq!(plain(&[b'a'; 1000]).len(), LONGEST);
    }

    #[test]
    fn addresses_are_written_whole() {
        for text in ["1.2.3.4", "::1", "1111:2222:3333:4444:5555:6666:7777:8888"] {
            assert_eq!(address(text.parse().unwrap(), &mut [0; 39]), text);
        }
    }
}
