use ::http::{Response, StatusCode};
use bytes::Bytes;
use resilience_core::deadline::TimeUp;

use crate::refusal::{self, IntoResponseLayer, Json};
use crate::timeout::deadline::DeadlineLayer;

/// What makes a response when the time is up.
pub type Refuse = fn(&TimeUp) -> Response<Bytes>;

/// 504 (gateway timeout) with a body of the media type `application/problem+json` (RFC 9457).
///
/// The members of the body are `reason` (`attempt`, `deadline` or `refused`), `status` and `title`;
/// no `type`, which stands for `about:blank`. There is no `Retry-After`: whether a caller with more
/// time would have an answer is not known.
pub fn problem(up: &TimeUp) -> Response<Bytes> {
    let mut json = Json::new();
    json.text("reason", up.as_str());
    refusal::problem(StatusCode::GATEWAY_TIMEOUT, None, json)
}

/// A gRPC response without messages: HTTP 200, `grpc-status: 4` (deadline exceeded), and the text of
/// `up` in `grpc-message`.
pub fn status(up: &TimeUp) -> Response<Bytes> {
    refusal::grpc(DEADLINE_EXCEEDED, up, None)
}

/// The status code of the gRPC specification.
const DEADLINE_EXCEEDED: u8 = 4;

impl<P> DeadlineLayer<P> {
    /// Answers by [`problem`] when the time is up: the service's error is the inner service's alone.
    ///
    /// For services of `http` types: with `Error = Infallible` inside, the result is what axum
    /// takes as a layer or a route.
    pub fn into_response(self) -> IntoResponseLayer<Self, Refuse> {
        self.into_response_with(problem)
    }

    /// Answers by [`status`] when the time is up: the service's error is the inner service's alone.
    ///
    /// On a server the result can be added to a tonic router (feature `tonic`: the name of the
    /// service is kept); around a client the caller gets a status `DEADLINE_EXCEEDED`.
    pub fn into_grpc_response(self) -> IntoResponseLayer<Self, Refuse> {
        self.into_response_with(status)
    }

    /// Answers by a function of one's own, which is cloned once per call.
    pub fn into_response_with<F>(self, refuse: F) -> IntoResponseLayer<Self, F>
    where
        F: Fn(&TimeUp) -> Response<Bytes> + Clone,
    {
        IntoResponseLayer::new(self, refuse)
    }
}
