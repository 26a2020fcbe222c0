//! Whole stacks of policies: presets, stacks of one's own, and stacks out of a file.
//!
//! A [`Stack`] is one layer with one error, one record of what was decided
//! ([`Admission`](crate::admission::Admission)) and one [`Handle`] to all its policies.
//!
//! | made by | order and settings |
//! |---|---|
//! | [`outbound`], [`background`], [`store`], [`inbound`] | known to work; `configure` changes some |
//! | [`compose`] | one's own; an order that does not work does not compile |
//! | [`Stack::from_description`] | those of a [`Description`], from TOML or JSON (feature `serde`); an order that does not work is refused, with the reason |
//!
//! # The order, and why
//!
//! Outside in. Every policy may be left out, unless another one needs it.
//!
//! | policy | stands there, because |
//! |---|---|
//! | rate limit | it refuses what clients send too much before anything is spent on it. Inside of retry it would count attempts; that is the upstream quota |
//! | deadline | all waits and attempts are within it. Retry needs it: attempts and waits would go on after the caller has given up |
//! | retry | each attempt is judged, limited and timed on its own. Inside of the breaker, that would see one outcome for several attempts; inside of the bulkhead a call would keep its place while it waits |
//! | hedge | each attempt and its hedge are judged and limited on their own. Inside of the breaker a probe would be two calls; inside of the bulkhead two would run in one place |
//! | breaker | it refuses before a place is taken or waited for. It needs the attempt timeout inside: a timeout outside drops the attempt, and an upstream that hangs would never be seen as failing |
//! | bulkhead, adaptive limit | outside of the attempt timeout, so that a wait in line does not use up the upstream's time. One of the two: both decide how many calls run at once |
//! | upstream quota | only what reaches the upstream uses it up |
//! | attempt timeout | it is the upstream's time alone |
//!
//! Load shedding, fallback, cache and coalesce go around a stack, chaos and balancing within it, as
//! layers of their own.
//!
//! Wrong orders do not compile. A retry inside of the breaker:
//!
//! ```compile_fail,E0599
//! # use std::time::Duration;
//! # use resilience_core::breaker::Config;
//! # use resilience_tower::stack;
//! let stack = stack::compose("payments")
//!     .deadline(Duration::from_secs(2))
//!     .breaker(Config::builder())
//!     .retry(stack::Retry::default())
//!     .attempt_timeout(Duration::from_millis(500))
//!     .build();
//! ```
//!
//! A breaker whose only timeout is outside:
//!
//! ```compile_fail,E0599
//! # use std::time::Duration;
//! # use resilience_core::breaker::Config;
//! # use resilience_tower::stack;
//! let stack = stack::compose("payments")
//!     .deadline(Duration::from_secs(2))
//!     .breaker(Config::builder())
//!     .build();
//! ```
//!
//! An attempt timeout outside of the breaker:
//!
//! ```compile_fail,E0277
//! # use std::time::Duration;
//! # use resilience_core::breaker::Config;
//! # use resilience_tower::stack;
//! let stack = stack::compose("payments")
//!     .attempt_timeout(Duration::from_millis(500))
//!     .breaker(Config::builder());
//! ```
//!
//! A retry without a deadline:
//!
//! ```compile_fail,E0599
//! # use std::time::Duration;
//! # use resilience_tower::stack;
//! let stack = stack::compose("payments")
//!     .retry(stack::Retry::default())
//!     .attempt_timeout(Duration::from_millis(500))
//!     .build();
//! ```
//!
//! A bulkhead outside of retry, which would hold its place while it waits:
//!
//! ```compile_fail,E0599
//! # use std::time::Duration;
//! # use resilience_core::bulkhead::Config;
//! # use resilience_tower::stack;
//! let stack = stack::compose("payments")
//!     .deadline(Duration::from_secs(2))
//!     .bulkhead(Config::builder())
//!     .retry(stack::Retry::default())
//!     .attempt_timeout(Duration::from_millis(500))
//!     .build();
//! ```
//!
//! A bulkhead outside of the breaker:
//!
//! ```compile_fail,E0277
//! # use std::time::Duration;
//! # use resilience_core::{breaker, bulkhead};
//! # use resilience_tower::stack;
//! let stack = stack::compose("payments")
//!     .bulkhead(bulkhead::Config::builder())
//!     .breaker(breaker::Config::builder())
//!     .attempt_timeout(Duration::from_millis(500))
//!     .build();
//! ```
//!
//! Bulkhead and adaptive limit both:
//!
//! ```compile_fail,E0277
//! # use std::time::Duration;
//! # use resilience_core::{adaptive, bulkhead};
//! # use resilience_tower::stack;
//! let stack = stack::compose("payments")
//!     .bulkhead(bulkhead::Config::builder())
//!     .adaptive(adaptive::Config::builder())
//!     .attempt_timeout(Duration::from_millis(500))
//!     .build();
//! ```
//!
//! A deadline inside, for what is outside of it to wait as long as it likes:
//!
//! ```compile_fail,E0277
//! # use std::time::Duration;
//! # use resilience_core::bulkhead::Config;
//! # use resilience_tower::stack;
//! let stack = stack::compose("payments")
//!     .bulkhead(Config::builder())
//!     .deadline(Duration::from_secs(2))
//!     .build();
//! ```
//!
//! The same policies in their order do:
//!
//! ```
//! # use std::time::Duration;
//! # use resilience_core::{breaker, bulkhead};
//! # use resilience_tower::stack;
//! let stack = stack::compose("payments")
//!     .deadline(Duration::from_secs(2))
//!     .retry(stack::Retry::default())
//!     .breaker(breaker::Config::builder())
//!     .bulkhead(bulkhead::Config::builder())
//!     .attempt_timeout(Duration::from_millis(500))
//!     .build()?;
//! # Ok::<(), stack::DescriptionError>(())
//! ```
//!
//! # What a decision means further out
//!
//! | decided | for the breaker | for a retry |
//! |---|---|---|
//! | the attempt took too long | a failure | tried again |
//! | the deadline came in the line of the bulkhead | as a call that is dropped | the end; the line gives its turn to nobody whose deadline is over |
//! | the deadline came during an attempt | as a call that is dropped: `on_cancel` decides | the end |
//! | refused by bulkhead or adaptive limit | nothing | the end: asked again at once it would only be refused again. Who would rather wait has a line |
//! | refused by the upstream quota | nothing | not before the quota has a permit |
//! | refused by the breaker | | not before the breaker admits a probe; the end when it was forced open |
//!
//! A retry that would have to wait beyond the deadline, or for longer than `max_retry_after`, is not
//! begun: the refusal is the answer, at once, with its `retry_after`.
//!
//! # What a clone shares
//!
//! All policies. Make one stack per upstream and clone what it makes.
//!
//! # What an operator must know
//!
//! - Plain stacks and those for gRPC send nothing again: `http` knows which requests may be, `repeatable`
//!   says that all may, and `replay` with [`HttpReplay`](crate::retry::http::HttpReplay) that calls with
//!   an `Idempotency-Key` may.
//! - An adaptive limit, a breaker and a budget learn about one upstream. Two stacks to the same one
//!   know half each; share the stack, or at least the [budget](Stack::budget).
//! - Settings change while calls run ([`Handle::apply`]); name and order do not.
//!
//! # Examples
//!
//! With HTTP; the same layer goes around a client of hyper or reqwest:
//!
//! ```
//! # #[cfg(feature = "http")]
//! # mod example {
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use resilience_tower::retry::http::ReplayBody;
//! use resilience_tower::stack;
//! use tower::{ServiceBuilder, service_fn};
//!
//! type Body = ReplayBody<Full<bytes::Bytes>>;
//!
//! # pub fn example() {
//! let stack = stack::outbound("payments").http();
//! let handle = stack.handle();
//! let payments = ServiceBuilder::new().layer(stack).service(service_fn(
//!     async |_: Request<Body>| Ok::<_, std::io::Error>(Response::new(())),
//! ));
//! # let _ = tower::ServiceExt::<Request<Full<bytes::Bytes>>>::oneshot(payments, Request::default());
//! # let _ = handle;
//! # }
//! # }
//! ```

mod base;
mod classify;
mod compose;
mod describe;
mod envelope;
mod error;
mod handle;
mod hedged;
#[cfg(feature = "http")]
pub mod http;
mod layer;
mod order;
mod parts;
mod places;
mod presets;
mod retried;
mod service;
mod slot;
mod total;
mod traffic;

pub use self::classify::Classifies;
pub use self::compose::{Compose, OutsideOf, compose};
pub use self::describe::{
    AttemptTimeout, Backoff, Budget, Deadline, Description, DescriptionError, Quota, Retry,
};
pub use self::error::Error;
pub use self::handle::Handle;
pub use self::layer::Stack;
pub use self::presets::{background, inbound, outbound, store};
pub use self::service::{Kind, ResponseFuture, Stacked};
pub use self::traffic::{Once, Tell, Traffic};
