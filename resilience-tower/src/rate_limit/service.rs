use std::task::{Context, Poll};

use resilience_core::rate_limit::RateLimiter;
use tower_service::Service;

use super::{Error, ResponseFuture};

/// A service whose calls draw on one quota.
///
/// Clones share the quota. `poll_ready` asks the inner service alone and takes nothing
/// from the quota; a call above it ends in [`Error::Limited`], which says how long to wait.
#[derive(Clone, Debug)]
pub struct RateLimit<S> {
    inner: S,
    limiter: RateLimiter,
}

impl<S> RateLimit<S> {
    /// Limits the calls to `inner` by `limiter`.
    pub fn new(inner: S, limiter: RateLimiter) -> Self {
        Self { inner, limiter }
    }

    /// The limiter.
    pub fn handle(&self) -> &RateLimiter {
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

impl<S, Req> Service<Req> for RateLimit<S>
where
    S: Service<Req>,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        // Here and not in `poll_ready`: a clone that is ready and never called would
        // otherwise cost a unit.
        match self.limiter.try_acquire() {
            Ok(_) => ResponseFuture::admitted(self.inner.call(req)),
            Err(limited) => ResponseFuture::limited(limited),
        }
    }
}
