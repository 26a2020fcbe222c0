use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use resilience_core::adaptive::{OwnedPermit, Refused};
use resilience_core::breaker::{Classify, Outcome};

use super::Error;

/// The response of an [`Adaptive`](super::Adaptive).
///
/// # Cancel safety
///
/// Dropping the future drops the inner future and gives the place back; the call says nothing
/// about the upstream.
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
        // `None` once the outcome is booked.
        permit: Option<OwnedPermit>,
        classifier: C,
    },
    // `Copy`, so that polling again cannot panic.
    Refused {
        refused: Refused,
    },
}

impl<F, C> ResponseFuture<F, C> {
    #[inline]
    pub(super) const fn called(inner: F, permit: OwnedPermit, classifier: C) -> Self {
        Self {
            kind: Kind::Called {
                inner,
                permit: Some(permit),
                classifier,
            },
        }
    }

    pub(super) const fn refused(refused: Refused) -> Self {
        Self {
            kind: Kind::Refused { refused },
        }
    }
}

impl<F, C, T, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<T, E>>,
    C: Classify<T, E>,
{
    type Output = Result<T, Error<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Called {
                inner,
                permit,
                classifier,
            } => {
                let result = ready!(inner.poll(cx));
                if let Some(permit) = permit.take() {
                    // Should the classifier panic, the unwinding gives the permit back.
                    book(permit, classifier.classify(result.as_ref()));
                }
                Poll::Ready(result.map_err(Error::Inner))
            }
            KindProj::Refused { refused } => Poll::Ready(Err(Error::Refused(*refused))),
        }
    }
}

fn book(permit: OwnedPermit, outcome: Outcome) {
    match outcome {
        Outcome::Success => permit.success(),
        // Most failures that a classifier of the breaker knows are timeouts and upstreams that
        // cannot any more. To take a timeout for an answer would raise the limit of one that is
        // down.
        Outcome::Failure | Outcome::Overloaded { .. } => permit.overloaded(),
        // More kinds of outcome may come.
        _ => permit.ignore(),
    }
}
