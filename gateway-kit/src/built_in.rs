//! The endpoints the gateway answers itself: `/health/live`, `/health/ready`, `/health/detailed`,
//! `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::json;

use crate::body::Body;
use crate::metrics::state_name;
use crate::problem::Problem;
use crate::server::Inner;
use crate::snapshot::Snapshot;
use crate::upstream::{Upstream, View};

/// The path as a label, and the answer.
type BuiltIn = (&'static str, Result<Response<Body>, Problem>);

impl Inner {
    /// The answer, if `path` is one of the gateway's own.
    pub(crate) fn built_in<B>(&self, request: &Request<B>, path: &str) -> Option<BuiltIn> {
        const PATHS: [&str; 5] = [
            "/health",
            "/health/live",
            "/health/ready",
            "/health/detailed",
            "/metrics",
        ];
        let path = PATHS.into_iter().find(|known| *known == path)?;
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Some((
                path,
                Err(Problem::method_not_allowed(HeaderValue::from_static(
                    "GET, HEAD",
                ))),
            ));
        }
        let response = match path {
            "/metrics" => text(self.render_metrics()),
            "/health/ready" => self.ready(),
            "/health/detailed" => self.detailed(),
            // Liveness knows nothing of dependencies: a restart of this process mends none.
            _ => json_response(StatusCode::OK, &json!({ "status": "ok" })),
        };
        Some((path, Ok(response)))
    }

    /// 503 while stopping, and while a required upstream has no endpoint left. An upstream
    /// that is not required never takes the gateway, and with it all others, out of service.
    fn ready(&self) -> Response<Body> {
        let snapshot = self.snapshot.load();
        let upstreams: serde_json::Map<_, _> = snapshot
            .upstreams
            .values()
            .map(|upstream| {
                let views = upstream.service.views();
                let endpoints: serde_json::Map<_, _> = views
                    .iter()
                    .map(|view| {
                        let breaker = state_name(view.endpoint.breaker.state());
                        let state = json!({ "breaker": breaker, "up": view.is_up() });
                        (view.endpoint.address.clone(), state)
                    })
                    .collect();
                (upstream.name.clone(), endpoints.into())
            })
            .collect();
        let (status, word) = self.status(&snapshot);
        json_response(status, &json!({ "status": word, "upstreams": upstreams }))
    }

    fn status(&self, snapshot: &Snapshot) -> (StatusCode, &'static str) {
        let missing = |upstream: &Arc<Upstream>| {
            let settings = &upstream.settings;
            settings.required && !upstream.service.views().iter().any(View::is_up)
        };
        if self.shared.is_draining() {
            (StatusCode::SERVICE_UNAVAILABLE, "stopping")
        } else if snapshot.upstreams.values().any(missing) {
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        } else {
            (StatusCode::OK, "ok")
        }
    }

    /// The state of each service, with the latency and the breaker of each of its endpoints. The
    /// status is that of readiness.
    fn detailed(&self) -> Response<Body> {
        let snapshot = self.snapshot.load();
        let services = snapshot.upstreams.values().map(|upstream| {
            let views = upstream.service.views();
            let up = views.iter().filter(|view| view.is_up()).count();
            let state = match up {
                _ if !upstream.settings.enabled => "disabled",
                0 => "down",
                up if up < views.len() => "degraded",
                _ => "up",
            };
            json!({
                "name": upstream.name,
                "state": state,
                "required": upstream.settings.required,
                "endpoints": views.iter().map(endpoint).collect::<Vec<_>>(),
            })
        });
        let services: Vec<_> = services.collect();
        let (status, word) = self.status(&snapshot);
        json_response(status, &json!({ "status": word, "dependencies": services }))
    }

    /// The metrics, with what is read when someone looks.
    pub(crate) fn render_metrics(&self) -> String {
        let snapshot = self.snapshot.load();
        self.shared.metrics.render(snapshot.upstreams.values())
    }
}

fn endpoint(view: &View) -> serde_json::Value {
    let breaker = view.endpoint.breaker.snapshot();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    json!({
        "address": view.endpoint.address,
        "up": view.is_up(),
        "healthy": view.known.healthy,
        "breaker": state_name(breaker.state),
        "retry_after_ms": breaker.retry_after.map(milliseconds),
        "ejected_for_ms": view.known.ejected_for.map(milliseconds),
        "latency_ms": view.known.latency.map(milliseconds),
        "in_flight": view.known.in_flight,
    })
}

fn json_response(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut response = typed(value.to_string(), "application/json");
    *response.status_mut() = status;
    response
}

fn text(body: String) -> Response<Body> {
    typed(body, "text/plain; version=0.0.4; charset=utf-8")
}

fn typed(body: String, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
