//! A request on its way to a service: its form there, the endpoints that are tried, and what a
//! failure means for the client.

use std::time::Duration;

use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, Version};
use resilience_core::breaker::Outcome;
use resilience_core::bulkhead::OwnedPermit;
use resilience_tower::breaker::http::HttpClassifier;
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::body::Body;
use crate::config::Protocol;
use crate::exchange::Exchange;
use crate::guard::Checked;
use crate::policy::size_limits;
use crate::problem::Problem;
use crate::route::Route;
use crate::server::{Interim, is_stream};
use crate::upstream::Upstream;
use crate::upstream::balance::{Nobody, Picked};
use crate::upstream::forward::{AttemptError, Patience, attempt};
use crate::upstream::limits;
use crate::upstream::pace::Pace;
use crate::upstream::pool::Lease;
use crate::upstream::upgrade::{Asked, Tunnels};
use crate::upstream::upload::{Spare, Upload};

/// A client of a stream is silent as long as it has nothing to say.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// Told to a client when no endpoint could be reached; there is no better estimate.
const RETRY_UNREACHABLE: Duration = Duration::from_secs(1);

/// Puts the request into the form the upstream gets.
pub(crate) fn outgoing(
    request: Request<Body>,
    route: &Route,
    checked: &Checked,
) -> Result<(Request<Upload>, Option<Asked>), Problem> {
    let (mut parts, body) = request.into_parts();
    let path = route.rewrite(&checked.path);
    let same = parts
        .uri
        .path_and_query()
        .filter(|_| parts.uri.path() == path);
    let target = match (same, parts.uri.query()) {
        // As most are: nothing is copied.
        (Some(target), _) => Ok(target.clone()),
        (None, Some(query)) => PathAndQuery::try_from(format!("{path}?{query}")),
        (None, None) => PathAndQuery::try_from(path.as_ref()),
    };
    let target = target.map_err(|_| Problem::bad_request("bad_path", "the target is malformed"))?;
    parts.uri = Uri::from(target);
    let extended = checked.upgrade && parts.version == Version::HTTP_2;
    parts.version = Version::HTTP_11;
    let interim = parts.extensions.remove::<Interim>();
    let asked = asked(&mut parts, checked.upgrade, extended);
    if extended && asked.is_none() {
        let detail = "the connection cannot be changed to another protocol";
        return Err(Problem::bad_request("no_upgrade", detail));
    }
    parts.extensions.clear();
    let mut request = Request::from_parts(parts, Upload::new(body));
    if let Some(interim) = interim {
        request.extensions_mut().insert(interim.clone());
        hyper::ext::on_informational(&mut request, move |answer| {
            interim.pass(answer.status(), answer.headers());
        });
    }
    Ok((request, asked))
}

/// The upgrade that the client wishes, if it is one that is passed on.
fn asked(parts: &mut Parts, wished: bool, extended: bool) -> Option<Asked> {
    let (headers, extensions) = (&mut parts.headers, &mut parts.extensions);
    #[cfg(feature = "http2")]
    if extended {
        return Asked::take_extended(headers, extensions);
    }
    if extended || !wished {
        return None;
    }
    Asked::take(headers, extensions)
}

/// One call to a service.
pub(crate) struct Call<'a> {
    pub(crate) upstream: &'a Upstream,
    /// Told of each try.
    pub(crate) exchange: &'a mut Exchange,
    /// Whom the client is to be sent to again, for consistent hashing.
    pub(crate) key: Option<u64>,
    /// Longest pause of the client inside its body.
    pub(crate) body_timeout: Duration,
    pub(crate) asked: Option<Asked>,
    pub(crate) tunnels: &'a Tunnels,
    /// The alarm of the client's connection, if it has one.
    pub(crate) alarm: Option<&'a Alarm>,
}

