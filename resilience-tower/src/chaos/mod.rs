//! Calls that take longer, fail or never answer, on purpose: to see how the layers around take it.
//!
//! The rules (rates, seeds, the switch) are those of [`resilience_core::chaos`].
//!
//! | fault | what happens |
//! |---|---|
//! | latency | the inner service is called at once, and its answer kept back for so long |
//! | error | the inner service is not called; the answer is what [`errors`](ChaosLayer::errors) or `status` makes, else [`Injected::Error`] |
//! | abort | the inner service is not called; the call fails as [`Injected::Disconnected`], or never answers |
//!
//! # Where it stands
//!
//! Innermost, around the client: it stands for the network and the upstream, and every other layer is
//! to be tried against it. Two of them, with a handle and a predicate each, hit two kinds of
//! request differently.
//!
//! # What a clone shares
//!
//! The handle: switch, settings, counts, and the sequence of what is drawn.
//!
//! # What an operator must know
//!
//! - It may stay in a production build. Switched off, which it is to begin with, a call costs one
//!   relaxed load; nothing but [`switch_on`](resilience_core::chaos::Chaos::switch_on) changes that, no
//!   setting either.
//! - A call that never answers is ended by a timeout further out, and by nothing else.
//! - Work that an answer reports is done, also when the answer is kept back and dropped by an
//!   impatient caller: that is what a slow network does.
//! - Where calls run at the same time, which of them gets the n-th fate depends on who comes first.
//!
//! # Examples
//!
//! ```
//! use resilience_core::chaos::{Chaos, Config};
//! use resilience_tower::chaos::{ChaosLayer, Error};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let chaos = Chaos::new(Config::builder().error_rate(1.0).build().unwrap());
//! let mut service = ServiceBuilder::new()
//!     .layer(ChaosLayer::new(chaos.clone()).only(|word: &&str| word.starts_with("test")))
//!     .service(service_fn(async |word: &'static str| Ok::<_, std::io::Error>(word)));
//! assert!(service.ready().await.unwrap().call("test").await.is_ok());
//! chaos.switch_on();
//! let hit = service.ready().await.unwrap().call("test").await;
//! assert!(matches!(hit, Err(Error::Injected(_))));
//! assert!(service.ready().await.unwrap().call("spared").await.is_ok());
//! # }
//! ```

mod error;
mod faults;
mod future;
mod layer;
mod service;

pub use self::error::{Error, Injected};
#[cfg(feature = "http")]
pub use self::faults::Status;
pub use self::faults::{AnyRequest, Errors, Faults, Only};
pub use self::future::ResponseFuture;
pub use self::layer::ChaosLayer;
pub use self::service::Chaos;
