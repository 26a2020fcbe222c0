//! At most so many calls at once; others are refused, or wait in a bounded line.
//!
//! The rules (who is next, who is refused, what a change does) are those of
//! [`resilience_core::bulkhead`]. A call runs from `call` until its response is there or its future
//! is dropped; a response body that is read afterwards is not counted.
//!
//! # Where it stands
//!
//! Inside of breaker and retry, so that a refusal is not a failure of the upstream (classify it as
//! ignored) and each attempt takes a place of its own; outside of the timeout of an attempt, so
//! that the wait in line does not use up the upstream's time.
//!
//! # What a clone shares
//!
//! The limit, and the line.
//!
//! # Deadlines
//!
//! Say `honour_deadline` (feature `timeout`) after `wait`, and no call waits longer than until the
//! deadline in its request; one whose deadline is over is refused at once, without a place in line.
//! A [`DeadlineLayer`](https://docs.rs/resilience-tower/latest/resilience_tower/timeout/deadline/struct.DeadlineLayer.html)
//! further out puts it there.
//!
//! # Where the waiting happens
//!
//! In the response future, not in `poll_ready`, which is always ready then: the priority is known
//! only with the request, and a clone that is ready and never called would hold up the line. The
//! inner service's readiness is awaited after the turn, for which it is cloned for each call.
//!
//! # What an operator must know
//!
//! - A place in line is memory and a caller that waits: a line longer than what is worked off in
//!   `max_wait` only delays refusals.
//! - With a bulkhead per key the upstream bears the limit times the keys in use. A second bulkhead
//!   around all of them says how much that may be.
//!
//! # Examples
//!
//! ```
//! use resilience_core::bulkhead::{Bulkhead, Config};
//! use resilience_tower::bulkhead::{BulkheadLayer, Error};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let reports = Bulkhead::new(Config::builder().limit(1).build().unwrap());
//! let mut service = ServiceBuilder::new()
//!     .layer(BulkheadLayer::new(reports))
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
mod keyed;
mod layer;
mod permits;
mod priority;
mod service;

pub use self::error::Error;
pub use self::future::{ResponseFuture, WaitFuture};
pub use self::keyed::{Keyed, OnFull};
pub use self::layer::{BulkheadLayer, WaitLayer};
pub use self::permits::Permits;
#[cfg(feature = "timeout")]
pub use self::priority::HonourDeadline;
pub use self::priority::{PriorityOf, SamePriority};
pub use self::service::{Bulkhead, Wait};
