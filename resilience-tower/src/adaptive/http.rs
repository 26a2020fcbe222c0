//! The refusal of an adaptive limit as an HTTP or gRPC response.

use ::http::{Response, StatusCode};
use bytes::Bytes;
use resilience_core::adaptive::Refused;

use super::AdaptiveLayer;
use crate::refusal::{self, IntoResponseLayer, Json};

/// What makes a response from the refusal of an adaptive limit.
pub type Refuse = fn(&Refused) -> Response<Bytes>;

/// The refusal as 503 (service unavailable) with a body of the media type
/// `application/problem+json` (RFC 9457).
///
/// The members of the body are `reason` (`full`), `status` and `title`; no `type`, which stands for
/// `about:blank`. There is no `Retry-After`: when a call will have ended is not known. Limit and load
/// are not told either.
pub fn problem(_: &Refused) -> Response<Bytes> {
    let mut json = Json::new();
    json.text("reason", "full");
    refusal::problem(StatusCode::SERVICE_UNAVAILABLE, None, json)
}

/// The refusal as a gRPC response without messages: HTTP 200, `grpc-status: 14` (unavailable), and
/// a `grpc-message` that says as much.
pub fn status(_: &Refused) -> Response<Bytes> {
    refusal::grpc(UNAVAILABLE, "as many calls run as the upstream bears", None)
}

/// The status code of the gRPC specification.
const UNAVAILABLE: u8 = 14;

impl<C> AdaptiveLayer<C> {
    /// Answers refusals by [`problem`]: the service's error is the inner service's alone.
    ///
    /// For services of `http` types: with `Error = Infallible` inside, the result is what axum
    /// takes as a layer or a route.
    pub fn into_response(self) -> IntoResponseLayer<Self, Refuse> {
        self.into_response_with(problem)
    }

    /// Answers refusals by [`status`]: the service's error is the inner service's alone.
    ///
    /// On a server the result can be added to a tonic router (feature `tonic`: the name of the
    /// service is kept); around a client the caller gets a status `UNAVAILABLE`.
    pub fn into_grpc_response(self) -> IntoResponseLayer<Self, Refuse> {
        self.into_response_with(status)
    }

    /// Answers refusals by a function of one's own, which is cloned once per call.
    pub fn into_response_with<F>(self, refuse: F) -> IntoResponseLayer<Self, F>
    where
        F: Fn(&Refused) -> Response<Bytes> + Clone,
    {
        IntoResponseLayer::new(self, refuse)
    }
}
