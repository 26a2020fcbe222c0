//! A breaker's refusal as an HTTP response.

use ::http::{Response, StatusCode};
use bytes::Bytes;
use resilience_core::breaker::Rejected;

use crate::breaker::BreakerLayer;
use crate::refusal::{self, IntoResponseLayer, Json};

/// What makes a response from a breaker's refusal.
pub type Refuse = fn(&Rejected) -> Response<Bytes>;

/// The refusal as 503 (service unavailable) with `Retry-After` and a body of the media type
/// `application/problem+json` (RFC 9457).
///
/// `Retry-After` is in whole seconds, rounded up and never 0. The members of the body are
/// `breaker` (its name), `state`, `reason`, `status`, `title` and `retry_after` (the same
/// seconds); no `type`, which stands for `about:blank`. Nothing in it comes from the upstream.
/// A breaker that was forced open tells its reset timeout, for nobody knows better.
/// Whoever must not know the breaker's name needs a function of their own.
pub fn problem(rejected: &Rejected) -> Response<Bytes> {
    let mut json = Json::new();
    json.text("breaker", rejected.name());
    json.text("state", rejected.state().as_str());
    json.text("reason", rejected.reason().as_str());
    let status = StatusCode::SERVICE_UNAVAILABLE;
    refusal::problem(status, Some(rejected.retry_after()), json)
}

impl<J, P> BreakerLayer<J, P> {
    /// Answers refusals by [`problem`]: the service's error is the inner service's alone.
    ///
    /// For services of `http` types: with `Error = Infallible` inside, the result is what axum
    /// takes as a layer or a route.
    pub fn into_response(self) -> IntoResponseLayer<Self, Refuse> {
        self.into_response_with(problem)
    }

    /// Answers refusals by a function of one's own, which is cloned once per call.
    pub fn into_response_with<F>(self, refuse: F) -> IntoResponseLayer<Self, F>
    where
        F: Fn(&Rejected) -> Response<Bytes> + Clone,
    {
        IntoResponseLayer::new(self, refuse)
    }
}
