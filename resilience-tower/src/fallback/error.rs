use std::convert::Infallible;
use std::time::Duration;

use resilience_core::breaker::Outcome;

/// Why a call through a [`Fallback`](super::Fallback) failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E, F> {
    /// The inner service failed in a way for which there is no fallback.
    #[error(transparent)]
    Inner(E),
    /// The inner service failed, and so did the fallback.
    #[error(transparent)]
    Fallback(#[from] FallbackFailed<E, F>),
}

impl From<Error<Self, Self>> for Infallible {
    /// There is none: for routers that take only services that cannot fail.
    fn from(error: Error<Self, Self>) -> Self {
        match error {
            Error::Inner(never) => never,
            Error::Fallback(failed) => failed.error,
        }
    }
}

/// The fallback failed as well.
///
/// Its [source](std::error::Error::source) is what the inner service failed with; what the fallback
/// failed with is the message, and `error`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the fallback failed: {error}")]
#[non_exhaustive]
pub struct FallbackFailed<E, F> {
    /// What the fallback failed with.
    pub error: F,
    /// Why there was a fallback.
    pub reason: Reason,
    /// What the inner service failed with; `None` if it answered, by a response that says so.
    #[source]
    pub first: Option<E>,
}

/// Why a call fell back.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// The inner service failed.
    Failure,
    /// The upstream has too much to do.
    Overloaded {
        /// When it asked to be called again.
        retry_after: Option<Duration>,
    },
}

impl Reason {
    /// `failure` or `overloaded`, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Overloaded { .. } => "overloaded",
        }
    }

    /// When the upstream asked to be called again, if it did.
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after } => retry_after,
            Self::Failure => None,
        }
    }

    /// `None` for an outcome that is an answer.
    pub(super) const fn of(outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::Failure => Some(Self::Failure),
            Outcome::Overloaded { retry_after } => Some(Self::Overloaded { retry_after }),
            // A success, what is ignored; more kinds may come.
            _ => None,
        }
    }
}

/// In the extensions of an HTTP response that is a fallback.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct FellBack {
    /// Why there was one.
    pub reason: Reason,
}
