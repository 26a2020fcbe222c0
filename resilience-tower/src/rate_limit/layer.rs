use resilience_core::rate_limit::RateLimiter;
use tower_layer::Layer;

use super::RateLimit;

/// Puts a [`RateLimit`] around a service.
///
/// All services made by one layer, and by its clones, draw on one quota.
#[derive(Clone, Debug)]
#[must_use]
pub struct RateLimitLayer {
    limiter: RateLimiter,
}

impl RateLimitLayer {
    /// A layer whose services draw on `limiter`.
    pub fn new(limiter: RateLimiter) -> Self {
        Self { limiter }
    }

    /// The limiter.
    pub fn handle(&self) -> &RateLimiter {
        &self.limiter
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimit::new(inner, self.limiter.clone())
    }
}
