use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;
use resilience_core::breaker::{Classify, OwnedPermit, Rejected};

use super::Error;

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
pub struct ResponseFuture<F, C> {
    #[pin]
    kind: Kind<F, C>,
}

#[pin_project(project = KindProj)]
#[derive(Debug)]
enum Kind<F, C> {
    Called {
        #[pin]
        inner: F,
        // `None` while the inner future is polled, and once the outcome is recorded.
        permit: Option<OwnedPermit>,
        classifier: C,
    },
    // `Rejected` is `Copy`, so that polling again cannot panic.
    Rejected {
        error: Rejected,
    },
}

impl<F, C> ResponseFuture<F, C> {
    pub(super) fn called(inner: F, permit: OwnedPermit, classifier: C) -> Self {
        Self {
            kind: Kind::Called {
                inner,
                permit: Some(permit),
                classifier,
            },
        }
    }

    pub(super) fn rejected(error: Rejected) -> Self {
        Self {
            kind: Kind::Rejected { error },
        }
    }
}

impl<F, C, T, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<T, E>>,
    C: Classify<T, E>,
{
    type Output = Result<T, Error<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Called {
                inner,
                permit,
                classifier,
            } => {
                // Out of the future while the inner one runs: if it panics, this frame's
                // unwinding drops the permit, which then sees `thread::panicking()`. In
                // the future it would outlive a `catch_unwind` (tokio's tasks, hyper) and
                // be dropped later as merely abandoned.
                let held = permit.take();
                let Poll::Ready(result) = inner.poll(cx) else {
                    *permit = held;
                    return Poll::Pending;
                };
                if let Some(held) = held {
                    // A classifier that panics unwinds through `held` as well.
                    let outcome = classifier.classify(result.as_ref());
                    held.record(outcome);
                }
                Poll::Ready(result.map_err(Error::Inner))
            }
            KindProj::Rejected { error } => Poll::Ready(Err(Error::Rejected(*error))),
        }
    }
}
