//! Stacks for HTTP and gRPC.

use std::time::Duration;

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;

use super::{Once, Stack, Tell, Traffic};
use crate::admission::{Admission, Policy};
use crate::breaker::OnResult;
use crate::breaker::grpc::GrpcClassifier;
use crate::breaker::http::{HttpClassifier, OnBodyEnd};
use crate::refusal::{self, IntoResponseLayer, Json};
use crate::retry::http::HttpReplay;
use crate::timeout::deadline::http::Headers;
use crate::timeout::deadline::{Deadline, HasDeadline, Propagate};

/// Traffic of HTTP.
pub type Http = Traffic<OnResult<HttpClassifier>, HttpReplay, InExtensions>;

/// Traffic of gRPC.
pub type Grpc = Traffic<OnBodyEnd<GrpcClassifier>, Once, InExtensions>;

/// What makes a response of a refusal.
pub type Refuse = fn(&Admission) -> Response<Bytes>;

/// Deadlines and admission records in the extensions of requests and responses; times in headers.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct InExtensions {
    headers: Headers,
    leave: bool,
}

impl InExtensions {
    /// Reads the [`Deadline`] in a request's extensions and the time in its `headers`, and writes
    /// the `headers`.
    pub fn new(headers: Headers) -> Self {
        Self {
            headers,
            leave: false,
        }
    }

    /// Leaves the deadline in the extensions of the request, for the service within: a handler
    /// that makes calls of its own. Allocates, once per attempt.
    pub fn leave_deadline(mut self) -> Self {
        self.leave = true;
        self
    }
}

impl<B> Propagate<Request<B>> for InExtensions {
    fn received(&self, request: &Request<B>) -> Option<Duration> {
        let carried = request.deadline().map(Deadline::left);
        let told = self.headers.received(request);
        carried.into_iter().chain(told).min()
    }

    fn send(&self, request: &mut Request<B>, left: Duration) {
        self.headers.send(request, left);
        if self.leave
            && let Some(deadline) = Deadline::after(left)
        {
            request.set_deadline(deadline);
        }
    }

    fn least(&self) -> Duration {
        Propagate::<Request<B>>::least(&self.headers)
    }
}

impl<B> Tell<Response<B>> for InExtensions {
    fn tell(&self, response: &mut Response<B>, admission: Admission) {
        response.extensions_mut().insert(admission);
    }
}

impl<T> Stack<T> {
    /// For services of HTTP; see [`Traffic`]. Bodies of up to 64 KiB are kept for a retry.
    pub fn http(self) -> Stack<Http> {
        self.traffic(Traffic {
            judge: OnResult(HttpClassifier),
            replay: HttpReplay::default(),
            propagate: InExtensions::default(),
            beside: Once,
        })
    }

    /// For services of gRPC; see [`Traffic`]. Which methods may be called twice is not known to
    /// gRPC: with [`replay`](Stack::replay) and [`HttpReplay`] those calls are that carry an
    /// `Idempotency-Key`.
    pub fn grpc(self) -> Stack<Grpc> {
        self.traffic(Traffic {
            judge: OnBodyEnd(GrpcClassifier::new()),
            replay: Once,
            propagate: InExtensions::new(Headers::new().write_grpc()),
            beside: Once,
        })
    }

    /// Answers refusals by [`problem`]: the service's error is the inner service's alone.
    ///
    /// For services of `http` types: with `Error = Infallible` inside, the result is what axum
    /// takes as a layer or a route.
    pub fn into_response(self) -> IntoResponseLayer<Self, Refuse> {
        IntoResponseLayer::new(self, problem)
    }

    /// Answers refusals by [`status`]: the service's error is the inner service's alone.
    pub fn into_grpc_response(self) -> IntoResponseLayer<Self, Refuse> {
        IntoResponseLayer::new(self, status)
    }

    /// Answers refusals by a function of one's own, which is cloned once per call.
    pub fn into_response_with<F>(self, refuse: F) -> IntoResponseLayer<Self, F>
    where
        F: Fn(&Admission) -> Response<Bytes> + Clone,
    {
        IntoResponseLayer::new(self, refuse)
    }
}

/// The refusal as a response with a body of the media type `application/problem+json` (RFC 9457).
///
/// | policy | status |
/// |---|---|
/// | rate limit | 429 |
/// | deadline, attempt timeout | 504 |
/// | any other | 503 |
///
/// With `Retry-After` when it is known, in whole seconds, rounded up and never 0. The members of the
/// body are `stack` (its name), `policy`, `reason`, `status`, `title` and `retry_after`. The
/// [`Admission`] is in the extensions.
pub fn problem(admission: &Admission) -> Response<Bytes> {
    let mut json = Json::new();
    if let Some(name) = admission.name() {
        json.text("stack", name);
    }
    if let Some(policy) = admission.policy() {
        json.text("policy", policy.as_str());
    }
    json.text("reason", admission.reason());
    let status = match admission.policy() {
        Some(Policy::RateLimit) => StatusCode::TOO_MANY_REQUESTS,
        Some(Policy::Deadline | Policy::AttemptTimeout) => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    refusal::problem(status, admission.retry_after(), json)
}

/// The refusal as a gRPC response without messages: HTTP 200, `grpc-status` 8 (resource exhausted)
/// of the rate limit, 4 (deadline exceeded) of deadline and attempt timeout, else 14 (unavailable);
/// the text of the refusal in `grpc-message`, and `grpc-retry-pushback-ms` when it is known.
pub fn status(admission: &Admission) -> Response<Bytes> {
    let code = match admission.policy() {
        Some(Policy::RateLimit) => RESOURCE_EXHAUSTED,
        Some(Policy::Deadline | Policy::AttemptTimeout) => DEADLINE_EXCEEDED,
        _ => UNAVAILABLE,
    };
    refusal::grpc(code, admission, admission.retry_after())
}

/// Status codes of the gRPC specification.
const DEADLINE_EXCEEDED: u8 = 4;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNAVAILABLE: u8 = 14;
