use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use tower_service::Service;

use super::Later;
use crate::rate_limit::{Answer, Keep, Refusal};

/// The response of a [`Remote`](super::Remote): first the decision, then the inner service's answer.
///
/// # Cancel safety
///
/// Dropping the future drops what it waits for. What the call cost is not given back, nor, where
/// Redis was asked for it alone, what it may have cost.
///
/// # Panics
///
/// When it has to ask Redis outside of a tokio runtime with time and I/O enabled.
#[pin_project]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<S: Service<Req>, Req, A: Keep> {
    #[pin]
    kind: Kind<S, Req, S::Future, A>,
    answer: A,
}

#[pin_project(project = KindProj)]
enum Kind<S, Req, F, A: Keep> {
    Deciding {
        later: Later,
        // `None` only once the call began, and that is another kind.
        start: Option<(S, Req)>,
    },
    Calling {
        #[pin]
        call: F,
        note: A::Note,
    },
    // `Copy`, so that polling again cannot panic.
    Refused(A::Kept),
}

impl<S: Service<Req>, Req, A: Keep> ResponseFuture<S, Req, A> {
    pub(super) fn deciding(later: Later, inner: S, request: Req, answer: A) -> Self {
        let start = Some((inner, request));
        let kind = Kind::Deciding { later, start };
        Self { kind, answer }
    }

    #[inline]
    pub(super) fn called(call: S::Future, note: A::Note, answer: A) -> Self {
        let kind = Kind::Calling { call, note };
        Self { kind, answer }
    }

    #[inline]
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
                KindProj::Deciding { later, start } => {
                    let decided = ready!(later.as_mut().poll(cx));
                    let Some((mut inner, request)) = start.take() else {
                        // Only after a panic of the answer below, and there is nothing to call.
                        return Poll::Pending;
                    };
                    match decided {
                        Ok(admission) => Kind::Calling {
                            note: this.answer.note(&admission),
                            call: inner.call(request),
                        },
                        Err(refusal) => Kind::Refused(this.answer.keep(&refusal)),
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

impl<S: Service<Req>, Req, A: Keep> fmt::Debug for ResponseFuture<S, Req, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.kind {
            Kind::Deciding { .. } => "deciding",
            Kind::Calling { .. } => "calling",
            Kind::Refused(_) => "refused",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
