//! The place of the retry policy.

use std::task::{Context, Poll};

use resilience_core::breaker::Classify;
use resilience_core::retry::RetryPolicy;
use tower_service::Service;

use super::classify::ForRetry;
use super::envelope::{Envelope, InEnvelope};
use super::slot::OptionalFuture;
use crate::retry::{self, Replay, Retry};

/// A service with a retry policy, or one whose calls have one attempt each.
///
/// Both take the same requests: `R` may keep the body beside, and so wraps it.
#[derive(Clone, Debug)]
pub enum Retried<S, C, R> {
    /// With the policy.
    On(Retry<S, ForRetry<C>, InEnvelope<R>>),
    /// Without.
    Off(S, InEnvelope<R>),
}

impl<S, C, R> Retried<S, C, R> {
    pub(super) fn new(inner: S, policy: Option<RetryPolicy>, classifier: C, replay: R) -> Self {
        let replay = InEnvelope(replay);
        match policy {
            Some(policy) => Self::On(Retry::new(inner, policy, ForRetry(classifier), replay)),
            None => Self::Off(inner, replay),
        }
    }
}

impl<S, C, R, Req> Service<Envelope<Req>> for Retried<S, C, R>
where
    S: Service<Envelope<R::Request>> + Clone,
    R: Replay<Req> + Clone,
    ForRetry<C>: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = OptionalFuture<
        retry::ResponseFuture<S, Envelope<Req>, ForRetry<C>, InEnvelope<R>>,
        S::Future,
    >;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        match self {
            Self::On(service) => service.poll_ready(cx),
            Self::Off(service, _) => service.poll_ready(cx),
        }
    }

    #[inline]
    fn call(&mut self, envelope: Envelope<Req>) -> Self::Future {
        match self {
            Self::On(service) => OptionalFuture::On(service.call(envelope)),
            Self::Off(service, replay) => {
                let (only, _) = replay.first(envelope, false);
                OptionalFuture::Off(service.call(only))
            }
        }
    }
}

/// A future that knows how many attempts have begun.
pub trait Attempts {
    /// How many; 1 or more.
    fn attempts(&self) -> u32;
}

impl<S, Req, C, R, F> Attempts for OptionalFuture<retry::ResponseFuture<S, Req, C, R>, F>
where
    S: Service<R::Request>,
    R: Replay<Req>,
{
    #[inline]
    fn attempts(&self) -> u32 {
        match self {
            Self::On(future) => future.attempts(),
            Self::Off(_) => 1,
        }
    }
}
