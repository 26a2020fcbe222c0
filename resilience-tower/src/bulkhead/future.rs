use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use resilience_core::bulkhead::{OwnedPermit, Refused, Turn, Waiter};
use tokio::time::{Sleep, sleep};
use tower_service::Service;

use super::Error;

/// The response of a [`Bulkhead`](super::Bulkhead).
///
/// # Cancel safety
///
/// Dropping the future drops the inner future and gives the place back.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<F> {
    #[pin]
    kind: Kind<F>,
}

#[pin_project(project = KindProj)]
#[derive(Debug)]
enum Kind<F> {
    // The permit goes with the answer, or with the future.
    Called(#[pin] F, Option<OwnedPermit>),
    // `Copy`, so that polling again cannot panic.
    Refused(Refused),
}

impl<F> ResponseFuture<F> {
    #[inline]
    pub(super) const fn called(call: F, permit: Option<OwnedPermit>) -> Self {
        Self {
            kind: Kind::Called(call, permit),
        }
    }

    pub(super) const fn refused(refused: Refused) -> Self {
        Self {
            kind: Kind::Refused(refused),
        }
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, Error<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Called(call, permit) => {
                let result = ready!(call.poll(cx));
                *permit = None;
                Poll::Ready(result.map_err(Error::Inner))
            }
            KindProj::Refused(refused) => Poll::Ready(Err(Error::Refused(*refused))),
        }
    }
}

/// The response of a [`Wait`](super::Wait): first the turn, then the inner service's readiness,
/// then its answer.
///
/// # Panics
///
/// When it has to wait, for a limited time, outside of a tokio runtime with time enabled.
///
/// # Cancel safety
///
/// Dropping the future gives up its place in line, or gives the permit back.
#[pin_project]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct WaitFuture<S: Service<Req>, Req> {
    #[pin]
    kind: WaitKind<S, Req, S::Future>,
}

#[pin_project(project = WaitKindProj)]
enum WaitKind<S, Req, F> {
    Waiting {
        waiter: Waiter,
        // Made by the first poll that has to wait: registering a timer takes a lock.
        #[pin]
        timer: Option<Sleep>,
        start: Option<(S, Req)>,
    },
    // `None` only once the call began, and that is another kind.
    Readying(S, Option<(Option<OwnedPermit>, Req)>),
    Called(#[pin] ResponseFuture<F>),
}

impl<S: Service<Req>, Req> WaitFuture<S, Req> {
    pub(super) const fn waiting(waiter: Waiter, inner: S, request: Req) -> Self {
        let kind = WaitKind::Waiting {
            waiter,
            timer: None,
            start: Some((inner, request)),
        };
        Self { kind }
    }

    pub(super) const fn unlimited(inner: S, request: Req) -> Self {
        Self {
            kind: WaitKind::Readying(inner, Some((None, request))),
        }
    }

    pub(super) const fn refused(refused: Refused) -> Self {
        Self {
            kind: WaitKind::Called(ResponseFuture::refused(refused)),
        }
    }
}

impl<S: Service<Req>, Req> Future for WaitFuture<S, Req> {
    type Output = Result<S::Response, Error<S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.kind.as_mut().project() {
                WaitKindProj::Waiting {
                    waiter,
                    timer,
                    start,
                } => {
                    let turn = ready!(poll_turn(waiter, timer, cx));
                    match (turn, start.take()) {
                        (Ok(permit), Some((inner, request))) => {
                            WaitKind::Readying(inner, Some((Some(permit), request)))
                        }
                        (Err(refused), _) => WaitKind::Called(ResponseFuture::refused(refused)),
                        // Taken together with the turn, which is told once.
                        (Ok(_), None) => return Poll::Pending,
                    }
                }
                WaitKindProj::Readying(inner, start) => {
                    if let Err(error) = ready!(inner.poll_ready(cx)) {
                        *start = None;
                        return Poll::Ready(Err(Error::Inner(error)));
                    }
                    let Some((permit, request)) = start.take() else {
                        return Poll::Pending;
                    };
                    WaitKind::Called(ResponseFuture::called(inner.call(request), permit))
                }
                WaitKindProj::Called(call) => return call.poll(cx),
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
) -> Poll<Result<OwnedPermit, Refused>> {
    loop {
        let wait = match waiter.poll(cx.waker()) {
            Turn::Admitted(permit) => return Poll::Ready(Ok(permit)),
            Turn::Refused(refused) => return Poll::Ready(Err(refused)),
            Turn::Wait(Some(wait)) => wait,
            // Woken when the turn comes. More kinds of answer may come.
            _ => return Poll::Pending,
        };
        // The deadline does not move: one timer, unless the bulkhead's clock is another one.
        let rang = |timer: Pin<&Sleep>| timer.is_elapsed();
        if timer.as_ref().as_pin_ref().is_none_or(rang) {
            timer.set(Some(sleep(wait)));
        }
        if let Some(timer) = timer.as_mut().as_pin_mut() {
            ready!(timer.poll(cx));
        }
    }
}

impl<S: Service<Req>, Req> fmt::Debug for WaitFuture<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.kind {
            WaitKind::Waiting { .. } => "waiting",
            WaitKind::Readying(..) => "readying",
            WaitKind::Called(_) => "called",
        };
        f.debug_tuple("WaitFuture").field(&state).finish()
    }
}
