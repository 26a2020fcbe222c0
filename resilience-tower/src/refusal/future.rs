use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use pin_project::pin_project;

use super::service::answer;
use super::{RefusalBody, Refused};

/// The response of an [`IntoResponse`](super::IntoResponse).
///
/// # Cancel safety
///
/// Dropping the future drops the inner future, and nothing else.
#[pin_project]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<T, F> {
    #[pin]
    kind: Kind<T, F>,
}

#[pin_project(project = KindProj)]
enum Kind<T, F> {
    Called {
        #[pin]
        inner: T,
        refuse: F,
    },
    // `None` once the response was given out.
    Refused(Option<Box<Response<Bytes>>>),
}

impl<T, F> ResponseFuture<T, F> {
    pub(super) fn called(inner: T, refuse: F) -> Self {
        Self {
            kind: Kind::Called { inner, refuse },
        }
    }

    pub(super) fn refused(response: Box<Response<Bytes>>) -> Self {
        Self {
            kind: Kind::Refused(Some(response)),
        }
    }
}

impl<T, F, B, E> Future for ResponseFuture<T, F>
where
    T: Future<Output = Result<Response<B>, E>>,
    E: Refused,
    F: Fn(&E::Refusal) -> Response<Bytes>,
{
    type Output = Result<Response<RefusalBody<B>>, E::Inner>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Called { inner, refuse } => Poll::Ready(match ready!(inner.poll(cx)) {
                Ok(response) => Ok(response.map(RefusalBody::inner)),
                Err(error) => {
                    let refusal = error.into_refusal()?;
                    Ok(answer(refusal, refuse).map(RefusalBody::refusal))
                }
            }),
            KindProj::Refused(response) => match response.take() {
                Some(response) => Poll::Ready(Ok(response.map(RefusalBody::refusal))),
                // Polled after it was ready: there is nothing more to say.
                None => Poll::Pending,
            },
        }
    }
}

impl<T: fmt::Debug, F> fmt::Debug for ResponseFuture<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ResponseFuture");
        match &self.kind {
            Kind::Called { inner, .. } => debug.field("inner", inner),
            Kind::Refused(response) => debug.field("refused", response),
        };
        debug.finish_non_exhaustive()
    }
}
