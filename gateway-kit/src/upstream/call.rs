//! A request on its way to a service: its form there, the endpoints in turn, and what a failure
//! means for the client.

use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use resilience_tower::breaker::{self, BreakerLayer};
use tower_layer::Layer;
use tower_service::Service;

use crate::body::Body;
use crate::guard::Checked;
use crate::problem::Problem;
use crate::route::Route;
use crate::upstream::forward::{AttemptClassifier, AttemptError, FnService, Patience, attempt};
use crate::upstream::upload::Upload;

/// Told to a client when no endpoint could be reached; there is no better estimate.
const RETRY_UNREACHABLE: Duration = Duration::from_secs(1);

/// Puts the request into the form the upstream gets.
pub(crate) fn outgoing(
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
pub(crate) async fn forward(
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
            Err(_) => return Err(Problem::internal()),
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
        (None, None) => Problem::internal(),
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
