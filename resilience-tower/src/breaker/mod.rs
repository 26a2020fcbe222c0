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
//! | is not made, as the inner service's `poll_ready` failed | nothing: no call was admitted |
//!
//! When that is known, and by what, is the layer's [`Judge`]:
//!
//! | method of [`BreakerLayer`] | judged | for |
//! |---|---|---|
//! | `classify` | when the response future completes; a body that breaks afterwards is not seen | any service |
//! | `classify_by` | the same, by a function of the request | outcomes that depend on what was asked |
//! | `http` (feature `http`) | when the head of the response is there, by its status | HTTP |
//! | `classify_body` (feature `http`) | at the head if that is no success, else at the end of the body | HTTP bodies that may break |
//! | `grpc` (feature `http`) | by `grpc-status`, in the headers or the trailers | gRPC clients and servers |
//!
//! The breaker's own settings need nothing of the layer: durations (slow calls, `on_cancel`) are
//! taken by the breaker's clock from the admission to the outcome. Judged at the end of the body,
//! a call therefore lasts as long as its body is read.
//!
//! # How a refusal is told
//!
//! As [`Error::Rejected`] from the call, typed, without touching the inner service. At the edge of
//! a server, `into_response` (503, `Retry-After`, problem+json) or `into_grpc_response`
//! (`UNAVAILABLE`) makes a response of it, and the error is the inner service's again:
//! `Infallible` for axum and tonic. See `refusal` (feature `http`).
//!
//! # One breaker, or one per key
//!
//! [`BreakerLayer::keyed`] takes a bounded registry of breakers and a function from the request to
//! its key; what becomes of a new key when the registry is full is said by [`OnFull`]. Anything
//! else that can choose a breaker implements [`Permits`].
//!
//! # Where it stands
//!
//! Inside a retry, so that every attempt is judged and a refusal can end the retrying; inside
//! a rate limit, so that a refusal by quota is not taken for a failure of the upstream (where a
//! policy must stand within, [`IgnoreRefused`](crate::admission::IgnoreRefused) ignores what it refuses);
//! outside the timeout of one attempt, so that a slow upstream is a failure. One
//! breaker guards one upstream: put it below whatever picks the upstream, or key it by what
//! was picked. A timeout further out drops the call; `on_cancel` can tell it from a client that
//! leaves early by how long the call ran.
//!
//! # What a clone shares
//!
//! Clones of a layer or a service share one breaker, as do all services that one layer
//! makes. Two layers made by [`BreakerLayer::new`] share nothing, even if their names
//! are equal; to share, use [`BreakerLayer::from_handle`].
//!
//! # What an operator must know
//!
//! Around a whole server it judges the server's own answers: keep health checks out of it, and
//! remember that it refuses everybody when one route is broken. Give each route its own. Where limits
//! within answer for themselves, judge by `admission::IgnoreRefusedResponse`.
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
mod keyed;
mod layer;
mod permits;
mod service;
pub(crate) mod unwind;

pub use self::error::Error;
pub use self::future::ResponseFuture;
pub use self::judge::{ByRequest, Judge, JudgeCall, OnResult, Record};
pub use self::keyed::{Keyed, OnFull};
pub use self::layer::BreakerLayer;
pub use self::permits::Permits;
pub use self::service::Breaker;
