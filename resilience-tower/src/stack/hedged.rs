//! The place of the hedge policy.

use std::task::{Context, Poll};

use resilience_core::breaker::Classify;
use resilience_core::hedge::HedgePolicy;
use tower_service::Service;

use super::classify::ForRetry;
use super::envelope::{Beside, Envelope};
use super::slot::OptionalFuture;
use crate::hedge::{self, Hedge};
use crate::retry::Replay;

/// A service whose slow attempts get another one beside them, or one without.
///
/// Both take the same requests: `R` may wrap their bodies.
#[derive(Clone, Debug)]
pub enum Hedged<S, C, R> {
    /// With the policy.
    On(Hedge<S, ForRetry<C>, Beside<R>>),
    /// Without.
    Off(S, Beside<R>),
}

impl<S, C, R> Hedged<S, C, R> {
    pub(super) fn new(inner: S, policy: Option<HedgePolicy>, classifier: C, replay: R) -> Self {
        let replay = Beside(replay);
        match policy {
            Some(policy) => Self::On(Hedge::new(inner, policy, ForRetry(classifier), replay)),
            None => Self::Off(inner, replay),
        }
    }
}

impl<S, C, R, Req> Service<Envelope<Req>> for Hedged<S, C, R>
where
    S: Service<Envelope<R::Request>> + Clone,
    R: Replay<Req> + Clone,
    ForRetry<C>: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future =
        OptionalFuture<hedge::ResponseFuture<S, Envelope<Req>, ForRetry<C>, Beside<R>>, S::Future>;

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
