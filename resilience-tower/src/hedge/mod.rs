//! A call that takes longer than most gets a second attempt beside the first; the first answer
//! counts.
//!
//! The rules (when, how many, the budget, what is measured) are those of [`resilience_core::hedge`].
//!
//! | question | answer |
//! |---|---|
//! | which answer is that of the call? | the first success, by the classifier that also judges for the breaker; of an attempt that fails while another runs nothing is heard |
//! | and if all fail? | the result of the attempt that ended last; no hedge begins once none runs, for that is what a retry is for |
//! | what becomes of the losers? | their futures are dropped at once |
//! | an upstream that says it is overloaded? | no more hedges of that call |
//! | which requests? | those that [`Replay`](crate::retry::Replay) keeps: it decides. There is no default that clones whatever comes |
//! | a hedge whose service is not ready? | waits for it, paid for, while the other attempts run; given back if they end before |
//!
//! # Where it stands
//!
//! Inside of retries, whose attempts it makes shorter, and of the deadline of the call; outside of
//! breaker, bulkhead and attempt timeout, so that a hedge is judged and limited as every attempt is,
//! and outside of what picks the endpoint: a hedge to the same slow one is seldom of use. Attempts
//! that lose are dropped, which a breaker within counts by its `on_cancel`.
//!
//! # What a clone shares
//!
//! Policy, measured latency and budget. Share the budget with the retries of the same upstream; inside
//! of them with [`HedgePolicy::inside_retry`](resilience_core::hedge::HedgePolicy::inside_retry), so that
//! a call earns once.
//!
//! # What an operator must know
//!
//! - A hedge helps against an endpoint that is slow by chance, and not against an upstream that is
//!   slow as a whole: then the budget runs dry, and calls are as slow as they are.
//! - With the quantile 0.95 about 5 % of the calls ask for a hedge. When more than that are slow for
//!   good (one endpoint of ten), the quantile is the slow time and hedges hardly help: lower it, and
//!   give the budget the share.
//! - Whether dropping an attempt stops the work behind it is up to the upstream.
//! - One policy per kind of call: what takes long by nature is hedged late, or always.
//!
//! # Examples
//!
//! ```
//! use std::sync::atomic::{AtomicBool, Ordering};
//! use std::time::Duration;
//!
//! use resilience_core::hedge::{Config, HedgePolicy};
//! use resilience_core::retry::RetryBudget;
//! use resilience_tower::hedge::{CloneIf, HedgeLayer};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let config = Config::builder().fixed_delay(Duration::from_millis(20)).build().unwrap();
//! let policy = HedgePolicy::new(config, RetryBudget::default());
//!
//! let first = AtomicBool::new(true);
//! let client = service_fn(|word: &'static str| {
//!     let stuck = first.swap(false, Ordering::Relaxed);
//!     async move {
//!         if stuck { std::future::pending().await } else { Ok::<_, std::io::Error>(word) }
//!     }
//! });
//! let may = CloneIf(|word: &&str| word.starts_with("get"));
//! let service = HedgeLayer::new(policy.clone(), may).layer(client);
//! assert_eq!(service.oneshot("get it").await.unwrap(), "get it");
//! assert_eq!(policy.snapshot().won, 1);
//! # }
//! ```

mod future;
#[cfg(feature = "http")]
pub mod http;
mod layer;
mod replay;
mod service;

pub use self::future::ResponseFuture;
pub use self::layer::HedgeLayer;
pub use self::replay::CloneIf;
pub use self::service::Hedge;
