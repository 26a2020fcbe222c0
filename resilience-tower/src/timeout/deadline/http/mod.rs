//! Deadlines in HTTP and gRPC: headers, and answers when the time is up.
//!
//! ```
//! use resilience_core::deadline::Deadlines;
//! use resilience_tower::timeout::deadline::{DeadlineLayer, http::Headers};
//!
//! // On a server: what the caller's `grpc-timeout` leaves; `DEADLINE_EXCEEDED` when it is up.
//! let headers = Headers::new().read_grpc();
//! let server = DeadlineLayer::new(Deadlines::default()).propagate(headers).into_grpc_response();
//! // Around a client: what is left is told.
//! let headers = Headers::new().write_grpc();
//! let client = DeadlineLayer::new(Deadlines::default()).propagate(headers);
//! # let _ = (server, client);
//! ```

mod answer;
mod headers;

pub use self::answer::{Refuse, problem, status};
pub use self::headers::{ENVOY_TIMEOUT_MS, GRPC_TIMEOUT, Headers};
