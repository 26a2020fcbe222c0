use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use resilience_core::breaker::Classify;
use tower_service::Service;

use super::base::Base;
use super::classify::{ForBreaker, OptionalBreaker};
use super::envelope::{Answered, Envelope, ToUpstream};
use super::hedged::Hedged;
use super::parts::Shared;
use super::places::Places;
use super::retried::Retried;
use super::slot::{Optional, Slot};
use super::total::Total;
use super::{Classifies, Error, Handle, Tell, Traffic};
use crate::admission::{Admission, Policy};
use crate::breaker::{Breaker, Judge, JudgeCall};
use crate::rate_limit::RateLimit;
use crate::retry::Replay;
use crate::timeout::deadline::{Propagate, WithDeadline};

// Inside out.
type Attempt<S, P> = Optional<WithDeadline<Base<S, P>, ToUpstream<P>>, Base<S, P>>;
type Quota<S> = Optional<RateLimit<S>, S>;
type Guarded<S, J> = Slot<Breaker<S, ForBreaker<J>, OptionalBreaker>>;
type Tried<S, J, C, P> = Guarded<Places<Quota<Attempt<S, P>>, C>, J>;
type Retries<S, J, C, R, P, H> = Retried<Hedged<Tried<S, J, C, P>, C, H>, C, R>;
type Policies<S, J, C, R, P, H> = Quota<Total<Retries<S, J, C, R, P, H>, P>>;

/// What a [`Traffic`] is made of.
pub trait Kind {
    /// How calls are judged.
    type Judge: Classifies;
    /// How requests are kept.
    type Replay;
    /// How times are told.
    type Propagate;
    /// How requests are kept for hedges.
    type Beside;
}

impl<J: Classifies, R, P, H> Kind for Traffic<J, R, P, H> {
    type Judge = J;
    type Replay = R;
    type Propagate = P;
    type Beside = H;
}

type PoliciesOf<S, T> = Policies<
    S,
    <T as Kind>::Judge,
    <<T as Kind>::Judge as Classifies>::Classifier,
    <T as Kind>::Replay,
    <T as Kind>::Propagate,
    <T as Kind>::Beside,
>;

/// A service with all policies of a stack around it.
///
/// One type for all stacks of one [`Traffic`]: a policy that is not there is passed by. Clones share
/// the policies. `poll_ready` asks the service within.
pub struct Stacked<S, T: Kind> {
    policies: PoliciesOf<S, T>,
    shared: Arc<Shared>,
    /// Tells admitted calls what was decided.
    tell: Option<T::Propagate>,
}

impl<S, J, R, P, H> Stacked<S, Traffic<J, R, P, H>>
where
    J: Classifies<Classifier: Clone>,
    P: Clone,
{
    pub(super) fn new(
        inner: S,
        shared: Arc<Shared>,
        traffic: Traffic<J, R, P, H>,
        records: bool,
    ) -> Self {
        let parts = &shared.parts;
        let Traffic {
            judge,
            replay,
            propagate,
            beside,
        } = traffic;
        let classifier = judge.classifier().clone();

        let base = Base {
            inner,
            propagate: propagate.clone(),
        };
        let attempt = match parts.attempt_timeout.clone() {
            Some(deadlines) => {
                let told = ToUpstream(propagate.clone());
                let service = WithDeadline::new(base, deadlines, told);
                Optional::On(Slot::new(Policy::AttemptTimeout, service))
            }
            None => Optional::Off(base),
        };
        let quota = match parts.upstream_quota.clone() {
            Some(limiter) => {
                let service = RateLimit::new(attempt, limiter);
                Optional::On(Slot::new(Policy::UpstreamQuota, service))
            }
            None => Optional::Off(attempt),
        };
        let places = Places::new(quota, parts.places(), classifier.clone());
        let breaker = OptionalBreaker(parts.breaker.clone());
        let guarded = Breaker::from_parts(places, breaker, ForBreaker(judge));
        let guarded = Slot::new(Policy::Breaker, guarded);
        let hedged = Hedged::new(guarded, parts.hedge.clone(), classifier.clone(), beside);
        let retried = Retried::new(hedged, parts.retry.clone(), classifier, replay);
        let timed = Total::new(retried, parts.deadline.clone(), propagate.clone());
        let policies = match parts.rate_limit.clone() {
            Some(limiter) => {
                let service = RateLimit::new(timed, limiter);
                Optional::On(Slot::new(Policy::RateLimit, service))
            }
            None => Optional::Off(timed),
        };
        Self {
            policies,
            shared,
            tell: records.then_some(propagate),
        }
    }
}

