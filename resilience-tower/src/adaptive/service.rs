use std::task::{Context, Poll};

use resilience_core::adaptive::AdaptiveLimit;
use resilience_core::breaker::Classify;
use tower_service::Service;

use super::{Error, ResponseFuture};

/// A service that runs as many calls at once as its upstream bears, and refuses others.
///
/// Clones share the limit. `poll_ready` asks the inner service alone and takes nothing: a clone that
/// is ready and never called holds no place.
#[derive(Clone, Debug)]
pub struct Adaptive<S, C> {
    inner: S,
    limit: AdaptiveLimit,
    classifier: C,
}

impl<S, C> Adaptive<S, C> {
    /// Limits the calls to `inner` by `limit`; see [`AdaptiveLayer`](super::AdaptiveLayer).
    pub fn new(inner: S, limit: AdaptiveLimit, classifier: C) -> Self {
        Self {
            inner,
            limit,
            classifier,
        }
    }

    /// The limit, for reading its figures or changing its settings.
    pub fn handle(&self) -> &AdaptiveLimit {
        &self.limit
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

impl<S, C, Req> Service<Req> for Adaptive<S, C>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S::Future, C>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        // Should `clone` or `inner.call` panic, the unwinding gives the permit back.
        match self.limit.try_acquire_owned() {
            Ok(permit) => {
                let classifier = self.classifier.clone();
                ResponseFuture::called(self.inner.call(req), permit, classifier)
            }
            Err(refused) => ResponseFuture::refused(refused),
        }
    }
}
