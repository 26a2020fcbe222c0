//! The place of the policy that limits how many calls run at once.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;
use resilience_core::adaptive::AdaptiveLimit;
use resilience_core::breaker::Classify;
use resilience_core::bulkhead::{Bulkhead, Reason};
use tower_service::Service;

use super::Error;
use super::classify::ForLimit;
use super::envelope::Envelope;
use super::slot::{Slot, SlotFuture};
use crate::admission::Policy;
use crate::bulkhead::{HonourDeadline, SamePriority};
use crate::timeout::deadline::Deadline;
use crate::{adaptive, bulkhead};

/// A limit of calls at once.
#[derive(Clone, Debug)]
pub(super) enum Limit {
    None,
    /// Others are refused.
    Refusing(Bulkhead),
    /// Others stand in line.
    Waiting(Bulkhead),
    Adaptive(AdaptiveLimit),
}

/// A bulkhead whose line goes by the deadlines of the calls.
type Line<S> = bulkhead::Wait<S, HonourDeadline<SamePriority>>;

/// A service with a limit of calls at once, or without.
#[derive(Clone, Debug)]
pub enum Places<S, C> {
    /// Without.
    Off(S),
    /// Others are refused.
    Refusing(Slot<bulkhead::Bulkhead<S>>),
    /// Others stand in line.
    Waiting(Slot<Line<S>>),
    /// As many as the upstream bears.
    Adaptive(Slot<adaptive::Adaptive<S, ForLimit<C>>>),
}

impl<S, C> Places<S, C> {
    pub(super) fn new(inner: S, limit: Limit, classifier: C) -> Self {
        match limit {
            Limit::None => Self::Off(inner),
            Limit::Refusing(bulkhead) => {
                let service = bulkhead::Bulkhead::new(inner, bulkhead);
                Self::Refusing(Slot::new(Policy::Bulkhead, service))
            }
            Limit::Waiting(bulkhead) => {
                let priority = HonourDeadline(SamePriority);
                let service = bulkhead::Wait::new(inner, bulkhead, priority);
                Self::Waiting(Slot::new(Policy::Bulkhead, service))
            }
            Limit::Adaptive(limit) => {
                let service = adaptive::Adaptive::new(inner, limit, ForLimit(classifier));
                Self::Adaptive(Slot::new(Policy::Adaptive, service))
            }
        }
    }
}

impl<S, C, Req, E> Service<Envelope<Req>> for Places<S, C>
where
    S: Service<Envelope<Req>, Error = Error<E>> + Clone,
    ForLimit<C>: Classify<S::Response, Error<E>> + Clone,
{
    type Response = S::Response;
    type Error = Error<E>;
    type Future = PlacesFuture<S, Envelope<Req>, ForLimit<C>>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<E>>> {
        match self {
            Self::Off(service) => service.poll_ready(cx),
            Self::Refusing(service) => service.poll_ready(cx),
            Self::Waiting(service) => service.poll_ready(cx),
            Self::Adaptive(service) => service.poll_ready(cx),
        }
    }

    #[inline]
    fn call(&mut self, envelope: Envelope<Req>) -> Self::Future {
        match self {
            Self::Off(service) => PlacesFuture::Off(service.call(envelope)),
            Self::Refusing(service) => PlacesFuture::Refusing(service.call(envelope)),
            Self::Waiting(service) => {
                let deadline = envelope.deadline;
                PlacesFuture::Waiting(service.call(envelope), deadline)
            }
            Self::Adaptive(service) => PlacesFuture::Adaptive(service.call(envelope)),
        }
    }
}

/// The response of a [`Places`].
#[pin_project(project = PlacesProj)]
#[derive(Debug)]
pub enum PlacesFuture<S: Service<Req>, Req, C> {
    /// Without a limit.
    Off(#[pin] S::Future),
    /// With a bulkhead.
    Refusing(#[pin] SlotFuture<bulkhead::ResponseFuture<S::Future>>),
    /// With a bulkhead and its line.
    Waiting(
        #[pin] SlotFuture<bulkhead::WaitFuture<S, Req>>,
        Option<Deadline>,
    ),
    /// With an adaptive limit.
    Adaptive(#[pin] SlotFuture<adaptive::ResponseFuture<S::Future, C>>),
}

impl<S, Req, C, E> Future for PlacesFuture<S, Req, C>
where
    S: Service<Req, Error = Error<E>>,
    C: Classify<S::Response, Error<E>>,
{
    type Output = Result<S::Response, Error<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            PlacesProj::Off(future) => future.poll(cx),
            PlacesProj::Refusing(future) => future.poll(cx),
            PlacesProj::Waiting(future, deadline) => match future.poll(cx) {
                // Out of the line: nobody waits for a turn that is of no use. The deadline's own
                // layer, whose alarm is set for this moment, says and counts that it has come.
                Poll::Ready(Err(error)) if is_over(*deadline, &error) => Poll::Pending,
                polled => polled,
            },
            PlacesProj::Adaptive(future) => future.poll(cx),
        }
    }
}

/// Whether the line refused for the deadline of the call, and not for its own longest wait.
#[cold]
fn is_over<E>(deadline: Option<Deadline>, error: &Error<E>) -> bool {
    let by_line = error.admission().is_some_and(|refused| {
        refused.policy() == Some(Policy::Bulkhead) && refused.reason() == Reason::Deadline.as_str()
    });
    by_line && deadline.is_some_and(|deadline| deadline.left().is_zero())
}
