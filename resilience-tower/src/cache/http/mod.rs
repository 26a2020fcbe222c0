//! HTTP responses that are kept.
//!
//! Which requests have a key, and which responses are for more than one caller, is as in
//! [`coalesce::http`](crate::coalesce::http). For how long a response is kept is up to the rule: this
//! is not a cache in the sense of RFC 9111, for it reads neither `Cache-Control` (but for `private`
//! and `no-store`, which keep a response out), nor `Age`, nor `Expires`, of requests or of responses,
//! and sends no conditional requests. Changes by other methods (a PUT) invalidate nothing by themselves.
//!
//! With axum finish the router by `.with_state(())`: calls under way are shared by one service and its
//! clones, and `axum::serve` makes services for each connection. (Entries are the store's.)
//!
//! Responses say in their extensions where they came from
//! ([`CacheStatus`](super::CacheStatus)), which as text is what a `Cache-Status` field (RFC 9211)
//! has to say.
//!
//! ```
//! use std::convert::Infallible;
//! use std::time::Duration;
//!
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{Empty, Full};
//! use resilience_core::cache::Config;
//! use resilience_tower::cache::http::{Head, HttpCacheLayer};
//! use resilience_tower::cache::{CacheStatus, Keep, Store};
//! use resilience_tower::coalesce::http::HttpKey;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let store = Store::new(Config::default());
//! let rule = |head: &Head<'_>| match head.status.as_u16() {
//!     200 => Keep::fresh_for(Duration::from_secs(60)).tag("prices"),
//!     404 => Keep::negative_for(Duration::from_secs(1)),
//!     _ => Keep::not(),
//! };
//! let prices = ServiceBuilder::new()
//!     .layer(HttpCacheLayer::new(store.clone(), HttpKey::new(), rule))
//!     .service(service_fn(async |_: Request<Empty<Bytes>>| {
//!         Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("1.99"))))
//!     }));
//! for expected in ["fwd=miss", "hit; ttl=59"] {
//!     let request = Request::new(Empty::new());
//!     let response = prices.clone().oneshot(request).await.unwrap();
//!     let status = response.extensions().get::<CacheStatus>().unwrap();
//!     assert_eq!(status.to_string(), expected);
//! }
//! assert_eq!(store.invalidate_tag("prices"), 1);
//! # }
//! ```

mod layer;
mod rules;

pub use self::layer::HttpCacheLayer;
pub use self::rules::{Head, HttpRules};
