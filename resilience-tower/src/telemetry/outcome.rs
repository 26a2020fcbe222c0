use std::time::Duration;

use resilience_core::breaker::{Classify, Outcome};

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
