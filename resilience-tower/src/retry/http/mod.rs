//! HTTP requests that can be sent again.
//!
//! ```
//! use resilience_core::retry::RetryPolicy;
//! use resilience_tower::retry::RetryLayer;
//!
//! // Idempotent methods or `Idempotency-Key`; bodies of up to 64 KiB; 5xx, 429 and no answer.
//! let layer = RetryLayer::new(RetryPolicy::default()).http();
//! # let _ = layer;
//! ```

mod body;
mod replay;

pub use self::body::ReplayBody;
pub use self::replay::HttpReplay;
