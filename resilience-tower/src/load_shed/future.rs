use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use resilience_core::load_shed::{OwnedPermit, Shed};

use super::Error;

/// The response of a [`LoadShed`](super::LoadShed).
///
/// # Cancel safety
///
/// Dropping the future drops the inner future, and the call does not count as running any more.
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
    Shed(Shed),
}

impl<F> ResponseFuture<F> {
    #[inline]
    pub(super) const fn called(call: F, permit: OwnedPermit) -> Self {
        Self {
            kind: Kind::Called(call, Some(permit)),
        }
    }

    pub(super) const fn shed(shed: Shed) -> Self {
        Self {
            kind: Kind::Shed(shed),
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
            KindProj::Shed(shed) => Poll::Ready(Err(Error::Shed(*shed))),
        }
    }
}
