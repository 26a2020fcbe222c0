//! Failed calls are tried again, as often as a policy and its budget allow.
//!
//! Which failures: what the classifier says, the same that judges for the breaker. A failure may be
//! tried again; an overloaded upstream after what it asked for (`Retry-After`); a success and what
//! is ignored are answers. The answer of the last attempt is the answer of the call.
//!
//! The rules (attempts, waits, jitter, budget) are those of [`resilience_core::retry`].
//!
//! # Where it stands
//!
//! Outside of the breaker and of a timeout per attempt, so that each attempt is judged and limited
//! on its own; inside of a timeout for the whole call. A refusal of a breaker inside is an error
//! like any other: a classifier that calls it [`Ignored`](resilience_core::breaker::Outcome::Ignored)
//! passes it on at once.
//!
//! # The deadline of a request
//!
//! A retry whose wait ends at the deadline or later is not begun, and the answer is that of the last
//! attempt. For HTTP the deadline is that of the layer `timeout::deadline` further out (feature
//! `timeout`); for other requests say `honour_deadline`.
//!
//! # What a clone shares
//!
//! Policy and budget. Share the budget between all that call one upstream: a retry policy each,
//! one [`RetryBudget`](resilience_core::retry::RetryBudget).
//!
//! # What an operator must know
//!
//! Without [`http`](RetryLayer::http) every request is cloned and every error tried again, whatever
//! the request does: only for calls that may be made twice. With it, only idempotent methods and
//! requests with an `Idempotency-Key` are, and bodies are kept up to a limit.
//!
//! # Examples
//!
//! ```
//! use resilience_core::retry::{Config, RetryBudget, RetryPolicy};
//! use resilience_tower::retry::RetryLayer;
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let config = Config::builder().max_attempts(4).build().unwrap();
//! let policy = RetryPolicy::new(config, RetryBudget::default());
//!
//! let mut service = ServiceBuilder::new()
//!     .layer(RetryLayer::new(policy))
//!     .service(service_fn(async |amount: u32| match amount {
//!         0 => Err("refused"),
//!         amount => Ok(amount),
//!     }));
//! assert_eq!(service.ready().await.unwrap().call(1).await, Ok(1));
//! // Four attempts, and the answer of the last.
//! assert_eq!(service.ready().await.unwrap().call(0).await, Err("refused"));
//! # }
//! ```

mod future;
#[cfg(feature = "http")]
pub mod http;
mod layer;
mod replay;
mod service;

pub use self::future::ResponseFuture;
pub use self::layer::RetryLayer;
#[cfg(feature = "timeout")]
pub use self::replay::HonourDeadline;
pub use self::replay::{CloneRequest, Replay};
pub use self::service::Retry;
