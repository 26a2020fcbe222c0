//! What happens to a request, outside in: guard, built-in endpoints, rate limit by address,
//! route, endpoint with its breaker, answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use resilience_tower::breaker::{self, BreakerLayer};
use resilience_tower::rate_limit::{self, RateLimitLayer};
use tower_layer::Layer;
use tower_service::Service;

use crate::body::Body;
use crate::exchange::Exchange;
use crate::forward::{AttemptClassifier, AttemptError, FnService, Patience, attempt};
use crate::guard::{self, Checked};
use crate::headers::{self, CORRELATION_ID};
use crate::limit::{self, ClientKey};
use crate::problem::Problem;
use crate::route::Route;
use crate::server::Inner;
use crate::snapshot::Snapshot;
use crate::upload::Upload;

/// Told to a client when no endpoint could be reached; there is no better estimate.
const RETRY_UNREACHABLE: Duration = Duration::from_secs(1);

impl Inner {
    /// Answers one request of `peer`.
    pub(crate) async fn handle(
        self: &Arc<Self>,
        request: Request<Body>,
        peer: SocketAddr,
    ) -> Response<Body> {
        let mut exchange = Exchange::begin(&self.shared, &request);
        let mut response = match self.answer(request, peer, &mut exchange).await {
            Ok(response) => response,
            Err(problem) => {
                exchange.fail(problem.code);
                problem.into_response(&exchange.correlation_id)
            }
        };
        if let Ok(id) = HeaderValue::from_str(&exchange.correlation_id) {
            response.headers_mut().insert(CORRELATION_ID, id);
        }
        exchange.answered(response.status());
        response.map(|body| body.measured(exchange))
    }

    async fn answer(
        self: &Arc<Self>,
        request: Request<Body>,
        peer: SocketAddr,
        exchange: &mut Exchange,
    ) -> Result<Response<Body>, Problem> {
        let (mut parts, body) = request.into_parts();
        let checked = guard::check(&mut parts)?;
        let request = Request::from_parts(parts, body);
        if let Some((path, answer)) = self.built_in(&request, &checked.path) {
            exchange.built_in(path);
            return answer;
        }
        let snapshot = self.snapshot.load_full();
        let snapshot: &Snapshot = &snapshot;
        let origin = snapshot.origin(peer.ip());
        let client = headers::client_address(request.headers(), origin, |address| {
            snapshot.is_trusted(address)
        });
        let mut edge = async |mut request: Request<Body>| {
            let route = snapshot
                .table
                .find(&checked.path)
                .ok_or_else(Problem::no_route)?;
            exchange.routed(route);
            headers::remove_request_hop_by_hop(request.headers_mut());
            headers::set_forwarded(request.headers_mut(), origin, client);
            if let Ok(id) = HeaderValue::from_str(&exchange.correlation_id) {
                request.headers_mut().insert(CORRELATION_ID, id);
            }
            let request = outgoing(request, route, &checked)?;
            let mut response = forward(route, request, snapshot.body_timeout).await?;
            headers::remove_hop_by_hop(response.headers_mut());
            *response.version_mut() = Version::HTTP_11;
            Ok(response)
        };
        let Some(limiter) = &snapshot.limiter else {
            return edge(request).await;
        };
        let limit =
            RateLimitLayer::keyed(limiter.clone(), |_: &Request<Body>| ClientKey::new(client));
        // `call` without `poll_ready`: neither the layer nor a function is ever not ready.
        let mut slot = Some(edge);
        let once = FnService(|request| {
            let edge = slot.take();
            async move {
                match edge {
                    Some(mut edge) => edge(request).await,
                    None => Err(Problem::no_route()),
                }
            }
        });
        match limit.layer(once).call(request).await {
            Ok(response) => Ok(response),
            Err(rate_limit::Error::Limited(limited)) => {
                self.shared.metrics.rate_limited.increment(1);
                Err(limit::problem(&limited))
            }
            Err(rate_limit::Error::Inner(problem)) => Err(problem),
            Err(_) => Err(internal()),
        }
    }
}

