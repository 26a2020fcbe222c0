//! The cache.

use std::fmt::Debug;

use futures_util::future::BoxFuture;

/// A key-value cache. Whatever it answers, a payment never fails because of it.
pub trait Cache: Debug + Send + Sync {
    /// The value under `key`, if there is one.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>, CacheError>>;

    /// Stores `value` unless a value of a higher version is there.
    fn put<'a>(
        &'a self,
        key: &'a str,
        version: i64,
        value: String,
    ) -> BoxFuture<'a, Result<(), CacheError>>;

    /// Drops the value under `key`.
    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), CacheError>>;
}

/// The cache did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the cache is not available: {reason}")]
pub struct CacheError {
    /// Why, for the log.
    pub reason: String,
}
