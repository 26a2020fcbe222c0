//! Calls above the quota wait in line for their turn, in place of a refusal.
//!
//! [`RateLimitLayer::wait`](super::RateLimitLayer::wait) puts a bounded line in front of one
//! [`RateLimiter`](resilience_core::rate_limit::RateLimiter); its rules are those of
//! [`resilience_core::rate_limit::wait`]:
//!
//! - First come, first served, by the order of `call`. Nobody overtakes: while some wait, others
//!   that draw on the same limiter without waiting are refused.
//! - The time of a turn is known on arrival. A call that cannot have it within its
//!   [`max_wait`](Terms::max_wait), finds the line full, or costs more than the burst is refused at
//!   once, and told why and when it would have been its turn.
//! - Dropping the future gives the place up, and those behind move up. A turn that came and was not
//!   used (the future was dropped, or the inner service failed, before the call began) is put back.
//!
//! # Where the waiting happens
//!
//! In the response future, not in `poll_ready`, which is always ready: cost and deadline are
//! known only with the request; a clone that is ready and never called would hold up the line; and
//! a caller that waits for readiness could not be refused in time. So the inner service's readiness
//! is awaited by the future too, after the turn, so that a call that waits holds nothing
//! of the inner service. For that the inner service is cloned for each call.
//!
//! # Time
//!
//! Turns are exact on the limiter's clock; the task that waits is woken by tokio's timer, whose
//! step is a millisecond. Turns are given when somebody in line is polled, so with a burst that comes
//! back in less than that step, less than the rate is used.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//!
//! use resilience_core::rate_limit::{Quota, RateLimiter};
//! use resilience_tower::rate_limit::RateLimitLayer;
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // An upstream that allows 1 000 per second and nothing above; at most 500 wait, up to 2 s.
//! let limiter = RateLimiter::new(Quota::per_second(1_000).unwrap().burst(1).unwrap());
//! let layer = RateLimitLayer::new(limiter).wait(500).max_wait(Duration::from_secs(2));
//! let mut upstream = ServiceBuilder::new()
//!     .layer(layer)
//!     .service(service_fn(async |word: &'static str| Ok::<_, std::io::Error>(word)));
//!
//! for _ in 0..3 {
//!     assert_eq!(upstream.ready().await.unwrap().call("hello").await.unwrap(), "hello");
//! }
//! # }
//! ```

mod future;
mod layer;
mod service;
mod terms;
mod turn;

pub use self::future::ResponseFuture;
pub use self::layer::WaitLayer;
pub use self::service::Wait;
pub use self::terms::{Terms, TermsOf};
