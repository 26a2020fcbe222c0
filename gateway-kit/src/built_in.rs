//! The endpoints the gateway answers itself: `/health/live`, `/health/ready`, `/metrics`.

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::json;

use crate::body::Body;
use crate::metrics::state_name;
use crate::problem::Problem;
use crate::server::Inner;
use crate::upstream::{Upstream, View};

/// The path as a label, and the answer.
type BuiltIn = (&'static str, Result<Response<Body>, Problem>);

impl Inner {
    /// The answer, if `path` is one of the gateway's own.
    pub(crate) fn built_in<B>(&self, request: &Request<B>, path: &str) -> Option<BuiltIn> {
        const PATHS: [&str; 4] = ["/health", "/health/live", "/health/ready", "/metrics"];
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
            // Liveness knows nothing of dependencies: a restart of this process mends none.
            _ => json_response(StatusCode::OK, &json!({ "status": "ok" })),
        };
        Some((path, Ok(response)))
    }

    /// 503 while stopping, and while a required upstream has no endpoint left. An upstream
    /// that is not required never takes the gateway, and with it all others, out of service.
    fn ready(&self) -> Response<Body> {
        let snapshot = self.snapshot.load();
        let draining = self.shared.is_draining();
        let down = |upstream: &Upstream| !upstream.service.views().iter().any(View::is_up);
        let mut missing = snapshot.upstreams.values();
        let missing = missing.any(|upstream| upstream.settings.required && down(upstream));
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
        let (status, word) = match (draining, missing) {
            (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            (false, false) => (StatusCode::OK, "ok"),
        };
        json_response(status, &json!({ "status": word, "upstreams": upstreams }))
    }

    /// The metrics, with what is read when someone looks.
    pub(crate) fn render_metrics(&self) -> String {
        let snapshot = self.snapshot.load();
        self.shared.metrics.render(snapshot.upstreams.values())
    }
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
