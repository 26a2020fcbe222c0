//! Answers are kept for the next calls with the same key.
//!
//! When an entry is fresh, stale or of no use is decided by [`resilience_core::cache`]; what is kept,
//! for how long and under which tags, by a rule of one's own ([`Rules`]).
//!
//! # What is answered
//!
//! | the entry is | answer |
//! |---|---|
//! | fresh, or negative | the entry |
//! | stale, within `stale_while_revalidate` | the entry, at once; it is renewed beside, by one call per key |
//! | stale, within `stale_if_error` | the inner service's; the entry, if that fails |
//! | too old, or none | the inner service's: one call for all that wait, as in [`coalesce`](crate::coalesce) |
//!
//! A failure is what the classifier calls one, the same that judges for the breaker; a panic and a
//! refusal are some as well. A renewal that fails is not tried again for `revalidation_pause`, or for
//! what the upstream asked; one that hangs is given up for another after the `join_within` of
//! [`coalesce`](resilience_core::coalesce::Config), when the next begins.
//!
//! # Invalidation
//!
//! [`Store::invalidate`] by key, [`Store::invalidate_tag`] by tag, [`Store::invalidate_all`]. What
//! a call brings that began before is not kept, and nobody who comes after joins it: the change and the
//! call may have met in either order. Who waits for it already gets its answer.
//!
//! # Where it stands
//!
//! Outside of all that protects the upstream, retries included, which then sees only what is not
//! known; inside of rate limits and authorisation, which look at each caller.
//!
//! # What a clone shares
//!
//! Entries and calls under way. Two services of one [`Store`] share the entries alone.
//!
//! # What an operator must know
//!
//! Entries are bounded by weight ([`max_weight`](resilience_core::cache::ConfigBuilder::max_weight)),
//! and [`ENTRY`] is added to each, with its key and tags, so that small ones have an end as well. Which
//! ones leave is up to the crate `moka` (TinyLFU: a new entry may lose to those that are asked for more
//! often). Time is that of the store's clock alone. An entry of no use stays until another takes its
//! place.
//!
//! Renewals run on the tokio runtime of the caller, or where [`Spawn`] says: nobody waits for them.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//!
//! use resilience_core::cache::Config;
//! use resilience_tower::cache::{ByRule, CacheLayer, Keep, Store};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let store = Store::new(Config::default());
//! let rules = ByRule::new(|user: Result<&String, &&str>| match user {
//!     Ok(_) => Keep::fresh_for(Duration::from_secs(60)).tag("users"),
//!     Err(_) => Keep::not(),
//! });
//! let users = ServiceBuilder::new()
//!     .layer(CacheLayer::new(store.clone(), |id: &u64| Some(*id), rules))
//!     .service(service_fn(async |id: u64| Ok::<_, &str>(format!("user {id}"))));
//! for _ in 0..3 {
//!     assert_eq!(users.clone().oneshot(7).await.unwrap(), "user 7");
//! }
//! assert_eq!((store.snapshot().misses, store.snapshot().hits), (1, 2));
//! assert_eq!(store.invalidate_tag("users"), 1);
//! # }
//! ```

mod counters;
mod fill;
mod future;
#[cfg(feature = "http")]
pub mod http;
mod index;
mod jobs;
mod layer;
mod rules;
mod service;
mod status;
mod store;

pub use self::counters::Snapshot;
pub use self::future::ResponseFuture;
pub use self::jobs::{OnTokio, Spawn, Task};
pub use self::layer::CacheLayer;
pub use self::rules::{ByRule, Keep, Rules};
pub use self::service::Cache;
pub use self::status::{CacheStatus, Source};
pub use self::store::{ENTRY, Store};
pub use crate::coalesce::Error;
