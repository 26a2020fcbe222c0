//! A cache behind the cache breaker.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use resilience_core::breaker::{CircuitBreaker, Error};

use crate::{
    metrics::Metrics,
    ports::{Cache, CacheError},
};

/// Asks the inner cache only while the breaker admits it, and counts what comes of it.
#[derive(Clone, Debug)]
pub struct GuardedCache {
    inner: Arc<dyn Cache>,
    breaker: CircuitBreaker,
    tier: &'static str,
    metrics: Metrics,
}

impl GuardedCache {
    /// Puts `breaker` before `inner`, which is called `tier` in metrics.
    #[must_use]
    pub fn new(
        inner: Arc<dyn Cache>,
        tier: &'static str,
        breaker: CircuitBreaker,
        metrics: Metrics,
    ) -> Self {
        Self {
            inner,
            breaker,
            tier,
            metrics,
        }
    }
}

impl Cache for GuardedCache {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>, CacheError>> {
        Box::pin(async move {
            let found = self.breaker.call(self.inner.get(key)).await;
            let result = match &found {
                Ok(Some(_)) => "hit",
                Ok(None) => "miss",
                Err(_) => "error",
            };
            self.metrics.cache_request(self.tier, result);
            found.map_err(flatten)
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        version: i64,
        value: String,
    ) -> BoxFuture<'a, Result<(), CacheError>> {
        Box::pin(async move {
            let put = self.inner.put(key, version, value);
            self.breaker.call(put).await.map_err(flatten)
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), CacheError>> {
        Box::pin(async move {
            self.breaker
                .call(self.inner.remove(key))
                .await
                .map_err(flatten)
        })
    }
}

fn flatten(error: Error<CacheError>) -> CacheError {
    match error {
        Error::Inner(inner) => inner,
        other => CacheError {
            reason: other.to_string(),
        },
    }
}
