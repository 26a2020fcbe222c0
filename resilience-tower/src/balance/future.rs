use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use resilience_core::balance::Pick;
use tower_service::Service;

use super::service::{Candidate, Sought};
use super::waiting::Seat;
use super::{Any, Balance, CriteriaOf, Error};
use crate::breaker::unwind::DropOnUnwind;
use crate::breaker::{Judge, JudgeCall};

/// The response of a [`Balance`]: the readiness of an endpoint if none was ready, then its answer.
///
/// # Cancel safety
///
/// Dropping the future drops the endpoint's, and the call is not in flight there any more. It says
/// nothing about the endpoint, except that it would have taken longer. A call that waits gives up
/// its place.
///
/// If the endpoint's future panics, the call is a failure, also when the panic is caught and the
/// future dropped later.
#[pin_project]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<S: Service<Req>, Req, J: Judge<Req>, C = Any> {
    #[pin]
    kind: Kind<S, Req, S::Future, S::Error, J, J::Call, C>,
}

#[pin_project(project = KindProj)]
enum Kind<S, Req, F, E, J, K, C> {
    Called {
        #[pin]
        inner: F,
        // `None` once the outcome is told, or is the body's to tell.
        pick: Option<Pick<S>>,
        judge: K,
    },
    // `None` once it is told.
    Failed(Option<Error<E>>),
    // `None` only for a moment.
    Waiting(Option<Wait<S, Req, J, C>>),
}

/// A call that waits until one of its candidates is ready, or the endpoints change.
struct Wait<S, Req, J, C> {
    balance: Balance<S, J, C>,
    request: Req,
    candidates: Vec<Candidate<S>>,
    seat: Seat,
}

impl<S: Service<Req>, Req, J: Judge<Req>, C> ResponseFuture<S, Req, J, C> {
    #[inline]
    pub(super) fn called(inner: S::Future, pick: Pick<S>, judge: J::Call) -> Self {
        let pick = Some(pick);
        Self {
            kind: Kind::Called { inner, pick, judge },
        }
    }

    pub(super) fn failed(error: Error<S::Error>) -> Self {
        Self {
            kind: Kind::Failed(Some(error)),
        }
    }

    pub(super) fn waiting(
        balance: Balance<S, J, C>,
        request: Req,
        candidates: Vec<Candidate<S>>,
        seat: Seat,
    ) -> Self {
        let wait = Wait {
            balance,
            request,
            candidates,
            seat,
        };
        Self {
            kind: Kind::Waiting(Some(wait)),
        }
    }
}

impl<S, Req, J, C> Future for ResponseFuture<S, Req, J, C>
where
    S: Service<Req> + Clone,
    J: Judge<Req>,
    J::Call: JudgeCall<S::Response, S::Error, Pick<S>>,
    C: CriteriaOf<Req>,
{
    type Output =
        Result<<J::Call as JudgeCall<S::Response, S::Error, Pick<S>>>::Response, Error<S::Error>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.kind.as_mut().project() {
                KindProj::Called { inner, pick, judge } => {
                    let armed = DropOnUnwind(pick);
                    let polled = inner.poll(cx);
                    armed.disarm();
                    let result = ready!(polled);
                    if let (Ok(_), Some(pick)) = (&result, pick.as_mut()) {
                        pick.answered();
                    }
                    // Should the judge panic, the unwinding drops the pick: a failure.
                    return Poll::Ready(judge.end(pick.take(), result).map_err(Error::Inner));
                }
                KindProj::Failed(error) => {
                    return error
                        .take()
                        .map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
                }
                KindProj::Waiting(wait) => {
                    let Some(waiting) = wait.take() else {
                        return Poll::Pending;
                    };
                    let next = match waiting.poll(cx) {
                        Ok(Sought::Called(inner, pick, judge)) => Kind::Called {
                            inner,
                            pick: Some(pick),
                            judge,
                        },
                        Ok(Sought::Failed(error)) => Kind::Failed(Some(error)),
                        Ok(Sought::Waits(..)) => return Poll::Pending,
                        Err(waiting) => {
                            *wait = Some(waiting);
                            return Poll::Pending;
                        }
                    };
                    this.kind.set(next);
                }
            }
        }
    }
}

impl<S, Req, J, C> Wait<S, Req, J, C>
where
    S: Service<Req> + Clone,
    J: Judge<Req>,
    C: CriteriaOf<Req>,
{
    /// What it came to, or that it waits on.
    fn poll(mut self, cx: &mut Context<'_>) -> Result<Sought<S, Req, J::Call>, Self> {
        // Before the candidates are asked: what changes meanwhile wakes this task.
        while self.seat.has_changed(cx.waker()) {
            // Some may be gone, or new. The search begins anew, with endpoints of now.
            match self.balance.seek(self.request, cx) {
                Sought::Waits(request, candidates) => {
                    self.request = request;
                    self.candidates = candidates;
                }
                sought => return Ok(sought),
            }
        }
        let mut failed = None;
        let mut index = 0;
        while let Some(candidate) = self.candidates.get_mut(index) {
            match candidate.service.poll_ready(cx) {
                Poll::Pending => index += 1,
                Poll::Ready(ready) => {
                    let Candidate {
                        endpoint,
                        mut service,
                    } = self.candidates.remove(index);
                    let pick = endpoint.pick();
                    match ready {
                        Ok(()) => {
                            let judge = self.balance.judge_of(&self.request);
                            return Ok(Sought::Called(service.call(self.request), pick, judge));
                        }
                        Err(error) => {
                            pick.failure();
                            failed = Some(error);
                        }
                    }
                }
            }
        }
        match failed {
            Some(error) if self.candidates.is_empty() => Ok(Sought::Failed(Error::Inner(error))),
            _ => Err(self),
        }
    }
}

impl<S: Service<Req>, Req, J: Judge<Req>, C> fmt::Debug for ResponseFuture<S, Req, J, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.kind {
            Kind::Called { .. } => "called",
            Kind::Failed(_) => "failed",
            Kind::Waiting(_) => "waiting",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
