//! What the decisions of the policies within mean to those further out.

use resilience_core::breaker::{CircuitBreaker, Classify, Outcome, OwnedPermit, Reason, Rejected};

use super::Error;
use super::envelope::{Answered, Envelope};
use crate::admission::{Admission, Decision, Policy, about_the_upstream};
use crate::breaker::{Judge, JudgeCall, OnResult, Permits};

/// A judge of the breaker that can also tell the retry policy what a result means.
///
/// [`OnResult`] and (feature `http`) [`OnBodyEnd`](crate::breaker::http::OnBodyEnd) are.
pub trait Classifies {
    /// What classifies results.
    type Classifier;

    /// The classifier.
    fn classifier(&self) -> &Self::Classifier;
}

impl<C> Classifies for OnResult<C> {
    type Classifier = C;

    fn classifier(&self) -> &C {
        &self.0
    }
}

#[cfg(feature = "http")]
impl<C> Classifies for crate::breaker::http::OnBodyEnd<C> {
    type Classifier = C;

    fn classifier(&self) -> &C {
        &self.0
    }
}

/// Classifies for the retry policy.
#[derive(Clone, Debug)]
pub struct ForRetry<C>(pub(super) C);

impl<T, E, C: Classify<T, E>> Classify<Answered<T>, Error<E>> for ForRetry<C> {
    #[inline]
    fn classify(&self, result: Result<&Answered<T>, &Error<E>>) -> Outcome {
        match result {
            Ok(answer) => self.0.classify(Ok(&answer.response)),
            Err(Error::Inner(error)) => self.0.classify(Err(error)),
            Err(Error::Refused(refused)) => worth_a_retry(refused),
        }
    }
}

/// Another attempt may help after an attempt that took too long; and after a refusal that says when
/// to come back, then and not earlier. What says nothing would only be asked again.
fn worth_a_retry(refused: &Admission) -> Outcome {
    let forced = Reason::ForcedOpen.as_str();
    match (refused.policy(), refused.retry_after()) {
        (Some(Policy::AttemptTimeout), _) => Outcome::Failure,
        // By hand, and till when nobody knows.
        (Some(Policy::Breaker), _) if refused.reason() == forced => Outcome::Ignored,
        (Some(Policy::Breaker | Policy::UpstreamQuota), retry_after @ Some(_)) => {
            Outcome::Overloaded { retry_after }
        }
        _ => Outcome::Ignored,
    }
}

/// Classifies for the adaptive limit.
#[derive(Clone, Debug)]
pub struct ForLimit<C>(pub(super) C);

impl<T, E, C: Classify<T, E>> Classify<Answered<T>, Error<E>> for ForLimit<C> {
    #[inline]
    fn classify(&self, result: Result<&Answered<T>, &Error<E>>) -> Outcome {
        match result {
            Ok(answer) => self.0.classify(Ok(&answer.response)),
            Err(Error::Inner(error)) => self.0.classify(Err(error)),
            Err(Error::Refused(refused)) => about_the_upstream(refused),
        }
    }
}

/// Judges for the breaker, by another judge where the service within has answered.
#[derive(Clone, Debug)]
pub struct ForBreaker<J>(pub(super) J);

/// Judges one attempt for the breaker.
#[derive(Clone, Debug)]
pub struct Judging<J> {
    judge: J,
    attempt: u32,
}

impl<Req, J: Judge<Req>> Judge<Envelope<Req>> for ForBreaker<J> {
    type Call = Judging<J::Call>;

    #[inline]
    fn begin(&self, envelope: &Envelope<Req>) -> Judging<J::Call> {
        Judging {
            judge: self.0.begin(&envelope.request),
            attempt: envelope.attempt,
        }
    }
}

impl<T, E, J: JudgeCall<T, E>> JudgeCall<Answered<T>, Error<E>> for Judging<J> {
    type Response = Answered<J::Response>;

    #[inline]
    fn end(
        &self,
        permit: Option<OwnedPermit>,
        result: Result<Answered<T>, Error<E>>,
    ) -> Result<Self::Response, Error<E>> {
        let result = match result {
            Ok(answer) => Ok(answer.response),
            Err(Error::Inner(error)) => Err(error),
            Err(Error::Refused(refused)) => {
                end_refused(permit, &refused);
                return Err(Error::Refused(refused));
            }
        };
        let response = self.judge.end(permit, result).map_err(Error::Inner)?;
        let attempt = self.attempt;
        Ok(Answered { response, attempt })
    }
}

/// The breaker of a stack that may have none: every call then goes without a permit.
#[derive(Clone, Debug)]
pub struct OptionalBreaker(pub(super) Option<CircuitBreaker>);

impl<Req> Permits<Req> for OptionalBreaker {
    #[inline]
    fn try_acquire(&self, _: &Req) -> Result<Option<OwnedPermit>, Rejected> {
        match &self.0 {
            Some(breaker) => breaker.try_acquire_owned().map(Some),
            None => Ok(None),
        }
    }
}

fn end_refused(permit: Option<OwnedPermit>, refused: &Admission) {
    // The caller's time was up and not the attempt's: it went away, as one does who drops the
    // call. `on_cancel` says what that is, so that impatient callers open no breaker.
    let gave_up =
        refused.policy() == Some(Policy::Deadline) && refused.decision() == Decision::TimeUp;
    if let Some(permit) = permit.filter(|_| !gave_up) {
        permit.record(about_the_upstream(refused));
    }
}
