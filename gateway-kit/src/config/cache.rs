//! `[cache]` and `[cache_store]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::load::{check_duration, check_range};
use super::{ByteSize, ConfigError};

/// `[cache]`: answers are kept for later requests, as far as RFC 9111 allows a shared cache.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    pub(super) fn check(&self, field: &dyn Fn(&str) -> String) -> Result<(), ConfigError> {
        check_duration(field("cache.wait"), self.wait)
    }

    /// Whether what is kept has a place in the store.
    pub(super) fn check_room(
        &self,
        store: &CacheStoreConfig,
        field: &dyn Fn(&str) -> String,
    ) -> Result<(), ConfigError> {
        // A shard holds a quarter, and its longest object must fit with its head.
        let most = store.max_bytes.bytes() / 8;
        let (most, bytes) = (size(most), size(self.max_object.bytes()));
        check_range(&field("cache.max_object"), bytes, 1..=most)
    }
}

impl CacheStoreConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check_range(
            "cache_store.max_bytes",
            size(self.max_bytes.bytes()),
            1 << 20..=1 << 40,
        )?;
        check_range("cache_store.max_entries", self.max_entries, 1..=10_000_000)
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
