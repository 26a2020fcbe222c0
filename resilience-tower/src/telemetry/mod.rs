//! What policies and calls look like from outside: metrics by the facade of crate `metrics` (feature
//! `metrics`), spans and events by crate `tracing` (feature `tracing`). Each goes without the other.
//!
//! | what | by | told |
//! |---|---|---|
//! | figures of policies: state, calls that run, refusals | `Collector` (feature `metrics`) | when it publishes |
//! | durations, outcomes and attempts of calls | [`TelemetryLayer`] | when a call ends |
//! | changes of policies | `events` (feature `tracing`) | when they happen |
//!
//! Without the two features nothing of this is compiled, and with them the policies are the same:
//! they count for themselves, and the collector reads what they have counted. Only the layer, where
//! it is put, is part of a call.
//!
//! # Where it stands
//!
//! [`TelemetryLayer::call`] outermost, so that it sees what the caller sees, and
//! [`TelemetryLayer::attempt`] inside of the retry and outside of all that refuses an attempt:
//!
//! ```text
//! telemetry of the call
//! rate limit, deadline
//! retry
//! telemetry of an attempt
//! breaker, bulkhead, timeout
//! the client
//! ```
//!
//! Of a `stack` the first goes around it, and the second around the client: a stack has one error for
//! all its policies, which [`admission`](TelemetryLayer::admission) reads, and the attempts that it
//! refuses are in the figures of its policies (`Collector::add_stack`).
//!
//! # What a clone shares
//!
//! The handles on the metrics. A call is one call wherever its services were cloned.
//!
//! # What an operator must know
//!
//! - Install the recorder of `metrics` before the first call and the first `publish`: what was told
//!   to nobody is lost, and a layer goes on with the handles that it got.
//! - An exporter with an idle timeout forgets handles that are held: let it forget gauges only, or
//!   set none. The collector asks for its handles each time.
//! - `name` is a label value. Names come from the program, never from requests.
//! - Attempts are counted in the thread that polls the call. Those that run in another task (a
//!   buffer, a spawned hedge) are told, and not counted.
//! - A response body that is read afterwards is not part of the call.
//! - Two layers of one name and kind are one series, and add up.
//!
//! # What a call costs
//!
//! The layer allocates nothing once each of its handles was needed, and takes no lock. What
//! recorder and subscriber do is theirs.
//!
//! # Examples
//!
//! ```
//! use resilience_tower::telemetry::TelemetryLayer;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let payments = ServiceBuilder::new()
//!     .layer(TelemetryLayer::call("payments"))
//!     .service(service_fn(async |amount: u32| Ok::<_, std::io::Error>(amount)));
//! assert_eq!(payments.oneshot(12).await.unwrap(), 12);
//! # }
//! ```
//!
#![doc = include_str!("../../TELEMETRY.md")]

#[cfg(feature = "metrics")]
mod collector;
#[cfg(feature = "metrics")]
mod family;
#[cfg(feature = "metrics")]
mod meters;
#[cfg(feature = "metrics")]
mod samples;
#[cfg(feature = "metrics")]
mod source;

mod attempts;
#[cfg(feature = "tracing")]
pub mod events;
mod future;
mod layer;
mod outcome;
mod record;
mod scope;
mod service;
#[cfg(feature = "tracing")]
mod span;

#[cfg(feature = "metrics")]
pub use self::collector::Collector;
pub use self::future::ResponseFuture;
pub use self::layer::TelemetryLayer;
#[cfg(feature = "http")]
pub use self::outcome::InResponse;
pub use self::outcome::{ByAdmission, ByOutcome, Ended, Judge, Refusal};
pub use self::service::Telemetry;
#[cfg(feature = "metrics")]
pub use self::source::Source;
