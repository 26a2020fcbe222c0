use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;
use resilience_core::breaker::{OwnedPermit, Rejected};

use super::unwind::DropOnUnwind;
use super::{Error, JudgeCall};

/// The response of a [`Breaker`](super::Breaker).
///
/// # Cancel safety
///
/// Dropping the future drops the inner future and gives the permit back; the call is
/// booked as abandoned, and the breaker's `on_cancel` decides what that means. A
/// half-open permit is free again for the next caller.
///
/// If the inner future panics, the call is a failure, also when the panic is caught and
/// the future dropped later.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<F, J> {
    #[pin]
    kind: Kind<F, J>,
}

#[pin_project(project = KindProj)]
#[derive(Debug)]
enum Kind<F, J> {
    Called {
        #[pin]
        inner: F,
        // `None` once the outcome is recorded, and if no breaker guards the call.
        permit: Option<OwnedPermit>,
        judge: J,
    },
    // `Rejected` is `Copy`, so that polling again cannot panic.
    Rejected {
        error: Rejected,
    },
}

impl<F, J> ResponseFuture<F, J> {
    #[inline]
    pub(super) fn called(inner: F, permit: Option<OwnedPermit>, judge: J) -> Self {
        Self {
            kind: Kind::Called {
                inner,
                permit,
                judge,
            },
        }
    }

    pub(super) fn rejected(error: Rejected) -> Self {
        Self {
            kind: Kind::Rejected { error },
        }
    }
}

impl<F, J, T, E> Future for ResponseFuture<F, J>
where
    F: Future<Output = Result<T, E>>,
    J: JudgeCall<T, E>,
{
    type Output = Result<J::Response, Error<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Called {
                inner,
                permit,
                judge,
            } => {
                // Not taken out for the poll: moving it costs more than a poll that is ready.
                let armed = DropOnUnwind(permit);
                let polled = inner.poll(cx);
                armed.disarm();
                let Poll::Ready(result) = polled else {
                    return Poll::Pending;
                };
                // Should the judge panic, the unwinding drops the permit: a failure.
                Poll::Ready(judge.end(permit.take(), result).map_err(Error::Inner))
            }
            KindProj::Rejected { error } => Poll::Ready(Err(Error::Rejected(*error))),
        }
    }
}
