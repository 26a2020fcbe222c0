use resilience_core::rate_limit::{KeyedRateLimiter, RateLimiter};
use tower_layer::Layer;

use super::keyed::Keyed;
use super::{AsError, RateLimit, WithCost};

/// Puts a [`RateLimit`] around a service.
///
/// All services made by one layer, and by its clones, draw on one limit.
#[derive(Clone, Debug)]
#[must_use]
pub struct RateLimitLayer<L = RateLimiter, A = AsError> {
    limit: L,
    answer: A,
}

impl<L> RateLimitLayer<L> {
    /// A layer whose services draw on `limit`: a [`RateLimiter`], or any other
    /// [`Limit`](super::Limit).
    pub fn new(limit: L) -> Self {
        Self {
            limit,
            answer: AsError,
        }
    }

    /// A layer whose refusals are what `answer` makes of them, in place of errors.
    pub fn answer<A>(self, answer: A) -> RateLimitLayer<L, A> {
        RateLimitLayer {
            limit: self.limit,
            answer,
        }
    }
}

impl<K: ?Sized, F> RateLimitLayer<Keyed<K, F>> {
    /// A layer whose services count each call for the key that `key` finds in the request; short
    /// for `new(Keyed::new(limiter, key))`.
    pub fn keyed(limiter: KeyedRateLimiter<K>, key: F) -> Self {
        Self::new(Keyed::new(limiter, key))
    }
}

impl<L, A> RateLimitLayer<L, A> {
    /// Each call costs what `cost`, a `Fn(&Request) -> u32`, finds in the request, in place of 1.
    pub fn cost<F>(self, cost: F) -> RateLimitLayer<WithCost<L, F>, A> {
        RateLimitLayer {
            limit: WithCost::new(self.limit, cost),
            answer: self.answer,
        }
    }

    pub(super) fn map_answer<B>(self, map: impl FnOnce(A) -> B) -> RateLimitLayer<L, B> {
        RateLimitLayer {
            limit: self.limit,
            answer: map(self.answer),
        }
    }

    #[cfg(any(feature = "redis", feature = "wait"))]
    pub(super) fn into_parts(self) -> (L, A) {
        (self.limit, self.answer)
    }

    /// The limit, for its figures or to change its quota.
    pub fn limit(&self) -> &L {
        &self.limit
    }
}

impl<S, L: Clone, A: Clone> Layer<S> for RateLimitLayer<L, A> {
    type Service = RateLimit<S, L, A>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimit::with_answer(inner, self.limit.clone(), self.answer.clone())
    }
}