/// Puts the request into the form the upstream gets.
fn outgoing(
    request: Request<Body>,
    route: &Route,
    checked: &Checked,
) -> Result<Request<Upload>, Problem> {
    let (mut parts, body) = request.into_parts();
    let path = route.rewrite(&checked.path);
    let target = match parts.uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path.as_ref()),
    };
    let target = target.map_err(|_| Problem::bad_request("bad_path", "the target is malformed"))?;
    parts.uri = Uri::from(target);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    set_framing(&mut parts.headers, checked.chunked);
    Ok(Request::from_parts(parts, Upload::new(body)))
}

/// hyper gives a GET of unknown length no body at all; saying `chunked` keeps it.
fn set_framing(headers: &mut HeaderMap, chunked: bool) {
    if chunked {
        headers.remove(CONTENT_LENGTH);
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Tries the endpoints in turn until one takes the request.
async fn forward(
    route: &Route,
    request: Request<Upload>,
    body_timeout: Duration,
) -> Result<Response<Body>, Problem> {
    let upstream = &route.upstream;
    let patience = Patience {
        response: upstream.settings.response_timeout,
        body: body_timeout,
    };
    let mut slot = Some(request);
    let mut refused: Option<Duration> = None;
    let mut last = None;
    for endpoint in upstream.in_turn() {
        if let Some(request) = &mut slot {
            set_host(request, &endpoint.address);
        }
        let call = FnService(|slot| attempt(endpoint, slot, patience));
        let mut guarded = BreakerLayer::from_handle(endpoint.breaker.clone())
            .classify(AttemptClassifier {
                ignored: &upstream.settings.ignored_statuses,
            })
            .layer(call);
        match guarded.call(&mut slot).await {
            Ok(response) => return Ok(response),
            Err(breaker::Error::Rejected(rejected)) => {
                endpoint.metrics.rejected.increment(1);
                let wait = rejected.retry_after();
                refused = Some(refused.map_or(wait, |least| least.min(wait)));
            }
            // Nothing was sent, so the next one may have it, whatever the method.
            Err(breaker::Error::Inner(error @ AttemptError::Unreachable { .. })) => {
                tracing::warn!(endpoint = %endpoint.address, %error, "upstream unreachable");
                last = Some(error);
            }
            Err(breaker::Error::Inner(error)) => return Err(attempt_problem(&error)),
            Err(_) => return Err(internal()),
        }
    }
    Err(match (last, refused) {
        (Some(error), _) => attempt_problem(&error),
        (None, Some(wait)) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "circuit_open",
            "Service unavailable",
            "the service behind this route is failing and is given time to recover",
        )
        .retry_after(wait),
        (None, None) => internal(),
    })
}

/// HTTP/1.0 clients may send no Host; the upstream needs one.
fn set_host(request: &mut Request<Upload>, address: &str) {
    if !request.headers().contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(address)
    {
        request.headers_mut().insert(HOST, host);
    }
}

fn attempt_problem(error: &AttemptError) -> Problem {
    let (status, code, title) = match error {
        AttemptError::Unreachable { timed_out: false } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "upstream_unreachable",
            "Service unavailable",
        ),
        AttemptError::Unreachable { timed_out: true } => (
            StatusCode::GATEWAY_TIMEOUT,
            "upstream_connect_timeout",
            "Gateway timeout",
        ),
        AttemptError::TimedOut => (
            StatusCode::GATEWAY_TIMEOUT,
            "upstream_timeout",
            "Gateway timeout",
        ),
        AttemptError::Broken => (StatusCode::BAD_GATEWAY, "upstream_broken", "Bad gateway"),
        AttemptError::BadAnswer => (
            StatusCode::BAD_GATEWAY,
            "upstream_bad_answer",
            "Bad gateway",
        ),
        AttemptError::Client { timed_out: true } => (
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            "Request timeout",
        ),
        AttemptError::Client { timed_out: false } => {
            (StatusCode::BAD_REQUEST, "request_incomplete", "Bad request")
        }
    };
    let problem = Problem::new(status, code, title, error.to_string());
    match error {
        AttemptError::Unreachable { timed_out: false } => problem.retry_after(RETRY_UNREACHABLE),
        _ => problem,
    }
}

fn internal() -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "Internal server error",
        "the gateway failed on this request",
    )
}
