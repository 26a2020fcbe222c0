use std::mem;
use std::task::{Context, Poll};

use resilience_core::breaker::Classify;
use resilience_core::hedge::HedgePolicy;
use tokio::time::Instant;
use tower_service::Service;

use super::ResponseFuture;
use super::future::Plan;
use crate::retry::Replay;

/// A service whose slow calls get a second attempt beside the first.
///
/// `poll_ready` asks the inner service, and the first attempt goes to the very one that became
/// ready; so do hedges, once it is ready again.
#[derive(Clone, Debug)]
pub struct Hedge<S, C, R> {
    inner: S,
    policy: HedgePolicy,
    classifier: C,
    replay: R,
}

impl<S, C, R> Hedge<S, C, R> {
    /// See [`HedgeLayer`](super::HedgeLayer).
    pub fn new(inner: S, policy: HedgePolicy, classifier: C, replay: R) -> Self {
        Self {
            inner,
            policy,
            classifier,
            replay,
        }
    }

    /// The policy: its settings, its budget, its figures.
    pub fn policy(&self) -> &HedgePolicy {
        &self.policy
    }

    /// The service that is hedged.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Gives the service that is hedged back.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, C, R, Req> Service<Req> for Hedge<S, C, R>
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
        let again = self.policy.max_hedges() > 0;
        let deadline = self.replay.deadline(&req);
        let (request, kept) = self.replay.first(req, again);
        let (classifier, replay) = (self.classifier.clone(), self.replay.clone());
        let Some(kept) = kept else {
            self.policy.begin_unhedged();
            let first = self.inner.call(request);
            return ResponseFuture::new(first, None, None, classifier, replay);
        };
        let (call, attempt) = self.policy.begin();
        let due = call.delay().and_then(|delay| {
            let due = Instant::now().checked_add(delay)?;
            Some((delay, due))
        });
        let Some((delay, due)) = due else {
            let first = self.inner.call(request);
            return ResponseFuture::new(first, Some(attempt), None, classifier, replay);
        };
        // The one that is ready goes with the call; the next call begins with a fresh clone.
        let next = self.inner.clone();
        let mut service = mem::replace(&mut self.inner, next);
        let first = service.call(request);
        let plan = Plan {
            service,
            kept,
            call,
            delay,
            due,
            deadline,
            granted: None,
        };
        ResponseFuture::new(first, Some(attempt), Some(plan), classifier, replay)
    }
}
