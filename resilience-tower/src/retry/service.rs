use std::mem;
use std::task::{Context, Poll};

use resilience_core::breaker::Classify;
use resilience_core::retry::RetryPolicy;
use tower_service::Service;

use super::future::Again;
use super::{Replay, ResponseFuture};

/// A service whose failed calls are tried again.
///
/// `poll_ready` asks the inner service, and the first attempt goes to the very one that became
/// ready; so do later ones, once it is ready again.
#[derive(Clone, Debug)]
pub struct Retry<S, C, R> {
    inner: S,
    policy: RetryPolicy,
    classifier: C,
    replay: R,
}

impl<S, C, R> Retry<S, C, R> {
    /// See [`RetryLayer`](super::RetryLayer).
    pub fn new(inner: S, policy: RetryPolicy, classifier: C, replay: R) -> Self {
        Self {
            inner,
            policy,
            classifier,
            replay,
        }
    }

    /// The policy: its settings, its budget.
    pub fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    /// The service that is tried again.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Gives the service that is tried again back.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, C, R, Req> Service<Req> for Retry<S, C, R>
where
    S: Service<R::Request> + Clone,
    C: Classify<S::Response, S::Error> + Clone,
    R: Replay<Req> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req, C, R>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let again = self.policy.max_attempts() > 1;
        let deadline = self.replay.deadline(&req);
        let (request, kept) = self.replay.first(req, again);
        let attempts = self.policy.begin();
        let (classifier, replay) = (self.classifier.clone(), self.replay.clone());
        let Some(kept) = kept else {
            let first = self.inner.call(request);
            return ResponseFuture::new(first, None, attempts, deadline, classifier, replay);
        };
        // The one that is ready goes with the call; the next call begins with a fresh clone.
        let next = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, next);
        let first = ready.call(request);
        let again = Some(Again::new(ready, kept));
        ResponseFuture::new(first, again, attempts, deadline, classifier, replay)
    }
}
