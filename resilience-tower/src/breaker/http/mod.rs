//! What an HTTP response says about the upstream, and refusals as HTTP responses.
//!
//! ```
//! use resilience_tower::breaker::{BreakerLayer, http::HttpClassifier};
//!
//! // For a client: the outcome is known at the head of the response.
//! let client = BreakerLayer::new("payments").http();
//! // The same, but a response whose body breaks off is a failure.
//! let download = BreakerLayer::new("images").classify_body(HttpClassifier);
//! // For a server: refusals are 503 answers, and `Infallible` stays the error.
//! let route = BreakerLayer::new("reports").http().into_response();
//! # let _ = (client, download, route);
//! ```

mod body;
mod classifier;
mod refusal;
mod retry_after;

pub use self::body::{ClassifyBody, JudgedBody, OnBodyEnd};
pub use self::classifier::HttpClassifier;
pub(super) use self::classifier::received_at;
pub use self::refusal::{Refuse, problem};
pub(super) use self::retry_after::digits;
pub use self::retry_after::retry_after;
