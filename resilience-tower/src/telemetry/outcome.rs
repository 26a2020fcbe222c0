use std::time::Duration;

use resilience_core::breaker::{Classify, Outcome};

use crate::admission::{Admission, Decided, Decision};

/// How a call ended, as telemetry tells it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Ended {
    /// The upstream works.
    Success,
    /// The upstream does not work.
    Failure,
    /// The upstream has too much to do.
    Overloaded,
    /// Says nothing about the upstream.
    Ignored,
    /// A policy refused the call.
    Refused(Refusal),
    /// The call was made, and given up when its time was up.
    TimeUp,
}

impl Ended {
    /// What a policy decided; `None` for what all policies let pass.
    pub fn decided(admission: &Admission) -> Option<Self> {
        let policy = admission.policy()?.as_str();
        match admission.decision() {
            Decision::Admitted => None,
            Decision::TimeUp => Some(Self::TimeUp),
            Decision::Refused => {
                let refusal = Refusal::new(policy, admission.reason());
                Some(Self::Refused(refusal.retry_after(admission.retry_after())))
            }
        }
    }
}

/// Which policy refused a call, and why.
///
/// Both texts become label values: they are literals, so that there are few of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Refusal {
    /// The kind of policy.
    pub policy: &'static str,
    /// Why.
    pub reason: &'static str,
    /// When to try again, if that is known.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal that does not say when to try again.
    pub const fn new(policy: &'static str, reason: &'static str) -> Self {
        Self {
            policy,
            reason,
            retry_after: None,
        }
    }

    /// When to try again.
    #[must_use]
    pub const fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }
}

/// Says how a call ended: a function of the result, or by a classifier ([`ByOutcome`]).
pub trait Judge<T, E> {
    /// How a call with this `result` ended.
    fn judge(&self, result: Result<&T, &E>) -> Ended;
}

impl<T, E, F: Fn(Result<&T, &E>) -> Ended> Judge<T, E> for F {
    fn judge(&self, result: Result<&T, &E>) -> Ended {
        self(result)
    }
}

/// Judges by a classifier, which may be the breaker's. Knows no refusals.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByOutcome<C>(pub C);

impl<T, E, C: Classify<T, E>> Judge<T, E> for ByOutcome<C> {
    fn judge(&self, result: Result<&T, &E>) -> Ended {
        match self.0.classify(result) {
            Outcome::Success => Ended::Success,
            Outcome::Failure => Ended::Failure,
            Outcome::Overloaded { .. } => Ended::Overloaded,
            // More kinds of outcome may come.
            _ => Ended::Ignored,
        }
    }
}

/// Goes by what a policy decided, when an error says so ([`Decided`]), and else by another judge.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByAdmission<J>(pub J);

impl<T, E: Decided, J: Judge<T, E>> Judge<T, E> for ByAdmission<J> {
    fn judge(&self, result: Result<&T, &E>) -> Ended {
        let admission = result.err().and_then(Decided::admission);
        let decided = admission.as_ref().and_then(Ended::decided);
        decided.unwrap_or_else(|| self.0.judge(result))
    }
}

/// Goes by what a policy decided, when a response has it in its extensions ([`Admission::of`]), as
/// responses made of refusals have, and else by another judge.
#[cfg(feature = "http")]
#[derive(Clone, Copy, Debug, Default)]
pub struct InResponse<J>(pub J);

#[cfg(feature = "http")]
impl<B, E, J> Judge<http::Response<B>, E> for InResponse<J>
where
    J: Judge<http::Response<B>, E>,
{
    fn judge(&self, result: Result<&http::Response<B>, &E>) -> Ended {
        let response = result.ok();
        let admission = response.and_then(|response| Admission::of(response.extensions()));
        let decided = admission.as_ref().and_then(Ended::decided);
        decided.unwrap_or_else(|| self.0.judge(result))
    }
}

/// How a call ended, the ends that have no result included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    Judged(Ended),
    Cancelled,
    Panicked,
}

impl End {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Judged(Ended::Success) => "success",
            Self::Judged(Ended::Failure) => "failure",
            Self::Judged(Ended::Overloaded) => "overloaded",
            Self::Judged(Ended::Ignored) => "ignored",
            Self::Judged(Ended::Refused(_)) => "refused",
            Self::Judged(Ended::TimeUp) => "time_up",
            Self::Cancelled => "cancelled",
            Self::Panicked => "panicked",
        }
    }

    pub(super) const fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Judged(Ended::Refused(refusal)) => Some(refusal),
            _ => None,
        }
    }
}
