//! The innermost service of a stack.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use tower_service::Service;

use super::Error;
use super::envelope::{Answered, Envelope};
use crate::timeout::deadline::{Deadline, Propagate};

/// Takes the request out of its envelope, and tells it how much time there is.
#[derive(Clone, Debug)]
pub struct Base<S, P> {
    pub(super) inner: S,
    pub(super) propagate: P,
}

impl<S, P, Req> Service<Envelope<Req>> for Base<S, P>
where
    S: Service<Req>,
    P: Propagate<Req>,
{
    type Response = Answered<S::Response>;
    type Error = Error<S::Error>;
    type Future = BaseFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    #[inline]
    fn call(&mut self, envelope: Envelope<Req>) -> Self::Future {
        let Envelope {
            mut request,
            attempt,
            deadline,
            limit,
        } = envelope;
        // Without an attempt timeout, what the call has left.
        if let Some(left) = limit.or_else(|| deadline.map(Deadline::left)) {
            self.propagate.send(&mut request, left);
        }
        BaseFuture {
            attempt,
            inner: self.inner.call(request),
        }
    }
}

/// The response of a [`Base`].
#[pin_project]
#[derive(Debug)]
pub struct BaseFuture<F> {
    attempt: u32,
    #[pin]
    inner: F,
}

impl<F, T, E> Future for BaseFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<Answered<T>, Error<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        let attempt = *this.attempt;
        Poll::Ready(match result {
            Ok(response) => Ok(Answered { response, attempt }),
            Err(error) => Err(Error::Inner(error)),
        })
    }
}