impl<S, T: Kind> Stacked<S, T> {
    /// The policies, to watch and change them.
    pub fn handle(&self) -> Handle {
        Handle {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S, T: Kind> Clone for Stacked<S, T>
where
    PoliciesOf<S, T>: Clone,
    T::Propagate: Clone,
{
    fn clone(&self) -> Self {
        Self {
            policies: self.policies.clone(),
            shared: Arc::clone(&self.shared),
            tell: self.tell.clone(),
        }
    }
}

impl<S, T: Kind> fmt::Debug for Stacked<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stacked")
            .field("name", &self.shared.name)
            .field("parts", &self.shared.parts)
            .finish_non_exhaustive()
    }
}

/// The response of a judge's call.
type Judged<J, S, Req> = <<J as Judge<Req>>::Call as JudgeCall<
    <S as Service<Req>>::Response,
    <S as Service<Req>>::Error,
>>::Response;

impl<S, J, R, P, H, Req> Service<Req> for Stacked<S, Traffic<J, R, P, H>>
where
    S: Service<H::Request> + Clone,
    R: Replay<Req> + Clone,
    H: Replay<R::Request> + Clone,
    J: Judge<H::Request> + Classifies + Clone,
    J::Call: JudgeCall<S::Response, S::Error>,
    J::Classifier:
        Classify<S::Response, S::Error> + Classify<Judged<J, S, H::Request>, S::Error> + Clone,
    P: Propagate<Req> + Propagate<H::Request> + Tell<Judged<J, S, H::Request>> + Clone,
{
    type Response = Judged<J, S, H::Request>;
    type Error = Error<S::Error>;
    type Future =
        ResponseFuture<<PoliciesOf<S, Traffic<J, R, P, H>> as Service<Envelope<Req>>>::Future, P>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.policies.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let (shared, tell) = (Arc::clone(&self.shared), self.tell.clone());
        // Last, so that the future is written where it belongs and not moved there.
        let inner = self.policies.call(Envelope::new(request));
        ResponseFuture {
            inner,
            shared,
            tell,
        }
    }
}

/// The response of a [`Stacked`].
///
/// # Panics
///
/// Polled outside of a tokio runtime with its time driver enabled, when a policy has to wait.
///
/// # Cancel safety
///
/// Dropping the future drops the attempt or the wait that runs, and gives back what the call held: a
/// place at once, a probe of the breaker as its `on_cancel` says. A retry that was paid for stays
/// paid.
#[pin_project]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct ResponseFuture<F, P> {
    #[pin]
    inner: F,
    shared: Arc<Shared>,
    tell: Option<P>,
}

impl<F, P, T, E> Future for ResponseFuture<F, P>
where
    F: Future<Output = Result<Answered<T>, Error<E>>>,
    P: Tell<T>,
{
    type Output = Result<T, Error<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let name = &this.shared.name;
        Poll::Ready(match ready!(this.inner.poll(cx)) {
            Ok(Answered {
                mut response,
                attempt,
            }) => {
                if let Some(tell) = this.tell {
                    let admitted = Admission::admitted(Arc::clone(name), attempt);
                    tell.tell(&mut response, admitted);
                }
                Ok(response)
            }
            Err(Error::Refused(refused)) => Err(Error::Refused(refused.named(name))),
            Err(error) => Err(error),
        })
    }
}

impl<F: fmt::Debug, P> fmt::Debug for ResponseFuture<F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("stack", &self.shared.name)
            .field("inner", &self.inner)
            .finish()
    }
}
