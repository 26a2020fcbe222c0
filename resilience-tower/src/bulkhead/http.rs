//! A bulkhead's refusal as an HTTP or gRPC response.

use ::http::{Response, StatusCode};
use bytes::Bytes;
use resilience_core::bulkhead::Refused;

use super::{BulkheadLayer, WaitLayer};
use crate::refusal::{self, IntoResponseLayer, Json};

/// What makes a response from a bulkhead's refusal.
pub type Refuse = fn(&Refused) -> Response<Bytes>;

/// The refusal as 503 (service unavailable) with a body of the media type
/// `application/problem+json` (RFC 9457).
///
/// The members of the body are `reason` (`full`, `queue_full`, `deadline`, `displaced` or
/// `keys_full`), `status` and `title`; no `type`, which stands for `about:blank`. There is no
/// `Retry-After`: when a call will have ended is not known. Limit and load are not told either.
pub fn problem(refused: &Refused) -> Response<Bytes> {
    let mut json = Json::new();
    json.text("reason", refused.reason.as_str());
    refusal::problem(StatusCode::SERVICE_UNAVAILABLE, None, json)
}

/// The refusal as a gRPC response without messages: HTTP 200, `grpc-status: 14` (unavailable), and
/// the reason in `grpc-message`.
pub fn status(refused: &Refused) -> Response<Bytes> {
    refusal::grpc(UNAVAILABLE, refused.reason, None)
}

/// The status code of the gRPC specification.
const UNAVAILABLE: u8 = 14;

impl<B> BulkheadLayer<B> {
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

impl<P, B> WaitLayer<P, B> {
    /// As [`BulkheadLayer::into_response`].
    pub fn into_response(self) -> IntoResponseLayer<Self, Refuse> {
        self.into_response_with(problem)
    }

    /// As [`BulkheadLayer::into_grpc_response`].
    pub fn into_grpc_response(self) -> IntoResponseLayer<Self, Refuse> {
        self.into_response_with(status)
    }

    /// As [`BulkheadLayer::into_response_with`].
    pub fn into_response_with<F>(self, refuse: F) -> IntoResponseLayer<Self, F>
    where
        F: Fn(&Refused) -> Response<Bytes> + Clone,
    {
        IntoResponseLayer::new(self, refuse)
    }
}
