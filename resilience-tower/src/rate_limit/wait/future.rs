use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use resilience_core::rate_limit::{
    RateLimiter,
    wait::{self, Waiter},
};
use tokio::time::{Instant, Sleep, sleep};
use tower_service::Service;

use super::turn::Turn;
use crate::rate_limit::{Admission, Answer, Keep, Refusal};

/// The response of a [`Wait`](super::Wait): first the turn, then the inner service's readiness,
/// then its answer.
///
/// # Cancel safety
///
/// Dropping the future gives its place up, or puts an unused turn back; once the inner service
/// was called it drops that future, and what the call cost stays taken.
///
/// # Panics
///
/// When it has to wait outside of a tokio runtime with time enabled.
#[pin_project]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<S: Service<Req>, Req, A: Keep> {
    #[pin]
    kind: Kind<S, Req, S::Future, A>,
    answer: A,
}

#[pin_project(project = KindProj)]
enum Kind<S, Req, F, A: Keep> {
    Waiting {
        waiter: Waiter,
        // Made by the first poll that has to wait: registering a timer takes a lock.
        #[pin]
        timer: Option<Sleep>,
        start: Start<S, Req>,
    },
    // `turn` and `request` are `None` only once the call began, and that is another kind.
    Readying {
        turn: Option<Turn>,
        note: A::Note,
        inner: S,
        request: Option<Req>,
    },
    Calling {
        #[pin]
        call: F,
        note: A::Note,
    },
    // `Copy`, so that polling again cannot panic.
    Refused(A::Kept),
}

/// What is needed once it is the call's turn; `None` when that was taken.
type Start<S, Req> = Option<(RateLimiter, u32, S, Req)>;

impl<S: Service<Req>, Req, A: Keep> ResponseFuture<S, Req, A> {
    pub(super) fn waiting(
        waiter: Waiter,
        limiter: RateLimiter,
        cost: u32,
        inner: S,
        request: Req,
        answer: A,
    ) -> Self {
        let kind = Kind::Waiting {
            waiter,
            timer: None,
            start: Some((limiter, cost, inner, request)),
        };
        Self { kind, answer }
    }

    pub(super) fn refused(refusal: &Refusal, answer: A) -> Self {
        let kind = Kind::Refused(answer.keep(refusal));
        Self { kind, answer }
    }
}

impl<S, Req, A> Future for ResponseFuture<S, Req, A>
where
    S: Service<Req>,
    A: Answer<S::Response, S::Error>,
{
    type Output = Result<A::Response, A::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.kind.as_mut().project() {
                KindProj::Waiting {
                    waiter,
                    timer,
                    start,
                } => {
                    let turn = ready!(poll_turn(waiter, timer, cx));
                    let Some((limiter, cost, inner, request)) = start.take() else {
                        // Only after a panic of the answer below, and there is nothing to call.
                        return Poll::Pending;
                    };
                    match turn {
                        Ok(admitted) => {
                            let admission =
                                Admission::new(0, admitted, Some(limiter.quota()), cost);
                            let turn = Turn::new(limiter, cost);
                            Kind::Readying {
                                note: this.answer.note(&admission),
                                turn: Some(turn),
                                inner,
                                request: Some(request),
                            }
                        }
                        Err(refused) => {
                            let refusal = Refusal::wait(refused, Some(limiter.quota()));
                            Kind::Refused(this.answer.keep(&refusal))
                        }
                    }
                }
                KindProj::Readying {
                    turn,
                    note,
                    inner,
                    request,
                } => {
                    if let Err(error) = ready!(inner.poll_ready(cx)) {
                        // Nothing was called.
                        *turn = None;
                        return Poll::Ready(Err(this.answer.not_ready(error)));
                    }
                    let (Some(turn), Some(request)) = (turn.take(), request.take()) else {
                        return Poll::Pending;
                    };
                    turn.used();
                    Kind::Calling {
                        call: inner.call(request),
                        note: *note,
                    }
                }
                KindProj::Calling { call, note } => {
                    let result = ready!(call.poll(cx));
                    return Poll::Ready(this.answer.admitted(*note, result));
                }
                KindProj::Refused(kept) => return Poll::Ready(this.answer.refused(kept)),
            };
            this.kind.set(next);
        }
    }
}

/// Polls the waiter, and a timer for as long as it says to wait.
fn poll_turn(
    waiter: &mut Waiter,
    mut timer: Pin<&mut Option<Sleep>>,
    cx: &mut Context<'_>,
) -> Poll<Result<resilience_core::rate_limit::Admitted, wait::WaitRefused>> {
    loop {
        let wait = match waiter.poll(cx.waker()) {
            wait::Turn::Admitted(admitted) => return Poll::Ready(Ok(admitted)),
            wait::Turn::Refused(refused) => return Poll::Ready(Err(refused)),
            wait::Turn::Wait(wait) => wait,
            // More kinds of answer may come: to be asked again when woken.
            _ => return Poll::Pending,
        };
        match timer.as_mut().as_pin_mut() {
            Some(timer) => {
                let now = Instant::now();
                // So far in the future it is never.
                timer.reset(now.checked_add(wait).unwrap_or_else(|| now + YEAR));
            }
            None => timer.set(Some(sleep(wait))),
        }
        if let Some(timer) = timer.as_mut().as_pin_mut() {
            ready!(timer.poll(cx));
        }
    }
}

const YEAR: std::time::Duration = std::time::Duration::from_secs(365 * 86_400);

impl<S: Service<Req>, Req, A: Keep> fmt::Debug for ResponseFuture<S, Req, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.kind {
            Kind::Waiting { .. } => "waiting",
            Kind::Readying { .. } => "readying",
            Kind::Calling { .. } => "calling",
            Kind::Refused(_) => "refused",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
