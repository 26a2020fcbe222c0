use std::mem;
use std::task::{Context, Poll};

use tower_service::Service;

use super::{Decision, RemoteLimit, ResponseFuture};
use crate::rate_limit::{Answer, AsError, Ask};

/// A service whose calls draw on a limit that may have to ask elsewhere.
///
/// As [`RateLimit`](crate::rate_limit::RateLimit), but a call may have to wait for its decision. The
/// instance of the inner service that was polled ready waits with it, and is the one that is called;
/// a clone takes its place here.
#[derive(Clone, Debug)]
pub struct Remote<S, L, A = AsError> {
    inner: S,
    limit: L,
    answer: A,
}

impl<S, L> Remote<S, L> {
    /// Limits the calls to `inner` by `limit`; refusals are errors.
    pub fn new(inner: S, limit: L) -> Self {
        Self::with_answer(inner, limit, AsError)
    }
}

impl<S, L, A> Remote<S, L, A> {
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

impl<S, L, A, Req> Service<Req> for Remote<S, L, A>
where
    S: Service<Req> + Clone,
    L: RemoteLimit<Req>,
    A: Answer<S::Response, S::Error> + Clone,
{
    type Response = A::Response;
    type Error = A::Error;
    type Future = ResponseFuture<S, Req, A>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner
            .poll_ready(cx)
            .map_err(|error| self.answer.not_ready(error))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let answer = self.answer.clone();
        match self.limit.decide(&req, Ask::new(1).with_quota(A::QUOTA)) {
            Decision::Now(Ok(admission)) => {
                let note = answer.note(&admission);
                ResponseFuture::called(self.inner.call(req), note, answer)
            }
            Decision::Now(Err(refusal)) => ResponseFuture::refused(&refusal, answer),
            Decision::Later(later) => {
                let fresh = self.inner.clone();
                let ready = mem::replace(&mut self.inner, fresh);
                ResponseFuture::deciding(later, ready, req, answer)
            }
        }
    }
}
