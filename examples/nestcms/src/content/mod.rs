//! Users, projects, contracts, earnings and articles: read through a cache, written past it.
//!
//! ```text
//! read ──▶ near tier (this process) ──▶ far tier (Redis) ──▶ store
//! write ─▶ store ──▶ mark in both tiers: the next read fills them with what it wrote
//! ```
//!
//! Reads of one key that miss at the same time are one read of the store. A list is never cached;
//! an aggregation is, for a time of its own.

mod cached;
mod error;
mod retries;
mod service;

pub use cached::{CacheRules, Tiers};
pub use error::Error;
pub use service::{ContentService, Found, Ports, Written};
