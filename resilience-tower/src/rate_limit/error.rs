use std::fmt;
use std::time::Duration;

use resilience_core::rate_limit::{Limited, Quota, wait::WaitRefused};

/// Why a call through a [`RateLimit`](super::RateLimit) failed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The inner service failed, when asked whether it is ready or when called.
    #[error(transparent)]
    Inner(E),
    /// The quota is used up; the inner service never saw the request.
    #[error(transparent)]
    Limited(#[from] Limited),
    /// The limit is one per key, and the request has none; the inner service never saw it.
    #[error(transparent)]
    NoKey(#[from] NoKey),
    /// The call was refused a place in the line, or lost it; the inner service never saw the
    /// request.
    #[error(transparent)]
    Wait(#[from] WaitRefused),
    /// The limit is kept in a store that did not answer, and such calls are to be refused; the inner
    /// service never saw the request.
    #[error(transparent)]
    Outage(#[from] Outage),
}

/// A request in which no key was found: it says nothing of whom it would count for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, thiserror::Error)]
#[error("the request has no key to be counted by")]
pub struct NoKey;

/// A limit could not be asked, because the store that it is kept in did not answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the store of the rate limit gives no answer ({cause}), retry in {retry_after:?}")]
#[non_exhaustive]
pub struct Outage {
    /// Why.
    pub cause: OutageCause,
    /// When the store is asked again, or is worth another try.
    pub retry_after: Duration,
}

/// Why a store did not answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum OutageCause {
    /// Not in time.
    Timeout,
    /// There is no connection, or it broke.
    Connection,
    /// It answered by an error, or by what cannot be read.
    Answer,
    /// It was not asked: the breaker in front of it is open.
    Breaker,
}

impl Outage {
    /// An outage for this cause.
    pub fn new(cause: OutageCause, retry_after: Duration) -> Self {
        Self { cause, retry_after }
    }
}

impl OutageCause {
    /// `timeout`, `connection`, `answer` or `breaker`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Answer => "answer",
            Self::Breaker => "breaker",
        }
    }
}

impl fmt::Display for OutageCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refused call: by which limit, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Refusal {
    /// The place of the limit among several, from 0; 0 of one alone.
    pub place: usize,
    /// Why it refused.
    pub reason: Reason,
}

/// Why a limit refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// The quota is used up.
    Limited {
        /// The limiter's answer, with the exact wait.
        limited: Limited,
        /// The quota it was decided by, if it was asked for.
        quota: Option<Quota>,
    },
    /// The request has no key.
    NoKey,
    /// The line was full, or the turn would have come too late.
    Wait {
        /// The line's answer, with the wait until it would have been the call's turn.
        refused: WaitRefused,
        /// The quota it was decided by, if it was asked for.
        quota: Option<Quota>,
    },
    /// The store that the limit is kept in did not answer.
    Outage(Outage),
}

impl Refusal {
    /// A refusal by a used up quota.
    #[inline]
    pub fn limited(place: usize, limited: Limited, quota: Option<Quota>) -> Self {
        let reason = Reason::Limited { limited, quota };
        Self { place, reason }
    }

    /// A refusal of a request without a key.
    pub fn no_key(place: usize) -> Self {
        let reason = Reason::NoKey;
        Self { place, reason }
    }

    /// A refusal by the line in front of a limit.
    pub fn wait(refused: WaitRefused, quota: Option<Quota>) -> Self {
        let reason = Reason::Wait { refused, quota };
        Self { place: 0, reason }
    }

    /// A refusal because a store did not answer.
    pub fn outage(outage: Outage) -> Self {
        let reason = Reason::Outage(outage);
        Self { place: 0, reason }
    }

    /// The figures of the limit that refused; `None` without a key or an answer.
    pub fn figures(&self) -> Option<Limited> {
        match self.reason {
            Reason::Limited { limited, .. } => Some(limited),
            Reason::Wait { refused, .. } => Some(refused.limited),
            Reason::NoKey | Reason::Outage(_) => None,
        }
    }

    /// The quota of the limit that refused; `None` without a key or an answer, or if it was not
    /// asked for.
    pub fn quota(&self) -> Option<Quota> {
        match self.reason {
            Reason::Limited { quota, .. } | Reason::Wait { quota, .. } => quota,
            Reason::NoKey | Reason::Outage(_) => None,
        }
    }
}

impl<E> From<Refusal> for Error<E> {
    #[inline]
    fn from(refusal: Refusal) -> Self {
        match refusal.reason {
            Reason::Limited { limited, .. } => Self::Limited(limited),
            Reason::NoKey => Self::NoKey(NoKey),
            Reason::Wait { refused, .. } => Self::Wait(refused),
            Reason::Outage(outage) => Self::Outage(outage),
        }
    }
}

#[cfg(feature = "http")]
impl<E> crate::refusal::sealed::Sealed for Error<E> {}

#[cfg(feature = "http")]
impl<E> crate::refusal::Refused for Error<E> {
    type Inner = E;
    type Refusal = Error<std::convert::Infallible>;

    fn into_refusal(self) -> Result<Self::Refusal, E> {
        match self {
            Self::Inner(error) => Err(error),
            Self::Limited(limited) => Ok(Error::Limited(limited)),
            Self::NoKey(no_key) => Ok(Error::NoKey(no_key)),
            Self::Wait(refused) => Ok(Error::Wait(refused)),
            Self::Outage(outage) => Ok(Error::Outage(outage)),
        }
    }
}
