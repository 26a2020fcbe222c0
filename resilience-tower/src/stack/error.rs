use std::fmt;

use crate::admission::{Admission, Decided, Policy};

/// Why a call through a stack failed: one type for all its policies.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error<E> {
    /// The service within failed, when asked whether it is ready or when called.
    Inner(E),
    /// A policy refused the call, or gave it up.
    Refused(Admission),
}

impl<E> Error<E> {
    /// Which policy decided, why, and when to try again; `None` for an error of the service within.
    pub const fn admission(&self) -> Option<&Admission> {
        match self {
            Self::Inner(_) => None,
            Self::Refused(admission) => Some(admission),
        }
    }

    /// The error of the service within.
    pub fn into_inner(self) -> Option<E> {
        match self {
            Self::Inner(error) => Some(error),
            Self::Refused(_) => None,
        }
    }
}

// By hand: `thiserror` asks for `E: Error` in both, and an error may be a text.
impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inner(error) => error.fmt(f),
            Self::Refused(admission) => admission.fmt(f),
        }
    }
}

impl<E: std::error::Error> std::error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Inner(error) => error.source(),
            Self::Refused(_) => None,
        }
    }
}

impl<E> Decided for Error<E> {
    fn admission(&self) -> Option<Admission> {
        self.admission().cloned()
    }
}

#[cfg(feature = "http")]
impl<E> crate::refusal::sealed::Sealed for Error<E> {}

#[cfg(feature = "http")]
impl<E> crate::refusal::Refused for Error<E> {
    type Inner = E;
    type Refusal = Admission;

    fn into_refusal(self) -> Result<Admission, E> {
        match self {
            Self::Refused(admission) => Ok(admission),
            Self::Inner(error) => Err(error),
        }
    }
}

/// The error of one policy around a service of the stack, made flat.
pub trait Flatten {
    /// The error of the service within the stack.
    type Inner;

    /// The same, of the policy at the place of `policy`, in attempt number `attempt`.
    fn flatten(self, policy: Policy, attempt: u32) -> Error<Self::Inner>;
}

macro_rules! flatten {
    ($($error:path, $refused:ident;)*) => {$(
        impl<E> Flatten for $error {
            type Inner = E;

            #[inline]
            fn flatten(self, policy: Policy, attempt: u32) -> Error<E> {
                match self {
                    Self::Inner(error) => error,
                    Self::$refused(refused) => {
                        Error::Refused(Admission::from(refused).at(policy, attempt))
                    }
                }
            }
        }
    )*};
}

flatten! {
    crate::breaker::Error<Error<E>>, Rejected;
    crate::bulkhead::Error<Error<E>>, Refused;
    crate::adaptive::Error<Error<E>>, Refused;
}

impl<E> Flatten for crate::timeout::deadline::Error<Error<E>> {
    type Inner = E;

    /// Of the attempt for its own limit, else of the deadline, wherever it was noticed.
    #[inline]
    fn flatten(self, _: Policy, attempt: u32) -> Error<E> {
        match self {
            Self::Inner(error) => error,
            Self::TimeUp(up) => Error::Refused(Admission::from(up).after(attempt)),
        }
    }
}

impl<E> Flatten for crate::rate_limit::Error<Error<E>> {
    type Inner = E;

    #[inline]
    fn flatten(self, policy: Policy, attempt: u32) -> Error<E> {
        let refused = match self {
            Self::Inner(error) => return error,
            Self::Limited(limited) => Admission::from(limited),
            Self::NoKey(no_key) => no_key.into(),
            Self::Wait(refused) => refused.into(),
            Self::Outage(outage) => outage.into(),
        };
        Error::Refused(refused.at(policy, attempt))
    }
}
