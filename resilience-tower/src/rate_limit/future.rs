use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;
use resilience_core::rate_limit::Limited;

use super::Error;

/// The response of a [`RateLimit`](super::RateLimit) or a
/// [`KeyedRateLimit`](super::keyed::KeyedRateLimit).
///
/// # Cancel safety
///
/// Dropping the future drops the inner future. The unit it cost is not given back.
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
    Admitted {
        #[pin]
        inner: F,
    },
    // `Limited` is `Copy`, so that polling again cannot panic.
    Limited {
        error: Limited,
    },
}

impl<F> ResponseFuture<F> {
    pub(super) fn admitted(inner: F) -> Self {
        Self {
            kind: Kind::Admitted { inner },
        }
    }

    pub(super) fn limited(error: Limited) -> Self {
        Self {
            kind: Kind::Limited { error },
        }
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, Error<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Admitted { inner } => inner.poll(cx).map_err(Error::Inner),
            KindProj::Limited { error } => Poll::Ready(Err(Error::Limited(*error))),
        }
    }
}
