use std::fmt;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use tower_service::Service;

use super::{RefusalBody, Refused, ResponseFuture};

/// A service whose refusals are responses; only the inner service's errors remain errors.
///
/// The typed refusal is in the response's extensions.
pub struct IntoResponse<S, F> {
    inner: S,
    refuse: F,
    // The answer to the next call, if the inner service refused when asked whether it is
    // ready. Boxed because this crate's layers never do.
    refused: Option<Box<Response<Bytes>>>,
}

impl<S, F> IntoResponse<S, F> {
    /// `refuse` makes a response from each refusal of `inner`; it is cloned once per call.
    pub fn new(inner: S, refuse: F) -> Self {
        Self {
            inner,
            refuse,
            refused: None,
        }
    }

    /// The service within.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Gives the service within back.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: Clone, F: Clone> Clone for IntoResponse<S, F> {
    /// The clone has not been asked whether it is ready, and so has no refusal to tell.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.refuse.clone())
    }
}

impl<S: fmt::Debug, F> fmt::Debug for IntoResponse<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoResponse")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, F, Req, B> Service<Req> for IntoResponse<S, F>
where
    S: Service<Req, Response = Response<B>>,
    S::Error: Refused,
    F: Fn(&<S::Error as Refused>::Refusal) -> Response<Bytes> + Clone,
{
    type Response = Response<RefusalBody<B>>;
    type Error = <S::Error as Refused>::Inner;
    type Future = ResponseFuture<S::Future, F>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.refused.is_some() {
            return Poll::Ready(Ok(()));
        }
        let Err(error) = ready!(self.inner.poll_ready(cx)) else {
            return Poll::Ready(Ok(()));
        };
        let refusal = error.into_refusal()?;
        self.refused = Some(Box::new(answer(refusal, &self.refuse)));
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Req) -> Self::Future {
        match self.refused.take() {
            None => ResponseFuture::called(self.inner.call(req), self.refuse.clone()),
            Some(response) => ResponseFuture::refused(response),
        }
    }
}

/// The response to a refusal, with the refusal in its extensions.
pub(super) fn answer<R, F>(refusal: R, refuse: &F) -> Response<Bytes>
where
    R: Clone + Send + Sync + 'static,
    F: Fn(&R) -> Response<Bytes>,
{
    let mut response = refuse(&refusal);
    response.extensions_mut().insert(refusal);
    response
}
