//! A quota per key.
//!
//! The key comes from the request, by a function given to the layer. What cannot be
//! trusted in a request cannot be trusted as a key: a client address must come from the
//! connection or from a proxy known to be ours, else a client picks a new key per call.
//!
//! # What an operator must know
//!
//! The limiter holds at most `max_keys` keys ([`KeyedRateLimiter::new`]). Size it well above
//! the number of keys seen in the time a quota takes to recover.
//!
//! [`KeyedRateLimiter::new`]: resilience_core::rate_limit::KeyedRateLimiter::new
//!
//! # Examples
//!
//! ```
//! use resilience_core::rate_limit::{KeyedRateLimiter, Quota};
//! use resilience_tower::rate_limit::keyed::KeyedRateLimitLayer;
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! struct Request {
//!     tenant: u64,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let limiter = KeyedRateLimiter::new(Quota::per_minute(1).unwrap(), 10_000);
//! let mut service = ServiceBuilder::new()
//!     .layer(KeyedRateLimitLayer::new(limiter, |request: &Request| request.tenant))
//!     .service(service_fn(async |_: Request| Ok::<_, std::io::Error>("done")));
//!
//! assert!(service.ready().await.unwrap().call(Request { tenant: 1 }).await.is_ok());
//! assert!(service.ready().await.unwrap().call(Request { tenant: 1 }).await.is_err());
//! assert!(service.ready().await.unwrap().call(Request { tenant: 2 }).await.is_ok());
//! # }
//! ```

mod layer;
mod service;

pub use self::layer::KeyedRateLimitLayer;
pub use self::service::KeyedRateLimit;
