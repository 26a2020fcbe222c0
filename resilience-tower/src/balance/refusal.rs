//! A balancer's refusal as an HTTP or gRPC response.

use bytes::Bytes;
use http::{Response, StatusCode};

use super::{Balance, Unavailable};
use crate::refusal::{self, IntoResponse, Json};

/// What makes a response from a balancer's refusal.
pub type Refuse = fn(&Unavailable) -> Response<Bytes>;

/// gRPC's code for an upstream that cannot be reached now.
const UNAVAILABLE: u8 = 14;

/// The refusal as 503 (service unavailable) with a body of the media type
/// `application/problem+json` (RFC 9457).
///
/// Its members are `reason`, `status` and `title`; no `type`, which stands for `about:blank`. There
/// is no `Retry-After`: nobody knows when an endpoint comes.
pub fn problem(unavailable: &Unavailable) -> Response<Bytes> {
    let mut json = Json::new();
    json.text("reason", unavailable.reason().as_str());
    refusal::problem(StatusCode::SERVICE_UNAVAILABLE, None, json)
}

/// The refusal as a gRPC response without messages: HTTP 200, `grpc-status: 14` (unavailable), and
/// the refusal's text in `grpc-message`.
pub fn status(unavailable: &Unavailable) -> Response<Bytes> {
    refusal::grpc(UNAVAILABLE, unavailable, None)
}

impl<S, J, C> Balance<S, J, C> {
    /// Answers refusals by [`problem`]: the service's error is the endpoints' alone.
    pub fn into_response(self) -> IntoResponse<Self, Refuse> {
        self.into_response_with(problem)
    }

    /// Answers refusals by [`status`].
    pub fn into_grpc_response(self) -> IntoResponse<Self, Refuse> {
        self.into_response_with(status)
    }

    /// Answers refusals by a function of one's own, which is cloned once per call.
    pub fn into_response_with<F>(self, refuse: F) -> IntoResponse<Self, F>
    where
        F: Fn(&Unavailable) -> Response<Bytes> + Clone,
    {
        IntoResponse::new(self, refuse)
    }
}
