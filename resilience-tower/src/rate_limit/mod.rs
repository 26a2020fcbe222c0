//! Rate limits around a service: calls above the quota are refused at once.
//!
//! [`RateLimitLayer::new`] counts all calls together, [`RateLimitLayer::keyed`] per key (a client
//! address, a tenant, an API key: see [`keyed`]), [`All`] against several limits at once;
//! [`cost`](RateLimitLayer::cost) lets calls weigh more than one unit; [`wait`] lets calls wait for
//! their turn (feature `wait`); `redis` (feature of that name) shares one quota among processes. The
//! counting, a token bucket, is that of [`resilience_core::rate_limit`].
//!
//! # How a refusal is told
//!
//! As an [`Error`], which says how long to wait. At the edge of a server it can be an HTTP or gRPC
//! response instead (`into_response`, `into_grpc_response`; module [`http`], feature `http`).
//! The inner service never sees a refused call.
//!
//! # Where it stands
//!
//! Outermost of the policies: a refusal here costs least, and below a breaker it
//! would look like a failure of the upstream. To protect an upstream from ourselves, rather
//! than ourselves from clients, put it below the retry, so that retries are counted.
//!
//! # What a clone shares
//!
//! Clones of a layer or a service, and all services that one layer makes, draw on one
//! quota. Two layers given clones of one limiter do too.
//!
//! # What an operator must know
//!
//! Each process counts for itself: behind a load balancer all of them together admit the quota times
//! their number, unless they share it by a store (`redis`, feature of that name). Behind a proxy every call comes from the proxy's address: who the client is, is told by
//! a header that only a trusted proxy may write (`client_key`, feature `client-key`).
//!
//! # What a call costs
//!
//! One unit, or what its [`cost`](RateLimitLayer::cost) says, taken in `call` and not given back:
//! a call that fails, or is dropped before it completes, has still reached the upstream.
//! [`refund_if`](RateLimitLayer::refund_if) makes exceptions.
//!
//! # Examples
//!
//! ```
//! use resilience_core::rate_limit::{Quota, RateLimiter};
//! use resilience_tower::rate_limit::{Error, RateLimitLayer};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let limiter = RateLimiter::new(Quota::per_minute(1).unwrap());
//! let mut echo = ServiceBuilder::new()
//!     .layer(RateLimitLayer::new(limiter))
//!     .service(service_fn(async |word: &'static str| Ok::<_, std::io::Error>(word)));
//!
//! assert_eq!(echo.ready().await.unwrap().call("first").await.unwrap(), "first");
//! let refused = echo.ready().await.unwrap().call("second").await;
//! assert!(matches!(refused, Err(Error::Limited(_))));
//! # }
//! ```

mod all;
mod answer;
mod cost;
mod error;
mod future;
#[cfg(feature = "http")]
pub mod http;
pub mod keyed;
mod layer;
mod limit;
#[cfg(feature = "redis")]
pub mod redis;
mod refund;
mod service;
#[cfg(feature = "wait")]
pub mod wait;

pub use self::all::All;
pub use self::answer::{Answer, AsError, Keep};
pub use self::cost::WithCost;
pub use self::error::{Error, NoKey, Outage, OutageCause, Reason, Refusal};
pub use self::future::ResponseFuture;
pub use self::layer::RateLimitLayer;
pub use self::limit::{Admission, Ask, Limit, Part, Quotas};
pub use self::refund::{Refund, RefundIf};
pub use self::service::RateLimit;
