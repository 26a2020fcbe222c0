//! A deadline that goes with the request, and the time of an attempt within it.
//!
//! The rules (which limit counts, when it is too late to begin) are those of
//! [`resilience_core::deadline`]. Each call through the layer
//!
//! 1. takes the earliest of the deadline in the request, the time in its headers
//!    ([`http::Headers`]) and the layer's `total`;
//! 2. refuses the call when that is over, or nearer than `least`;
//! 3. leaves it in the request, for the layers within, and what this attempt may take in the
//!    headers, for the upstream;
//! 4. gives the inner service the `attempt` time, or what is left when that is less.
//!
//! The time runs from `call`. A timer is started only if the inner service does not answer at its
//! first poll. An answer that is there when the time is up wins.
//!
//! # Where it stands
//!
//! Twice. Outermost with a `total`, on a server with headers that are read: all within see the
//! deadline, and a retry that it would overtake is not begun. And around one attempt, inside of retry
//! and breaker, with `attempt` and headers that are written: a slow attempt is a failure to the
//! breaker, and every attempt tells the upstream what is left *then*.
//!
//! # What a clone shares
//!
//! Settings and counts: they are one [`Deadlines`](resilience_core::deadline::Deadlines). Every call
//! has its own time.
//!
//! # What an operator must know
//!
//! - A header that is read and not written is passed on as it came, and says too much by then: a
//!   gateway writes what it reads.
//! - A caller can only shorten what the settings allow. One that sends no time at all is refused at
//!   once.
//! - The inner future is dropped when the time is up. Whether that stops the work behind it is up to
//!   the upstream; the headers are for those that can give up by themselves.
//! - A refusal is no failure of the upstream: have the breaker ignore it, or put it inside.
//! - `least` is worth setting to what the fastest answers take: below it, work is wasted for sure.
//!
//! # Examples
//!
//! ```
//! # #[cfg(all(feature = "http", feature = "retry"))]
//! # async fn example() {
//! use std::time::Duration;
//!
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use resilience_core::deadline::{Config, Deadlines};
//! use resilience_core::retry::RetryPolicy;
//! use resilience_tower::retry::RetryLayer;
//! use resilience_tower::timeout::deadline::{DeadlineLayer, http::Headers};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! let total = Config::builder().total(Duration::from_secs(2)).build().unwrap();
//! let attempt = Config::builder().attempt(Duration::from_millis(500)).build().unwrap();
//! let service = ServiceBuilder::new()
//!     .layer(DeadlineLayer::new(Deadlines::new(total)))
//!     .layer(RetryLayer::new(RetryPolicy::default()).http())
//!     .layer(DeadlineLayer::new(Deadlines::new(attempt)).propagate(Headers::new().write_grpc()))
//!     .service(service_fn(async |request: Request<_>| {
//!         assert_eq!(request.headers()["grpc-timeout"], "500000u");
//! #       let _: &resilience_tower::retry::http::ReplayBody<Full<bytes::Bytes>> = request.body();
//!         Ok::<_, std::io::Error>(Response::new(()))
//!     }));
//! let request = Request::new(Full::<bytes::Bytes>::default());
//! assert!(service.oneshot(request).await.is_ok());
//! # }
//! # #[cfg(all(feature = "http", feature = "retry"))]
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(example());
//! ```

mod carried;
mod error;
mod future;
#[cfg(feature = "http")]
pub mod http;
mod layer;
mod propagate;
mod service;

pub use self::carried::{Deadline, HasDeadline};
pub use self::error::Error;
pub use self::future::ResponseFuture;
pub use self::layer::DeadlineLayer;
pub use self::propagate::{InProcess, Propagate};
pub use self::service::WithDeadline;
