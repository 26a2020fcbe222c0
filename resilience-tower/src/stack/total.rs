//! The place of the deadline of the whole call.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use resilience_core::deadline::Deadlines;
use tower_service::Service;

use super::Error;
use super::envelope::{Envelope, FromCaller};
use super::error::Flatten;
use super::retried::Attempts;
use crate::admission::Policy;
use crate::timeout::deadline::{self, Propagate, WithDeadline};

/// A service with a deadline for each call, or without.
#[derive(Clone, Debug)]
pub enum Total<S, P> {
    /// With a deadline.
    On(WithDeadline<S, FromCaller<P>>),
    /// Without.
    Off(S),
}

impl<S, P> Total<S, P> {
    pub(super) fn new(inner: S, deadlines: Option<Deadlines>, propagate: P) -> Self {
        match deadlines {
            Some(deadlines) => {
                let propagate = FromCaller(propagate);
                Self::On(WithDeadline::new(inner, deadlines, propagate))
            }
            None => Self::Off(inner),
        }
    }
}

impl<S, P, Req, E> Service<Envelope<Req>> for Total<S, P>
where
    S: Service<Envelope<Req>, Error = Error<E>>,
    S::Future: Attempts,
    P: Propagate<Req>,
{
    type Response = S::Response;
    type Error = Error<E>;
    type Future = TotalFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<E>>> {
        match self {
            Self::On(service) => service
                .poll_ready(cx)
                .map_err(|error| error.flatten(Policy::Deadline, 0)),
            Self::Off(service) => service.poll_ready(cx),
        }
    }

    #[inline]
    fn call(&mut self, envelope: Envelope<Req>) -> Self::Future {
        match self {
            Self::On(service) => TotalFuture::On(service.call(envelope)),
            Self::Off(service) => TotalFuture::Off(service.call(envelope)),
        }
    }
}

/// The response of a [`Total`].
#[pin_project(project = TotalProj)]
#[derive(Debug)]
pub enum TotalFuture<F> {
    /// With a deadline.
    On(#[pin] deadline::ResponseFuture<F>),
    /// Without.
    Off(#[pin] F),
}

impl<F, T, E> Future for TotalFuture<F>
where
    F: Future<Output = Result<T, Error<E>>> + Attempts,
{
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            TotalProj::On(future) => {
                // Asked before: the call that is given up is gone then. A poll that comes so late
                // that it begins another attempt and finds the time up does not count it.
                let attempts = future.inner().map_or(0, F::attempts);
                let result = ready!(future.poll(cx));
                Poll::Ready(result.map_err(|error| error.flatten(Policy::Deadline, attempts)))
            }
            TotalProj::Off(future) => future.poll(cx),
        }
    }
}
