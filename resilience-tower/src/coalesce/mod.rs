//! Calls for the same key share one call of the inner service.
//!
//! The first call for a key goes to the inner service; those that come while it is under way wait
//! for its answer and get a clone of it. When it has ended the next call goes to the inner service
//! again: nothing is kept (that is what a cache does).
//!
//! # What is answered
//!
//! | question | answer |
//! |---|---|
//! | who polls the shared call? | those that wait for it: no task is spawned, and whoever is polled first after a wake moves it on |
//! | the first caller goes away? | nothing: the others go on with the same call. Before the first poll another begins in its place |
//! | all callers go away? | the call is dropped |
//! | a caller's deadline? | is its own. What the request carries of it is taken off by [`KeyOf::detach`], for HTTP that of `timeout::deadline` with the headers that it names; take off others further out |
//! | the call fails? | all get a clone of the error; or one does, and each of the others makes its own call ([`ShareAnswers`]) |
//! | the call panics? | all get [`Error::Panicked`]; the next call begins anew |
//! | the call hangs? | it is joined for `join_within`; who comes later begins another one |
//! | too many? | a call that would be above `max_keys` or `max_followers` is refused ([`Error::Refused`]) |
//!
//! # Where it stands
//!
//! Outside of all that protects the upstream (retry, breaker, bulkhead, attempt timeout), which then
//! sees one call instead of a thousand; inside of rate limits and authorisation, which look at each
//! caller. A timeout inside of it belongs to the shared call, one outside of it to each caller.
//!
//! # What a clone shares
//!
//! The calls under way. Two services that one layer made share settings and figures alone.
//!
//! # What an operator must know
//!
//! The inner service is polled by the tasks of several callers in turn: what it reads from its task
//! (a span, a task-local) is that of any of them. A key that lacks something that the answer depends
//! on gives one caller the answer of another; leave out of it what is a caller's alone only if the
//! answer is for everyone.
//!
//! The answer has to be `Clone`. HTTP bodies are read into memory for that, up to a limit: see
//! `http`.
//!
//! # Examples
//!
//! ```
//! use resilience_tower::coalesce::{CoalesceLayer, Coalescing};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let handle = Coalescing::default();
//! let users = ServiceBuilder::new()
//!     .layer(CoalesceLayer::new(handle.clone(), |id: &u64| Some(*id)))
//!     .service(service_fn(async |id: u64| {
//!         tokio::time::sleep(std::time::Duration::from_millis(50)).await;
//!         Ok::<_, &str>(format!("user {id}"))
//!     }));
//! let calls = (0..1000).map(|_| users.clone().oneshot(7));
//! for answer in futures_util::future::join_all(calls).await {
//!     assert_eq!(answer.unwrap(), "user 7");
//! }
//! assert_eq!((handle.snapshot().calls, handle.snapshot().followers), (1, 999));
//! # }
//! ```

mod error;
pub(crate) mod flight;
mod future;
pub(crate) mod group;
mod handle;
mod hashed;
#[cfg(feature = "http")]
pub mod http;
mod layer;
pub(crate) mod oneshot;
mod service;
mod share;
mod wakes;

pub use self::error::{Error, Panicked};
pub use self::future::ResponseFuture;
pub use self::handle::{Coalescing, Snapshot};
pub use self::layer::CoalesceLayer;
pub use self::service::Coalesce;
pub use self::share::{KeyFn, KeyOf, Share, ShareAll, ShareAnswers};