impl Call<'_> {
    /// Finds a place among the calls that the service may have at once, and tries its endpoints.
    pub(crate) async fn forward(
        mut self,
        request: Request<Upload>,
    ) -> Result<Response<Body>, Problem> {
        let upstream = self.upstream;
        let settings = &upstream.settings;
        let end = settings.total_timeout.map(|total| Instant::now() + total);
        let permit = self.upstream.service.limits.enter(settings).await?;
        let limits = &self.upstream.service.limits;
        let trial = limits.trial(settings)?;
        let leave = limits.ask(settings)?;
        limits.first_try();
        let mut verdict = None;
        let tried = self.tries(request, end, &mut verdict).await;
        // A service that was not asked has not failed.
        if let (Some(leave), Some(verdict)) = (leave, verdict) {
            leave.record(verdict);
        }
        match (trial, &tried) {
            (Some(trial), Ok(answer)) => trial.ended(answer.response.status()),
            // Our own 503 says that it was not asked, and 400 and 408 that the client failed.
            (Some(trial), Err(problem)) if problem.status == StatusCode::GATEWAY_TIMEOUT => {
                trial.ended(problem.status);
            }
            _ => {}
        }
        let mut answer = tried?;
        let upgraded = answer.response.status() == StatusCode::SWITCHING_PROTOCOLS;
        match self.asked.take() {
            Some(asked) if upgraded => {
                let held = (answer.lease, answer.picked, permit);
                let idle = settings.upgrade_timeout;
                asked.set_answer(&mut answer.response);
                self.tunnels.open(asked, &mut answer.response, idle, held);
                Ok(answer.response)
            }
            _ => {
                let pace = Pace::new(settings.body_timeout, end);
                Ok(answer.into_response(permit, pace))
            }
        }
    }

    /// Tries endpoints until one answers, none is left, or the request may not be sent again.
    /// `verdict` is what the last attempt says, if there was one.
    async fn tries(
        &mut self,
        mut request: Request<Upload>,
        end: Option<Instant>,
        verdict: &mut Option<Outcome>,
    ) -> Result<Answer, Problem> {
        let upstream = self.upstream;
        let settings = &upstream.settings;
        let mut patience = Patience {
            head: settings.response_timeout,
            of_try: settings.try_timeout,
            body: match is_stream(request.headers()) {
                true => FOREVER,
                false => self.body_timeout,
            },
            end,
            asked: self.asked.as_ref(),
            alarm: self.alarm,
        };
        let mut spare = self.spare(&mut request);
        let mut slot = Some(request);
        let mut picks = upstream.picks(self.key);
        let mut last = None;
        let mut repeats = false;
        loop {
            let next = match picks.next() {
                // Whom it was sent to is as good as any if there is no other.
                Err(_) if repeats => {
                    repeats = false;
                    picks.again();
                    picks.next()
                }
                next => next,
            };
            let mut picked = next.map_err(|nobody| nobody_problem(last.take(), nobody))?;
            if let Some(request) = &mut slot {
                set_host(request, &picked.endpoint().authority);
            }
            self.exchange.tried(picked.endpoint());
            #[cfg(feature = "otel")]
            self.exchange
                .record_try(slot.as_mut().map(Request::headers_mut));
            let result = attempt(picked.endpoint(), &mut slot, patience).await;
            #[cfg(feature = "otel")]
            self.exchange.record_tried(|| match &result {
                Ok((response, _)) => Ok(response.status()),
                Err(error) => Err(attempt_problem(error).code),
            });
            let outcome = self.judge(&result);
            picked.record(outcome);
            *verdict = Some(outcome);
            let error = match result {
                Ok((response, lease)) => {
                    return Ok(Answer {
                        response,
                        lease,
                        picked,
                    });
                }
                Err(error) => error,
            };
            if matches!(error, AttemptError::Unreachable { .. }) {
                // Nothing was sent, so the next one may have it, whatever the method.
                let endpoint = &picked.endpoint().address;
                tracing::warn!(%endpoint, %error, "upstream unreachable");
            } else if let Some(again) = self.again(&error, &mut spare) {
                slot = Some(again);
                repeats = true;
                patience.of_try = None;
            } else {
                return Err(attempt_problem(&error));
            }
            last = Some(error);
        }
    }

    /// What is needed to send the request a second time, if that may ever be done: its head, and
    /// of its body what passes, if it is short enough to be kept.
    fn spare(&self, request: &mut Request<Upload>) -> Option<Request<Spare>> {
        let settings = &self.upstream.settings;
        let repeatable = settings.retry.on().is_some()
            && (request.method().is_idempotent() || settings.protocol != Protocol::Http1);
        if !repeatable {
            return None;
        }
        let body = request.body_mut().spare(settings.replay_bytes)?;
        let mut spare = Request::new(body);
        spare.method_mut().clone_from(request.method());
        spare.uri_mut().clone_from(request.uri());
        spare.headers_mut().clone_from(request.headers());
        // Where interim answers go, if that is asked for.
        spare.extensions_mut().clone_from(request.extensions());
        Some(spare)
    }

    /// The request once more, if it may be sent again and the budget of the service has a retry
    /// left. What was sent and perhaps acted on is only repeated if that changes nothing.
    fn again(
        &self,
        error: &AttemptError,
        spare: &mut Option<Request<Spare>>,
    ) -> Option<Request<Upload>> {
        let (mut parts, spare) = spare.take()?.into_parts();
        // A part of a body is none.
        let body = spare.whole()?;
        let harmless = match error {
            AttemptError::Broken { refused: true, .. } => true,
            AttemptError::Broken { started: false, .. }
            | AttemptError::TimedOut { of_try: true } => parts.method.is_idempotent(),
            _ => false,
        };
        let interim = parts.extensions.get::<Interim>();
        if interim.is_some_and(Interim::has_passed) {
            parts.extensions.clear();
        }
        let may = harmless && self.upstream.service.limits.may_retry();
        may.then(|| Request::from_parts(parts, Upload::new(body)))
    }

    /// What an attempt says about the endpoint.
    fn judge<L>(&self, result: &Result<(Response<Body>, L), AttemptError>) -> Outcome {
        match result {
            // The client's fault says nothing about the upstream.
            Err(AttemptError::Client { .. } | AttemptError::TooLarge) => Outcome::Ignored,
            Err(_) => Outcome::Failure,
            Ok((response, _)) => {
                let ignored = &self.upstream.settings.ignored_statuses;
                if ignored.contains(&response.status().as_u16()) {
                    return Outcome::Ignored;
                }
                HttpClassifier::outcome(response.status(), response.headers())
            }
        }
    }
}

