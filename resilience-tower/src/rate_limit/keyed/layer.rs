use std::fmt;

use resilience_core::rate_limit::KeyedRateLimiter;
use tower_layer::Layer;

use super::KeyedRateLimit;

/// Puts a [`KeyedRateLimit`] around a service.
///
/// All services made by one layer, and by its clones, draw on the same quotas.
#[must_use]
pub struct KeyedRateLimitLayer<K, F> {
    limiter: KeyedRateLimiter<K>,
    key: F,
}

impl<K, F> KeyedRateLimitLayer<K, F> {
    /// A layer whose services count each call for the key that `key` finds in the request.
    ///
    /// `key` is a `Fn(&Request) -> K`. It runs in every call; a key that must be built on
    /// the heap (a `String`) is the one allocation of this layer.
    pub fn new(limiter: KeyedRateLimiter<K>, key: F) -> Self {
        Self { limiter, key }
    }

    /// The limiter.
    pub fn handle(&self) -> &KeyedRateLimiter<K> {
        &self.limiter
    }
}

impl<K, F, S> Layer<S> for KeyedRateLimitLayer<K, F>
where
    F: Clone,
{
    type Service = KeyedRateLimit<S, K, F>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyedRateLimit::new(inner, self.limiter.clone(), self.key.clone())
    }
}

// By hand: `K` itself is not cloned.
impl<K, F: Clone> Clone for KeyedRateLimitLayer<K, F> {
    fn clone(&self) -> Self {
        Self {
            limiter: self.limiter.clone(),
            key: self.key.clone(),
        }
    }
}

// By hand: closures have no `Debug`.
impl<K, F> fmt::Debug for KeyedRateLimitLayer<K, F>
where
    KeyedRateLimiter<K>: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimitLayer")
            .field("limiter", &self.limiter)
            .finish_non_exhaustive()
    }
}
