//! HTTP requests that may be sent twice at the same time.
//!
//! ```
//! use resilience_core::hedge::{Config, HedgePolicy};
//! use resilience_core::retry::RetryBudget;
//! use resilience_tower::hedge::HedgeLayer;
//!
//! // GET, HEAD, OPTIONS, TRACE or `Idempotency-Key`, without a body; 5xx, 429 and no answer fail.
//! let layer = HedgeLayer::http(HedgePolicy::new(Config::default(), RetryBudget::default()));
//! # let _ = layer;
//! ```

mod body;
mod replay;

pub use self::body::HedgeBody;
pub use self::replay::{HttpClone, HttpHedge};
