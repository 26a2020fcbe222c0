//! A time limit for each call.
//!
//! The time runs from `call`, so that a response future that waits to be polled uses up its
//! time too. A timer is started only if the inner service does not answer at its first
//! poll. An answer that is there when the time is up wins over the time limit.
//!
//! # Where it stands
//!
//! Around one attempt: inside retry and breaker, so that a call that took too long is
//! retried and counted as a failure. A limit for the whole of the attempts is a
//! [`deadline`], which goes with the request and so is known to all that work on it.
//!
//! # What a clone shares
//!
//! Nothing but the duration: every call has its own time.
//!
//! # What an operator must know
//!
//! The inner future is dropped when the caller drops this one. Whether that stops the
//! work behind it is up to the inner service: a server may well finish a request
//! whose caller has gone.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//!
//! use resilience_tower::timeout::{Error, TimeoutLayer};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let mut silent = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new(Duration::from_millis(5)))
//!     .service(service_fn(async |(): ()| {
//!         std::future::pending::<Result<(), std::io::Error>>().await
//!     }));
//!
//! let answer = silent.ready().await.unwrap().call(()).await;
//! assert!(matches!(answer, Err(Error::Elapsed(_))));
//! # }
//! ```

mod alarm;
pub mod deadline;
mod error;
mod future;
mod layer;
mod service;

pub use self::error::{Elapsed, Error};
pub use self::future::ResponseFuture;
pub use self::layer::TimeoutLayer;
pub use self::service::Timeout;
