//! What each policy tells a collector.

#[cfg(feature = "coalesce")]
mod answers;
mod attempts;
mod guards;
mod limits;
#[cfg(feature = "read-write")]
mod nodes;

use super::samples::Samples;

/// Gives a policy for as long as there is one.
pub(super) type WayBack<S> = Box<dyn Fn() -> Option<S> + Send + Sync>;

/// A policy that a [`Collector`](super::Collector) can publish. Sealed.
///
/// | handle | label `policy` |
/// |---|---|
/// | `breaker::CircuitBreaker`, `breaker::Registry` | `breaker` |
/// | `rate_limit::RateLimiter`, `LeasedRateLimiter`, `KeyedRateLimiter`; `RedisLimiter` of this crate's `rate_limit::redis` | `rate_limit` |
/// | `bulkhead::Bulkhead`, `bulkhead::Registry` | `bulkhead` |
/// | `adaptive::AdaptiveLimit` | `adaptive` |
/// | `load_shed::LoadShed` | `load_shed` |
/// | `retry::RetryPolicy`, with its budget | `retry` |
/// | `retry::RetryBudget` | `retry_budget` |
/// | `hedge::HedgePolicy`, with its budget | `hedge` |
/// | `deadline::Deadlines` | `deadline` |
/// | `balance::Balancer` | `balance` |
/// | `chaos::Chaos` | `chaos` |
/// | `Cluster` of this crate's `read_write`, with its budget | `read_write` |
/// | `Coalescing` of this crate's `coalesce` | `coalesce` |
/// | `Store` of this crate's `cache`, with its shared calls | `cache` |
/// | `Fallbacks` of this crate's `fallback` | `fallback` |
pub trait Source: Observe {}

impl<S: Observe> Source for S {}

/// The methods of [`Source`], which are not for others.
pub trait Observe: Sized + 'static {
    /// The value of the label `policy`.
    const POLICY: &'static str;

    fn way_back(&self) -> WayBack<Self>;

    fn observe(&self, samples: &mut Samples<'_>);
}

/// 1 for what is, 0 for what is not.
fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}
