use std::{fmt, sync::Arc, time::Duration};

use resilience_core::breaker::Rejected;

use super::{Disposition, Failure, NoRoute, Reason};

/// Why a call got no node, or no answer.
///
/// | error | it ran | [`disposition`](Self::disposition) |
/// |---|---|---|
/// | `NoRoute` | no | later, or never |
/// | `Breaker` | no | later |
/// | `BufferFull` | no | later |
/// | `Unreachable` | no, or it only reads | elsewhere |
/// | `Deadline` | no, or it only reads | never: the time is up |
/// | `OutcomeUnknown` | nobody knows | ambiguous |
/// | `Inner` | yes | never |
///
/// A write that may run twice, and may have run in an attempt before the last, ends with
/// `OutcomeUnknown` or `Inner`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The node gave an error that is about the call.
    #[error(transparent)]
    Inner(E),
    /// No node does for the call.
    #[error(transparent)]
    NoRoute(#[from] NoRoute),
    /// The circuit breaker of the only node that is left for the call refused it.
    #[error(transparent)]
    Breaker(Rejected),
    /// There is no primary, and as many writes wait for one as may.
    #[error("no primary, and too many writes wait for one; retry in {retry_after:?}")]
    BufferFull {
        /// When it may be otherwise.
        retry_after: Duration,
    },
    /// The node was not reached, or did not take the call, and the call was not tried elsewhere: no
    /// other node is left, or no attempt or retry.
    #[error("node {node} did not take the call ({})", Told(failure))]
    Unreachable {
        /// The node that was tried last.
        node: Arc<str>,
        /// How it failed.
        failure: Failure,
        /// Its error; `None` if the time for it was up.
        source: Option<E>,
    },
    /// The time of the call was up.
    #[error("the time of the call is up")]
    Deadline,
    /// The write was sent, and no answer came: it may have run. Only the caller can tell, by looking.
    #[error("nobody knows whether the write ran on node {node}")]
    OutcomeUnknown {
        /// The node it was sent to.
        node: Arc<str>,
        /// Its error; `None` if the time of the call was up.
        source: Option<E>,
    },
}

struct Told<'a>(&'a Failure);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(failure_as_str(*self.0))
    }
}

/// Snake case name, as used in metric labels.
const fn failure_as_str(failure: Failure) -> &'static str {
    match failure {
        Failure::NotSent => "not_sent",
        Failure::Misrouted => "misrouted",
        Failure::Refused => "refused",
        Failure::Lost => "lost",
        _ => "failed",
    }
}

impl<E> Error<E> {
    /// What to do about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::NoRoute(no_route) => no_route.disposition(),
            Self::Unreachable { .. } => Disposition::RetryElsewhere,
            Self::OutcomeUnknown { .. } => Disposition::Ambiguous,
            Self::Inner(_) | Self::Deadline => Disposition::Never,
            Self::Breaker(_) | Self::BufferFull { .. } => match self.retry_after() {
                Some(time) => Disposition::RetryLater(time),
                None => Disposition::Never,
            },
        }
    }

    /// When the same call may succeed; `None` if nobody knows, or never.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NoRoute(no_route) => no_route.retry_after,
            Self::Breaker(rejected) => Some(rejected.retry_after()),
            Self::BufferFull { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// The error without that of the node; `None` for [`Inner`](Self::Inner).
    pub fn refusal(&self) -> Option<Refusal> {
        Some(match self {
            Self::Inner(_) => return None,
            Self::NoRoute(no_route) => Refusal::NoRoute(*no_route),
            Self::Breaker(rejected) => Refusal::Breaker(*rejected),
            Self::BufferFull { retry_after } => Refusal::BufferFull {
                retry_after: *retry_after,
            },
            Self::Unreachable { node, failure, .. } => Refusal::Unreachable {
                node: Arc::clone(node),
                failure: *failure,
            },
            Self::Deadline => Refusal::Deadline,
            Self::OutcomeUnknown { node, .. } => Refusal::OutcomeUnknown {
                node: Arc::clone(node),
            },
        })
    }
}

/// An [`Error`] without that of the node.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// [`Error::NoRoute`].
    #[error(transparent)]
    NoRoute(NoRoute),
    /// [`Error::Breaker`].
    #[error(transparent)]
    Breaker(Rejected),
    /// [`Error::BufferFull`].
    #[error("no primary, and too many writes wait for one; retry in {retry_after:?}")]
    BufferFull {
        /// When it may be otherwise.
        retry_after: Duration,
    },
    /// [`Error::Unreachable`].
    #[error("node {node} did not take the call ({})", Told(failure))]
    Unreachable {
        /// The node that was tried last.
        node: Arc<str>,
        /// How it failed.
        failure: Failure,
    },
    /// [`Error::Deadline`].
    #[error("the time of the call is up")]
    Deadline,
    /// [`Error::OutcomeUnknown`].
    #[error("nobody knows whether the write ran on node {node}")]
    OutcomeUnknown {
        /// The node it was sent to.
        node: Arc<str>,
    },
}

impl Refusal {
    /// Snake case name, as used in metric labels: that of the [`Reason`] of a `NoRoute`, that of the
    /// breaker's, `buffer_full`, `unreachable`, `deadline` or `outcome_unknown`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoRoute(no_route) => no_route.reason.as_str(),
            Self::Breaker(rejected) => rejected.reason().as_str(),
            Self::BufferFull { .. } => "buffer_full",
            Self::Unreachable { .. } => "unreachable",
            Self::Deadline => "deadline",
            Self::OutcomeUnknown { .. } => "outcome_unknown",
        }
    }

    /// As [`Error::retry_after`].
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NoRoute(no_route) => no_route.retry_after,
            Self::Breaker(rejected) => Some(rejected.retry_after()),
            Self::BufferFull { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// Why the router found no node, if that is why.
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::NoRoute(no_route) => Some(no_route.reason),
            _ => None,
        }
    }
}

#[cfg(feature = "http")]
impl<E> crate::refusal::sealed::Sealed for Error<E> {}

#[cfg(feature = "http")]
impl<E> crate::refusal::Refused for Error<E> {
    type Inner = E;
    type Refusal = Refusal;

    fn into_refusal(self) -> Result<Refusal, E> {
        match (self.refusal(), self) {
            (None, Self::Inner(error)) => Err(error),
            (refusal, _) => Ok(refusal.unwrap_or(Refusal::Deadline)),
        }
    }
}
