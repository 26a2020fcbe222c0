//! As many calls at once as the upstream bears, found out from how they end; others are refused.
//!
//! The rules (AIMD, Vegas, Gradient2; when the limit moves and when it does not) are those of
//! [`resilience_core::adaptive`]. A call runs from `call` until its response is there or its future
//! is dropped; a response body that is read afterwards is not counted, and not timed.
//!
//! # What an outcome means
//!
//! The classifier may be the breaker's.
//!
//! | outcome | here |
//! |---|---|
//! | success | its time counts |
//! | failure, overloaded | the upstream has too much to do: from a share of them on the limit falls |
//! | ignored, and a future that is dropped or panics | nothing |
//!
//! A failure counts as overload because a timeout is one. Where failures have other reasons, and many
//! of them, let the classifier call those ignored: the limit would fall to its minimum.
//!
//! # Where it stands
//!
//! Where a bulkhead stands: inside of breaker and retry, so that a refusal is not a failure of the
//! upstream (classify it as ignored) and each attempt is timed on its own; outside of the timeout of
//! an attempt, so that a call without an answer is an error here, and not merely dropped.
//!
//! # What a clone shares
//!
//! The limit, and all that it has learned.
//!
//! # What an operator must know
//!
//! One limit per upstream: calls that take ten times as long as others on the same limit look like
//! a queue. All that refuses inside of it, such as a rate limit, is an error like any other, and
//! must be classified as ignored.
//!
//! # Examples
//!
//! ```
//! use resilience_core::adaptive::{AdaptiveLimit, Config};
//! use resilience_tower::adaptive::{AdaptiveLayer, Error};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let config = Config::builder().initial_limit(1).min_limit(1);
//! let search = AdaptiveLimit::new(config.build().unwrap());
//! let mut service = ServiceBuilder::new()
//!     .layer(AdaptiveLayer::new(search))
//!     .service(service_fn(async |word: &'static str| Ok::<_, std::io::Error>(word)));
//! let running = service.ready().await.unwrap().call("first");
//! let refused = service.ready().await.unwrap().call("second").await;
//! assert!(matches!(refused, Err(Error::Refused(_))));
//! assert_eq!(running.await.unwrap(), "first");
//! # }
//! ```

mod error;
mod future;
#[cfg(feature = "http")]
pub mod http;
mod layer;
mod service;

pub use self::error::Error;
pub use self::future::ResponseFuture;
pub use self::layer::AdaptiveLayer;
pub use self::service::Adaptive;
