use std::task::{Context, Poll};

use resilience_core::breaker::{CircuitBreaker, ResultClassifier};
use tower_service::Service;

use super::{Error, Judge, JudgeCall, OnResult, Permits, ResponseFuture};

/// A service that is called only while its circuit breaker permits it.
///
/// Clones share the breaker, or the breakers by key. `poll_ready` asks the inner service alone: a breaker that
/// refuses is *ready*, and tells its refusal in [`Error::Rejected`] from the call, so that
/// the caller gets the reason at once instead of waiting for the breaker to close.
#[derive(Clone, Debug)]
pub struct Breaker<S, J = OnResult<ResultClassifier>, P = CircuitBreaker> {
    inner: S,
    permits: P,
    judge: J,
}

impl<S> Breaker<S> {
    /// Guards `inner` by `breaker`; `Ok` is a success, `Err` a failure.
    pub fn new(inner: S, breaker: CircuitBreaker) -> Self {
        Self::from_parts(inner, breaker, OnResult(ResultClassifier))
    }
}

impl<S, C> Breaker<S, OnResult<C>> {
    /// Guards `inner` by `breaker`; `classifier` turns results into outcomes.
    pub fn with_classifier(inner: S, breaker: CircuitBreaker, classifier: C) -> Self {
        Self::from_parts(inner, breaker, OnResult(classifier))
    }
}

impl<S, J> Breaker<S, J> {
    /// The breaker, for reading its state or subscribing to its events.
    pub fn handle(&self) -> &CircuitBreaker {
        &self.permits
    }
}

impl<S, J, P> Breaker<S, J, P> {
    /// Guards `inner` by the breakers of `permits`; `judge` decides when and by what a call is
    /// judged.
    pub fn from_parts(inner: S, permits: P, judge: J) -> Self {
        Self {
            inner,
            permits,
            judge,
        }
    }

    /// Where the permits come from: the breaker, or the breakers by key.
    pub fn permits(&self) -> &P {
        &self.permits
    }

    /// The guarded service.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Gives the guarded service back.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, J, P, Req> Service<Req> for Breaker<S, J, P>
where
    S: Service<Req>,
    P: Permits<Req>,
    J: Judge<Req>,
    J::Call: JudgeCall<S::Response, S::Error>,
{
    type Response = <J::Call as JudgeCall<S::Response, S::Error>>::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S::Future, J::Call>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        // The permit is taken here and not in `poll_ready`: a clone may be ready and never
        // called, and would then sit on the only half-open permit.
        match self.permits.try_acquire(&req) {
            // Should `begin` or `inner.call` panic, the unwinding drops the permit: a failure.
            Ok(permit) => {
                let judge = self.judge.begin(&req);
                ResponseFuture::called(self.inner.call(req), permit, judge)
            }
            Err(rejected) => ResponseFuture::rejected(rejected),
        }
    }
}
