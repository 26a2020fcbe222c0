use std::fmt;

use resilience_core::balance::{self, NoEndpoint};

/// Why a call through [`Balance`](super::Balance) failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The endpoint failed, when called; or all failed when asked whether they are ready.
    #[error(transparent)]
    Inner(E),
    /// No endpoint was called.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// No endpoint takes the call.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no endpoint takes calls: {reason} ({endpoints} are known)")]
#[non_exhaustive]
pub struct Unavailable {
    /// Endpoints in the set.
    pub endpoints: usize,
    reason: Reason,
}

/// Why no endpoint takes the call.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// There are none.
    Empty,
    /// All have weight 0.
    Draining,
    /// All with a weight are unhealthy, and such are refused.
    Unhealthy,
    /// None of them is ready, and as many calls wait as may.
    NotReady,
}

impl Unavailable {
    pub(super) const fn not_ready(endpoints: usize) -> Self {
        Self {
            endpoints,
            reason: Reason::NotReady,
        }
    }

    /// Why.
    pub const fn reason(&self) -> Reason {
        self.reason
    }
}

impl From<NoEndpoint> for Unavailable {
    fn from(nobody: NoEndpoint) -> Self {
        Self {
            endpoints: nobody.endpoints,
            reason: match nobody.reason {
                balance::Reason::Empty => Reason::Empty,
                balance::Reason::Draining => Reason::Draining,
                // More reasons may come.
                _ => Reason::Unhealthy,
            },
        }
    }
}

impl Reason {
    /// Snake case name, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Draining => "draining",
            Self::Unhealthy => "unhealthy",
            Self::NotReady => "not_ready",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(feature = "http")]
impl<E> crate::refusal::sealed::Sealed for Error<E> {}

#[cfg(feature = "http")]
impl<E> crate::refusal::Refused for Error<E> {
    type Inner = E;
    type Refusal = Unavailable;

    fn into_refusal(self) -> Result<Unavailable, E> {
        match self {
            Self::Unavailable(unavailable) => Ok(unavailable),
            Self::Inner(error) => Err(error),
        }
    }
}
