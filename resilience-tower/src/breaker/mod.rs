//! A circuit breaker around a service: while the upstream fails, calls are refused at once.
//!
//! The rules (what opens, half-open permits, late outcomes) are those of
//! [`resilience_core::breaker`]; this module asks for a permit before each call and
//! reports how the call ended.
//!
//! # How a call ends
//!
//! | the call | is recorded as |
//! |---|---|
//! | completes | what the classifier says; by default `Ok` success, `Err` failure |
//! | panics, in `call` or in `poll` | failure |
//! | is dropped before it completes | abandoned: the breaker's `on_cancel` decides |
//!
//! The outcome is recorded when the response *future* completes. A body that streams
//! afterwards, and breaks, is not seen.
//!
//! # Where it stands
//!
//! Inside a retry, so that every attempt is judged and a refusal can end the retrying; inside
//! a rate limit, so that a refusal by quota is not taken for a failure of the upstream;
//! outside the timeout of one attempt, so that a slow upstream is a failure. One
//! breaker guards one upstream: put it below whatever picks the upstream.
//!
//! # What a clone shares
//!
//! Clones of a layer or a service share one breaker, as do all services that one layer
//! makes. Two layers made by [`BreakerLayer::new`] share nothing, even if their names
//! are equal; to share, use [`BreakerLayer::from_handle`].
//!
//! # Examples
//!
//! ```
//! use resilience_tower::breaker::{BreakerLayer, Error};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let layer = BreakerLayer::new("payments");
//! let breaker = layer.handle().clone();
//! let mut payments = ServiceBuilder::new()
//!     .layer(layer)
//!     .service(service_fn(async |amount: u32| match amount {
//!         0 => Err("nothing to pay"),
//!         paid => Ok(paid),
//!     }));
//!
//! assert_eq!(payments.ready().await.unwrap().call(12).await.unwrap(), 12);
//! match payments.ready().await.unwrap().call(0).await {
//!     Err(Error::Rejected(refusal)) => println!("try again in {:?}", refusal.retry_after()),
//!     other => println!("the upstream answered {other:?}"),
//! }
//! println!("{:?}", breaker.snapshot());
//! # }
//! ```

mod error;
mod future;
#[cfg(feature = "http")]
pub mod grpc;
#[cfg(feature = "http")]
pub mod http;
mod judge;
mod layer;
mod service;

pub use self::error::Error;
pub use self::future::ResponseFuture;
pub use self::judge::{ByRequest, Judge, JudgeCall, OnResult};
pub use self::layer::BreakerLayer;
pub use self::service::Breaker;
