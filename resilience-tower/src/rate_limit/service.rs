use std::task::{Context, Poll};

use resilience_core::rate_limit::RateLimiter;
use tower_service::Service;

use super::{Answer, AsError, Ask, Limit, ResponseFuture};

/// A service whose calls draw on a limit, and are refused at once when it is used up.
///
/// Clones share the limit. `poll_ready` asks the inner service alone and takes nothing: who
/// calls, and at what cost, is known only when the request is there. A refused call ends, by
/// default, in [`Error::Limited`](super::Error::Limited), which says how long to wait.
#[derive(Clone, Debug)]
pub struct RateLimit<S, L = RateLimiter, A = AsError> {
    inner: S,
    limit: L,
    answer: A,
}

impl<S, L> RateLimit<S, L> {
    /// Limits the calls to `inner` by `limit`; refusals are errors.
    pub fn new(inner: S, limit: L) -> Self {
        Self::with_answer(inner, limit, AsError)
    }
}

impl<S, L, A> RateLimit<S, L, A> {
    /// Limits the calls to `inner` by `limit`; `answer` says what becomes of them.
    pub fn with_answer(inner: S, limit: L, answer: A) -> Self {
        Self {
            inner,
            limit,
            answer,
        }
    }

    /// The limit, for its figures or to change its quota.
    pub fn limit(&self) -> &L {
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

impl<S, L, A, Req> Service<Req> for RateLimit<S, L, A>
where
    S: Service<Req>,
    L: Limit<Req>,
    A: Answer<S::Response, S::Error> + Clone,
{
    type Response = A::Response;
    type Error = A::Error;
    type Future = ResponseFuture<S::Future, A>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner
            .poll_ready(cx)
            .map_err(|error| self.answer.not_ready(error))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        // Here and not in `poll_ready`: a clone that is ready and never called would
        // otherwise cost a unit.
        match self.limit.admit(&req, Ask::new(1).with_quota(A::QUOTA)) {
            Ok(admission) => {
                let note = self.answer.note(&admission);
                ResponseFuture::admitted(self.inner.call(req), note, self.answer.clone())
            }
            Err(refusal) => {
                let kept = self.answer.keep(&refusal);
                ResponseFuture::refused(kept, self.answer.clone())
            }
        }
    }
}