/// An endpoint's answer, and what it holds until it has ended.
struct Answer {
    response: Response<Body>,
    lease: Lease,
    picked: Picked,
}

impl Answer {
    fn into_response(self, permit: Option<OwnedPermit>, pace: Pace) -> Response<Body> {
        let Self {
            response,
            lease,
            picked,
        } = self;
        response.map(|body| body.leased(lease).counted(picked).paced(permit, pace))
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

/// No endpoint is left: what the last one failed with, or why there is none.
fn nobody_problem(last: Option<AttemptError>, nobody: Nobody) -> Problem {
    if let Some(error) = last {
        return attempt_problem(&error);
    }
    match nobody {
        Nobody::Open(wait) => limits::circuit_open(wait),
        Nobody::None(_) => Problem::no_endpoint(),
        Nobody::Tried => Problem::internal(),
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
        AttemptError::TimedOut { .. } => (
            StatusCode::GATEWAY_TIMEOUT,
            "upstream_timeout",
            "Gateway timeout",
        ),
        AttemptError::Broken { .. } => (StatusCode::BAD_GATEWAY, "upstream_broken", "Bad gateway"),
        AttemptError::BadAnswer => (
            StatusCode::BAD_GATEWAY,
            "upstream_bad_answer",
            "Bad gateway",
        ),
        AttemptError::TooLarge => return size_limits::too_large(),
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
