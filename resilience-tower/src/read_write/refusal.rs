//! Refusals as HTTP and gRPC responses.

use bytes::Bytes;
use http::{Response, StatusCode};

use super::{Reason, Refusal};
use crate::refusal::{self, Json};

/// What makes a response from a refusal.
pub type Refuse = fn(&Refusal) -> Response<Bytes>;

// The status codes of the gRPC specification.
const UNKNOWN: u8 = 2;
const INVALID_ARGUMENT: u8 = 3;
const DEADLINE_EXCEEDED: u8 = 4;
const UNAVAILABLE: u8 = 14;
const DATA_LOSS: u8 = 15;

/// The refusal with a body of the media type `application/problem+json` (RFC 9457).
///
/// | refusal | status | `Retry-After` |
/// |---|---|---|
/// | the token is [`Foreign`](Reason::Foreign) or [`Future`](Reason::Future) | 400 | |
/// | the write of the token is lost: [`Diverged`](Reason::Diverged) | 409: the caller holds what is no more, and must be told | |
/// | no node, for now; breaker; buffer full | 503 | yes |
/// | draining; unreachable | 503 | |
/// | deadline; outcome unknown | 504 | |
///
/// Its members are `reason`, `status`, `title` and perhaps `retry_after`; no `type`, which stands for
/// `about:blank`. Names of nodes are not told.
pub fn problem(refusal: &Refusal) -> Response<Bytes> {
    let mut json = Json::new();
    json.text("reason", refusal.as_str());
    let status = match (refusal.reason(), refusal) {
        (Some(Reason::Foreign | Reason::Future), _) => StatusCode::BAD_REQUEST,
        (Some(Reason::Diverged), _) => StatusCode::CONFLICT,
        (_, Refusal::Deadline | Refusal::OutcomeUnknown { .. }) => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    refusal::problem(status, refusal.retry_after(), json)
}

/// The refusal as a gRPC response without messages: HTTP 200, the reason in `grpc-message`, and in
/// `grpc-status` 3 (invalid argument), 15 (data loss), 14 (unavailable) or 4 (deadline exceeded) as
/// [`problem`] has 400, 409, 503 and 504; 2 (unknown) for an unknown outcome.
pub fn status(refusal: &Refusal) -> Response<Bytes> {
    let code = match (refusal.reason(), refusal) {
        (Some(Reason::Foreign | Reason::Future), _) => INVALID_ARGUMENT,
        (Some(Reason::Diverged), _) => DATA_LOSS,
        (_, Refusal::Deadline) => DEADLINE_EXCEEDED,
        (_, Refusal::OutcomeUnknown { .. }) => UNKNOWN,
        _ => UNAVAILABLE,
    };
    refusal::grpc(code, refusal.as_str(), refusal.retry_after())
}
