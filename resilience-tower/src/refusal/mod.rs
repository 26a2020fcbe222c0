//! Refusals as responses: the error of a policy becomes an HTTP or gRPC answer.
//!
//! The layers of this crate refuse with a typed error, which suits clients. At the edge of a
//! server there is nobody left to read an error: axum and tonic ask for
//! `Error = Infallible`. [`IntoResponse`] turns the refusal into a response there and leaves
//! the errors of the inner service as they are, so that an `Infallible` stays one.
//!
//! The refusal itself goes along in the extensions of the response, for layers further out
//! (metrics, logs) that want the reason and not the text.
//! [`Admission::of`](crate::admission::Admission::of) makes of it what is the same for all policies,
//! and is how telemetry tells it from a failure.
//!
//! | made by | answer |
//! |---|---|
//! | `BreakerLayer::into_response` | 503, `Retry-After`, `application/problem+json` ([RFC 9457]) |
//! | `BreakerLayer::into_grpc_response` | HTTP 200, `grpc-status: 14` (unavailable), trailers only |
//! | those of other policies, where they have them | as said there: 503, 429 or 504; a gRPC status |
//! | `into_response_with` | what a function of one's own makes of the refusal |
//!
//! The body of the response is a [`RefusalBody`]: the inner body or the refusal's bytes,
//! without a box.
//!
//! [RFC 9457]: https://www.rfc-editor.org/rfc/rfc9457

// Not every policy has an answer for gRPC.
#[cfg_attr(not(feature = "breaker"), allow(dead_code))]
mod answer;
mod body;
mod future;
mod json;
mod layer;
mod service;

#[cfg_attr(not(feature = "breaker"), allow(unused_imports))] // as above
pub(crate) use self::answer::grpc;
pub(crate) use self::answer::problem;
#[cfg(feature = "rate-limit")]
pub(crate) use self::answer::whole_seconds;
#[cfg(feature = "breaker")]
pub(crate) use self::answer::{GRPC_RETRY_PUSHBACK_MS, GRPC_STATUS};
pub use self::body::RefusalBody;
pub use self::future::ResponseFuture;
pub(crate) use self::json::Json;
pub use self::layer::IntoResponseLayer;
pub use self::service::IntoResponse;

/// An error that is either a refusal of a policy or an error of the inner service.
///
/// Implemented by the errors of this crate's layers.
pub trait Refused: sealed::Sealed {
    /// The inner service's error.
    type Inner;
    /// The policy's refusal.
    type Refusal: Clone + Send + Sync + 'static;

    /// The refusal, or else the inner service's error.
    ///
    /// # Errors
    ///
    /// The inner service's error, if it is one.
    fn into_refusal(self) -> Result<Self::Refusal, Self::Inner>;
}

pub(crate) mod sealed {
    /// Only this crate's errors can be [`Refused`](super::Refused).
    pub trait Sealed {}
}
