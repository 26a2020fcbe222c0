//! What the spans of one request are made of.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Method, Request, StatusCode};

use super::{Export, Kind, Span, Value};
use crate::exchange::plain;
use crate::metrics::method_label;
use crate::trace::Trace;

/// A sampled request on its way, and its tries.
#[derive(Debug)]
pub(crate) struct Recording {
    export: Arc<Export>,
    /// When it began, by the time of day.
    began: SystemTime,
    path: String,
    host: Option<Authority>,
    pub(crate) scheme: &'static str,
    tries: Vec<Try>,
}

#[derive(Debug)]
struct Try {
    id: [u8; 8],
    /// `host:port`.
    endpoint: String,
    /// After the beginning of the request.
    start: Duration,
    end: Option<Duration>,
    outcome: Result<StatusCode, &'static str>,
}

/// What is known of a request when it has ended.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) trace: &'a Trace,
    pub(crate) method: &'a Method,
    /// `None` without a route.
    pub(crate) route: Option<&'a str>,
    pub(crate) client: Option<IpAddr>,
    /// `None` if no answer was sent.
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<&'static str>,
    pub(crate) elapsed: Duration,
}

impl Recording {
    pub(crate) fn begin<B>(
        export: &Arc<Export>,
        request: &Request<B>,
        tls: bool,
        now: SystemTime,
    ) -> Self {
        let host = request.headers().get(HOST);
        let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        Self {
            export: Arc::clone(export),
            began: now,
            path: plain(request.uri().path().as_bytes()),
            host: host.or_else(|| request.uri().authority().cloned()),
            scheme: if tls { "https" } else { "http" },
            tries: Vec::new(),
        }
    }

    /// A try begins; its span is what the upstream is told of, unless the program's own layers
    /// have told it of another.
    pub(crate) fn tries(
        &mut self,
        trace: &Trace,
        endpoint: &str,
        at: Duration,
        headers: Option<&mut HeaderMap>,
    ) {
        let id = Trace::new_span();
        if let Some(headers) = headers {
            let told = trace.told(headers);
            let ours = |span| span == trace.span || self.tries.iter().any(|one| one.id == span);
            if told.is_some_and(ours) {
                trace.tell(id, headers);
            }
        }
        self.tries.push(Try {
            id,
            endpoint: endpoint.to_owned(),
            start: at,
            end: None,
            outcome: Err("cancelled"),
        });
    }

    /// The last try has ended: with the head of an answer, or with an error of that code.
    pub(crate) fn tried(&mut self, at: Duration, outcome: Result<StatusCode, &'static str>) {
        if let Some(last) = self.tries.last_mut() {
            last.end = Some(at);
            last.outcome = outcome;
        }
    }

    /// Sends the spans on their way.
    pub(crate) fn end(self, ended: &Ended<'_>) {
        let mut spans = Vec::with_capacity(1 + self.tries.len());
        spans.push(self.server(ended));
        for (count, one) in (0..).zip(&self.tries) {
            spans.push(self.client(ended, one, count));
        }
        self.export.take(spans);
    }

    fn server(&self, ended: &Ended<'_>) -> Span {
        let (method, verb) = method(ended.method);
        let mut attributes = vec![
            ("http.request.method", method.into()),
            ("url.path", Value::Text(self.path.clone())),
            ("url.scheme", self.scheme.into()),
        ];
        if let Some(host) = &self.host {
            attributes.extend(address(host));
        }
        if let Some(client) = ended.client {
            attributes.push(("client.address", Value::Text(client.to_string())));
        }
        if let Some(route) = ended.route {
            attributes.push(("http.route", route.into()));
        }
        let failed = ended.status.is_some_and(|status| status >= 500)
            || matches!(ended.error, Some("upstream_body" | "panic"));
        let error = ended.error.map(Value::from);
        let by_status = || failed.then(|| status_text(ended.status));
        attributes.extend(outcome(ended.status, error.or_else(by_status)));
        Span {
            trace: ended.trace.id,
            id: ended.trace.span,
            parent: ended.trace.parent,
            remote: ended.trace.parent.is_some(),
            state: ended.trace.state().cloned(),
            kind: Kind::Server,
            name: match ended.route {
                Some(route) => format!("{verb} {route}"),
                None => verb.to_owned(),
            },
            start: self.nanos(Duration::ZERO),
            end: self.nanos(ended.elapsed),
            attributes,
            failed,
        }
    }

    fn client(&self, ended: &Ended<'_>, one: &Try, count: u32) -> Span {
        let (method, verb) = method(ended.method);
        let mut attributes = vec![("http.request.method", method.into())];
        if let Ok(endpoint) = one.endpoint.parse() {
            attributes.extend(address(&endpoint));
        }
        if count > 0 {
            attributes.push(("http.request.resend_count", Value::Number(count)));
        }
        let status = one.outcome.ok().map(|status| status.as_u16());
        let error = match one.outcome {
            Ok(status) if status.as_u16() < 400 => None,
            Ok(_) => Some(status_text(status)),
            Err(code) => Some(code.into()),
        };
        let failed = error.is_some();
        attributes.extend(outcome(status, error));
        Span {
            trace: ended.trace.id,
            id: one.id,
            parent: Some(ended.trace.span),
            remote: false,
            state: ended.trace.state().cloned(),
            kind: Kind::Client,
            name: verb.to_owned(),
            start: self.nanos(one.start),
            end: self.nanos(one.end.unwrap_or(ended.elapsed)),
            attributes,
            failed,
        }
    }

    /// So long after the beginning, in nanoseconds after 1970: enough until 2554.
    fn nanos(&self, after: Duration) -> u64 {
        let since = self.began.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from((since + after).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A method of the fixed list as its attribute and in names.
fn method(method: &Method) -> (&'static str, &'static str) {
    match method_label(method) {
        "OTHER" => ("_OTHER", "HTTP"),
        known => (known, known),
    }
}

fn address(of: &Authority) -> impl Iterator<Item = (&'static str, Value)> {
    let host = of.host().trim_matches(['[', ']']);
    let port = of.port_u16().map(|port| Value::Number(port.into()));
    let host = Value::Text(plain(host.as_bytes()));
    let port = port.map(|port| ("server.port", port));
    std::iter::once(("server.address", host)).chain(port)
}

fn outcome(
    status: Option<u16>,
    error: Option<Value>,
) -> impl Iterator<Item = (&'static str, Value)> {
    let status = status.map(|status| Value::Number(status.into()));
    let status = status.map(|status| ("http.response.status_code", status));
    let error = error.map(|error| ("error.type", error));
    status.into_iter().chain(error)
}

fn status_text(status: Option<u16>) -> Value {
    Value::Text(status.unwrap_or_default().to_string())
}
