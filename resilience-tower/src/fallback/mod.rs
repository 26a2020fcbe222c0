//! Another answer where the inner service has none: a value, or what a function finds.
//!
//! | question | answer |
//! |---|---|
//! | when? | when the classifier, the same that judges for the breaker, says that the call failed or that the upstream is overloaded |
//! | never when? | the answer is a success or [ignored](resilience_core::breaker::Outcome::Ignored); the caller gave up and dropped the call |
//! | who is told why? | a function: the [`Reason`]; an [`Answer`] of one's own also the result that is replaced ([`Failed`]); layers further out: [`FellBack`] in the extensions of an HTTP response |
//! | and if the fallback fails? | [`FallbackFailed`]: its error, with that of the inner service as source |
//!
//! # Stale answers
//!
//! The last good answer instead of none is what the layer `cache` gives (feature `cache`), by its
//! stale-if-error: it is bounded, knows how old its answers are and fills itself. Another store is
//! asked by [`function_of`](FallbackLayer::function_of), with the key of the request.
//!
//! # Where it stands
//!
//! Outside of everything that refuses or fails: breaker, retries, timeouts. It answers for the whole
//! call, so it stands inside of what must see it as answered, and outside of the deadline of the
//! call only if it takes no time. Its own future has no limit but those further out.
//!
//! # What a clone shares
//!
//! The counts.
//!
//! # What an operator must know
//!
//! - A fallback hides failures: watch [`Fallbacks::snapshot`], and put what counts failures inside.
//! - A fallback that calls another upstream moves all of the load there at the moment of an outage.
//!   Give it a limit and a breaker of its own.
//! - Without `http` a response is an answer whatever its status.
//! - A fallback that cannot fail, around a service that cannot, is a layer for axum as it is.
//!
//! # Examples
//!
//! ```
//! use resilience_tower::fallback::{FallbackLayer, Reason};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let guess = async |item: u32, reason: Reason| {
//!     println!("price of {item} guessed: {}", reason.as_str());
//!     if item < 10 { Ok(100) } else { Err("no guess") }
//! };
//! let mut prices = ServiceBuilder::new()
//!     .layer(FallbackLayer::function_of(|item: &u32| *item, guess))
//!     .service(service_fn(async |_: u32| Err::<u32, _>("no connection")));
//! assert_eq!(prices.ready().await.unwrap().call(7).await.unwrap(), 100);
//! let error = prices.ready().await.unwrap().call(12).await.unwrap_err();
//! assert_eq!(error.to_string(), "the fallback failed: no guess");
//! # }
//! ```

mod answer;
mod error;
mod future;
mod handle;
mod layer;
mod service;

#[cfg(feature = "http")]
pub use self::answer::InExtensions;
pub use self::answer::{Answer, Failed, Function, FunctionOf, Mark, Unmarked, Value};
pub use self::error::{Error, FallbackFailed, FellBack, Reason};
pub use self::future::ResponseFuture;
pub use self::handle::{Fallbacks, Snapshot};
pub use self::layer::FallbackLayer;
pub use self::service::Fallback;
