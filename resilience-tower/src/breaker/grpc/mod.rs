//! What a gRPC response says about the upstream, and refusals as gRPC responses.
//!
//! A gRPC call nearly always answers HTTP 200; how it ended is in `grpc-status`, which comes
//! after the last message, in the trailers. So the outcome is known when the body ends:
//!
//! ```
//! use resilience_tower::breaker::BreakerLayer;
//!
//! // Around a `tonic::transport::Channel` or a service of one's own.
//! let layer = BreakerLayer::new("inventory").grpc();
//! // The same with refusals as `UNAVAILABLE`: what a tonic server can add as a service, and what
//! // the callers of a generated client understand.
//! let service = BreakerLayer::new("inventory").grpc().into_grpc_response();
//! # let _ = (layer, service);
//! ```
//!
//! Without `into_grpc_response` a generated client tells a refusal as the status `UNKNOWN`, for
//! tonic does not know the error.
//!
//! A stream holds its permit until it ends. If streams live long, say so to the breaker: a
//! slow-call threshold counts their whole life, and a half-open probe that outlives the lease
//! is written off. Or judge them at the head, by `.classify(GrpcClassifier::new())`.

mod classifier;
mod refusal;

pub use self::classifier::GrpcClassifier;
pub use self::refusal::status;
