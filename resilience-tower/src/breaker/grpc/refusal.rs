//! A breaker's refusal as a gRPC response.

use ::http::Response;
use bytes::Bytes;
use resilience_core::breaker::Rejected;

use super::classifier::UNAVAILABLE;
use crate::breaker::BreakerLayer;
use crate::breaker::http::Refuse;
use crate::refusal::{self, IntoResponseLayer};

/// The refusal as a gRPC response without messages: HTTP 200, `grpc-status: 14` (unavailable),
/// the refusal's text in `grpc-message`, and `grpc-retry-pushback-ms` ([gRFC A6]) in whole
/// milliseconds, rounded up and never 0.
///
/// A breaker further out reads it as overload, and stays away as long.
///
/// [gRFC A6]: https://github.com/grpc/proposal/blob/master/A6-client-retries.md
pub fn status(rejected: &Rejected) -> Response<Bytes> {
    let pushback = Some(rejected.retry_after());
    refusal::grpc(UNAVAILABLE, rejected, pushback)
}

impl<J, P> BreakerLayer<J, P> {
    /// Answers refusals by [`status`]: the service's error is the inner service's alone.
    ///
    /// On a server the result can be added to a tonic router (feature `tonic`: the name of the
    /// service is kept); around a client the caller gets a status `UNAVAILABLE`.
    pub fn into_grpc_response(self) -> IntoResponseLayer<Self, Refuse> {
        self.into_response_with(status)
    }
}
