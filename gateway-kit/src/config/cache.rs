//! `[cache]` and `[cache_store]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ByteSize;
use super::check::{Bounds, Place, TIME, bounds};

/// `[cache]`: answers are kept for later requests, as far as RFC 9111 allows a shared cache.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct CacheConfig {
    /// Most bytes of a body that is kept; longer ones are passed on at once. Default 1 MiB; at
    /// most an eighth of `cache_store.max_bytes`.
    pub max_object: ByteSize,
    /// Longest wait of a request for the same one that is on its way already, and of the first
    /// one for the end of its answer; default 5 s.
    #[serde(with = "super::Human")]
    pub wait: Duration,
    /// Requests with cookies use the cache as well; default false. Right where no answer of the
    /// route depends on one.
    pub cookies: bool,
    /// Does what a client says of its wish for a newer answer (`no-cache`, `max-age`,
    /// `min-fresh`); default false, as each such request costs the upstream one.
    pub client_refresh: bool,
    /// Tells with `Cache-Status` (RFC 9211) what the cache did; default true.
    pub status: bool,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            max_object: ByteSize::new(1 << 20),
            wait: Duration::from_secs(5),
            cookies: false,
            client_refresh: false,
            status: true,
        }
    }
}

/// `[cache_store]`: what all that is kept may take.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct CacheStoreConfig {
    /// Most bytes, heads included; default 64 MiB.
    pub max_bytes: ByteSize,
    /// Most addresses; default 10 000.
    pub max_entries: usize,
}

impl Default for CacheStoreConfig {
    fn default() -> Self {
        Self {
            max_bytes: ByteSize::new(64 << 20),
            max_entries: 10_000,
        }
    }
}

impl CacheConfig {
    pub(super) fn check(&self, place: &mut Place<'_>) {
        place.at("cache").bounds(self);
    }

    /// Whether what is kept has a place in the store.
    pub(super) fn check_room(&self, store: &CacheStoreConfig, place: &mut Place<'_>) {
        // A shard holds a quarter, and its longest object must fit with its head.
        let most = store.max_bytes.bytes() / 8;
        if self.max_object.bytes() > most {
            let most = ByteSize::new(most);
            let reason = format!("must be at most {most}, an eighth of cache_store.max_bytes");
            place.at("cache.max_object").refuse(reason);
        }
    }
}

bounds! {
    CacheConfig {
        max_object: Bounds::bytes(1, MOST / 8),
        wait: TIME,
    }
}

bounds! {
    CacheStoreConfig {
        max_bytes: Bounds::bytes(1 << 20, MOST),
        max_entries: Bounds::whole(1, 10_000_000),
    }
}

/// The largest store.
const MOST: u64 = 1 << 40;
