use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;

use super::{Answer, Refusal};

/// The response of a [`RateLimit`](super::RateLimit).
///
/// # Cancel safety
///
/// Dropping the future drops the inner future. What the call cost is not given back.
#[pin_project]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<F, A, N = ()> {
    #[pin]
    kind: Kind<F, N>,
    answer: A,
}

#[pin_project(project = KindProj)]
#[derive(Debug)]
enum Kind<F, N> {
    Admitted {
        #[pin]
        inner: F,
        note: N,
    },
    // `Refusal` is `Copy`, so that polling again cannot panic.
    Refused(Refusal),
}

impl<F, A, N> ResponseFuture<F, A, N> {
    #[inline]
    pub(super) fn admitted(inner: F, note: N, answer: A) -> Self {
        Self {
            kind: Kind::Admitted { inner, note },
            answer,
        }
    }

    #[inline]
    pub(super) fn refused(refusal: Refusal, answer: A) -> Self {
        Self {
            kind: Kind::Refused(refusal),
            answer,
        }
    }
}

impl<F, A, T, E> Future for ResponseFuture<F, A, A::Note>
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
            KindProj::Refused(refusal) => Poll::Ready(this.answer.refused(refusal)),
        }
    }
}

impl<F: fmt::Debug, A, N> fmt::Debug for ResponseFuture<F, A, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ResponseFuture");
        match &self.kind {
            Kind::Admitted { inner, .. } => debug.field("admitted", inner),
            Kind::Refused(refusal) => debug.field("refused", refusal),
        };
        debug.finish_non_exhaustive()
    }
}
