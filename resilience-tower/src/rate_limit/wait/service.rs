use std::fmt;
use std::task::{Context, Poll};

use resilience_core::rate_limit::wait::WaitQueue;
use tower_service::Service;

use super::{ResponseFuture, Terms, TermsOf};
use crate::rate_limit::{Answer, AsError, Refusal};

/// A service whose calls wait in line when the quota is used up.
///
/// Clones stand in the same line. `poll_ready` is always ready; see the [module](super) for why,
/// and for where the inner service's readiness is awaited.
#[derive(Clone)]
pub struct Wait<S, T = Terms, A = AsError> {
    inner: S,
    queue: WaitQueue,
    terms: T,
    answer: A,
}

impl<S, T, A> Wait<S, T, A> {
    /// Lets the calls to `inner` wait in `queue`, each on its `terms`; `answer` says what becomes
    /// of them.
    pub fn new(inner: S, queue: WaitQueue, terms: T, answer: A) -> Self {
        Self {
            inner,
            queue,
            terms,
            answer,
        }
    }

    /// The line and, with [`limiter`](WaitQueue::limiter), the limit.
    pub fn queue(&self) -> &WaitQueue {
        &self.queue
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

impl<S, T, A, Req> Service<Req> for Wait<S, T, A>
where
    S: Service<Req> + Clone,
    T: TermsOf<Req>,
    A: Answer<S::Response, S::Error> + Clone,
{
    type Response = A::Response;
    type Error = A::Error;
    type Future = ResponseFuture<S, Req, A>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let terms = self.terms.terms_of(&req);
        let answer = self.answer.clone();
        // The place is taken here and not by the first poll, so that first come is first called.
        match self.queue.enqueue(terms.cost, terms.max_wait) {
            Ok(waiter) => {
                let limiter = self.queue.limiter().clone();
                let inner = self.inner.clone();
                ResponseFuture::waiting(waiter, limiter, terms.cost, inner, req, answer)
            }
            Err(refused) => {
                let quota = self.queue.limiter().quota();
                ResponseFuture::refused(&Refusal::wait(refused, Some(quota)), answer)
            }
        }
    }
}

// By hand: closures have no `Debug`.
impl<S: fmt::Debug, T, A> fmt::Debug for Wait<S, T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("inner", &self.inner)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}
