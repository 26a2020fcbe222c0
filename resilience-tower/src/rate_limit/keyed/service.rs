use std::fmt;
use std::hash::Hash;
use std::task::{Context, Poll};

use resilience_core::rate_limit::KeyedRateLimiter;
use tower_service::Service;

use crate::rate_limit::{Error, ResponseFuture};

/// A service whose calls draw on one quota per key.
///
/// Clones share the quotas. `poll_ready` asks the inner service alone: whose quota counts is
/// known only when the request is there.
pub struct KeyedRateLimit<S, K, F> {
    inner: S,
    limiter: KeyedRateLimiter<K>,
    key: F,
}

impl<S, K, F> KeyedRateLimit<S, K, F> {
    /// Limits the calls to `inner` by `limiter`, each for the key that `key` finds in the
    /// request.
    pub fn new(inner: S, limiter: KeyedRateLimiter<K>, key: F) -> Self {
        Self {
            inner,
            limiter,
            key,
        }
    }

    /// The limiter.
    pub fn handle(&self) -> &KeyedRateLimiter<K> {
        &self.limiter
    }

    /// The limited service.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Gives the limited service back.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, K, F, Req> Service<Req> for KeyedRateLimit<S, K, F>
where
    S: Service<Req>,
    K: Hash + Eq + Clone,
    F: Fn(&Req) -> K,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        match self.limiter.try_acquire(&(self.key)(&req)) {
            Ok(_) => ResponseFuture::admitted(self.inner.call(req)),
            Err(limited) => ResponseFuture::limited(limited),
        }
    }
}

// By hand: `K` itself is not cloned.
impl<S: Clone, K, F: Clone> Clone for KeyedRateLimit<S, K, F> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            limiter: self.limiter.clone(),
            key: self.key.clone(),
        }
    }
}

// By hand: closures have no `Debug`.
impl<S: fmt::Debug, K, F> fmt::Debug for KeyedRateLimit<S, K, F>
where
    KeyedRateLimiter<K>: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimit")
            .field("inner", &self.inner)
            .field("limiter", &self.limiter)
            .finish_non_exhaustive()
    }
}
