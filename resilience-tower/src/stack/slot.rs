//! Places of the stack that are there, or not.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use tower_service::Service;

use super::Error;
use super::envelope::Envelope;
use super::error::Flatten;
use crate::admission::Policy;

/// A policy around a service of the stack; its error is made flat.
#[derive(Clone, Debug)]
pub struct Slot<P> {
    policy: Policy,
    service: P,
}

impl<P> Slot<P> {
    pub(super) const fn new(policy: Policy, service: P) -> Self {
        Self { policy, service }
    }
}

impl<P, Req, E> Service<Envelope<Req>> for Slot<P>
where
    P: Service<Envelope<Req>>,
    P::Error: Flatten<Inner = E>,
{
    type Response = P::Response;
    type Error = Error<E>;
    type Future = SlotFuture<P::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<E>>> {
        let polled = self.service.poll_ready(cx);
        polled.map_err(|error| error.flatten(self.policy, 0))
    }

    #[inline]
    fn call(&mut self, envelope: Envelope<Req>) -> Self::Future {
        SlotFuture {
            policy: self.policy,
            attempt: envelope.attempt,
            inner: self.service.call(envelope),
        }
    }
}

/// The response of a [`Slot`].
#[pin_project]
#[derive(Debug)]
pub struct SlotFuture<F> {
    policy: Policy,
    attempt: u32,
    #[pin]
    inner: F,
}

impl<F, T, E> Future for SlotFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Flatten,
{
    type Output = Result<T, Error<E::Inner>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        Poll::Ready(result.map_err(|error| error.flatten(*this.policy, *this.attempt)))
    }
}

/// A policy around a service, or the service alone.
#[derive(Clone, Debug)]
pub enum Optional<P, S> {
    /// With the policy.
    On(Slot<P>),
    /// Without.
    Off(S),
}

impl<P, S, Req> Service<Envelope<Req>> for Optional<P, S>
where
    Slot<P>: Service<Envelope<Req>>,
    S: Service<
            Envelope<Req>,
            Response = <Slot<P> as Service<Envelope<Req>>>::Response,
            Error = <Slot<P> as Service<Envelope<Req>>>::Error,
        >,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = OptionalFuture<<Slot<P> as Service<Envelope<Req>>>::Future, S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        match self {
            Self::On(service) => service.poll_ready(cx),
            Self::Off(service) => service.poll_ready(cx),
        }
    }

    #[inline]
    fn call(&mut self, envelope: Envelope<Req>) -> Self::Future {
        match self {
            Self::On(service) => OptionalFuture::On(service.call(envelope)),
            Self::Off(service) => OptionalFuture::Off(service.call(envelope)),
        }
    }
}

/// The response of an [`Optional`].
#[pin_project(project = OptionalProj)]
#[derive(Debug)]
pub enum OptionalFuture<A, B> {
    /// With the policy.
    On(#[pin] A),
    /// Without.
    Off(#[pin] B),
}

impl<A, B, T> Future for OptionalFuture<A, B>
where
    A: Future<Output = T>,
    B: Future<Output = T>,
{
    type Output = T;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match self.project() {
            OptionalProj::On(future) => future.poll(cx),
            OptionalProj::Off(future) => future.poll(cx),
        }
    }
}
