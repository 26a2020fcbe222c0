use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;

use super::{Answer, Keep};

/// The response of a [`RateLimit`](super::RateLimit).
///
/// # Cancel safety
///
/// Dropping the future drops the inner future. What the call cost is not given back.
#[pin_project]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<F, A: Keep> {
    #[pin]
    kind: Kind<F, A::Note, A::Kept>,
    answer: A,
}

#[pin_project(project = KindProj)]
#[derive(Debug)]
enum Kind<F, N, K> {
    Admitted {
        #[pin]
        inner: F,
        note: N,
    },
    // `Copy`, so that polling again cannot panic.
    Refused(K),
}

impl<F, A: Keep> ResponseFuture<F, A> {
    #[inline]
    pub(super) fn admitted(inner: F, note: A::Note, answer: A) -> Self {
        Self {
            kind: Kind::Admitted { inner, note },
            answer,
        }
    }

    #[inline]
    pub(super) fn refused(kept: A::Kept, answer: A) -> Self {
        Self {
            kind: Kind::Refused(kept),
            answer,
        }
    }
}

impl<F, A, T, E> Future for ResponseFuture<F, A>
where
    F: Future<Output = Result<T, E>>,
    A: Answer<T, E>,
{
    type Output = Result<A::Response, A::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.kind.project() {
            KindProj::Admitted { inner, note } => inner
                .poll(cx)
                .map(|result| this.answer.admitted(*note, result)),
            KindProj::Refused(kept) => Poll::Ready(this.answer.refused(kept)),
        }
    }
}

impl<F: fmt::Debug, A: Keep> fmt::Debug for ResponseFuture<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ResponseFuture");
        if let Kind::Admitted { inner, .. } = &self.kind {
            debug.field("inner", inner);
        }
        debug.finish_non_exhaustive()
    }
}
