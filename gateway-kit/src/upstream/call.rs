//! A request on its way to a service: its form there, one endpoint after the other, and what a
//! failure means for the client.

use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use resilience_core::breaker::Classify;

use crate::body::Body;
use crate::guard::Checked;
use crate::problem::Problem;
use crate::route::Route;
use crate::upstream::Upstream;
use crate::upstream::balance::Nobody;
use crate::upstream::forward::{AttemptClassifier, AttemptError, Patience, attempt};
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

/// Tries one endpoint after the other until one takes the request.
pub(crate) async fn forward(
    upstream: &Upstream,
    key: Option<u64>,
    request: Request<Upload>,
    body_timeout: Duration,
) -> Result<Response<Body>, Problem> {
    let patience = Patience {
        response: upstream.settings.response_timeout,
        body: body_timeout,
    };
    let classifier = AttemptClassifier {
        ignored: &upstream.settings.ignored_statuses,
    };
    let mut slot = Some(request);
    let mut last = None;
    let mut picks = upstream.picks(key);
    let nobody = loop {
        let mut picked = match picks.next() {
            Ok(picked) => picked,
            Err(nobody) => break nobody,
        };
        let endpoint = picked.endpoint();
        if let Some(request) = &mut slot {
            set_host(request, &endpoint.authority);
        }
        let result = attempt(endpoint, &mut slot, patience).await;
        picked.record(classifier.classify(result.as_ref()));
        match result {
            Ok(response) => return Ok(response.map(|body| body.counted(picked))),
            // Nothing was sent, so the next one may have it, whatever the method.
            Err(error @ AttemptError::Unreachable { .. }) => {
                let endpoint = &picked.endpoint().address;
                tracing::warn!(%endpoint, %error, "upstream unreachable");
                last = Some(error);
            }
            Err(error) => return Err(attempt_problem(&error)),
        }
    };
    Err(last.map_or_else(|| nobody_problem(nobody), |error| attempt_problem(&error)))
}

fn nobody_problem(nobody: Nobody) -> Problem {
    match nobody {
        Nobody::Open(wait) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "circuit_open",
            "Service unavailable",
            "the service behind this route is failing and is given time to recover",
        )
        .retry_after(wait),
        Nobody::None(_) => Problem::no_endpoint(),
        Nobody::Tried => Problem::internal(),
    }
}

/// HTTP/1.0 clients may send no Host; the upstream needs one.
fn set_host(request: &mut Request<Upload>, authority: &str) {
    if !request.headers().contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(authority)
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
