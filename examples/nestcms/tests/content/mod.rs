//! Users, projects, contracts, earnings and articles: over HTTP, through the cache, in each store.

mod api;
mod bounded;
mod cached;
pub(crate) mod contract;
mod postgres;
mod redis;
