#[cfg(feature = "timeout")]
use resilience_core::deadline::TimeUp;

use super::Admission;

/// An error that may be the decision of a policy.
///
/// Implemented by the errors of this crate's layers, each for the refusals of its own layer, and by
/// that of a stack for those of all of them.
pub trait Decided {
    /// The decision; `None` for an error of the inner service.
    fn admission(&self) -> Option<Admission>;
}

#[cfg(feature = "breaker")]
impl<E> Decided for crate::breaker::Error<E> {
    fn admission(&self) -> Option<Admission> {
        match self {
            Self::Inner(_) => None,
            Self::Rejected(rejected) => Some((*rejected).into()),
        }
    }
}

#[cfg(feature = "rate-limit")]
impl<E> Decided for crate::rate_limit::Error<E> {
    fn admission(&self) -> Option<Admission> {
        match self {
            Self::Inner(_) => None,
            Self::Limited(limited) => Some((*limited).into()),
            Self::NoKey(no_key) => Some((*no_key).into()),
            Self::Wait(refused) => Some((*refused).into()),
            Self::Outage(outage) => Some((*outage).into()),
        }
    }
}

#[cfg(feature = "timeout")]
impl<E> Decided for crate::timeout::deadline::Error<E> {
    fn admission(&self) -> Option<Admission> {
        match self {
            Self::Inner(_) => None,
            Self::TimeUp(up) => Some((*up).into()),
        }
    }
}

#[cfg(feature = "timeout")]
impl<E> Decided for crate::timeout::Error<E> {
    fn admission(&self) -> Option<Admission> {
        match self {
            Self::Inner(_) => None,
            Self::Elapsed(elapsed) => {
                let after = elapsed.after;
                Some(TimeUp::Attempt { after }.into())
            }
        }
    }
}

#[cfg(feature = "bulkhead")]
impl<E> Decided for crate::bulkhead::Error<E> {
    fn admission(&self) -> Option<Admission> {
        match self {
            Self::Inner(_) => None,
            Self::Refused(refused) => Some((*refused).into()),
        }
    }
}

#[cfg(feature = "adaptive")]
impl<E> Decided for crate::adaptive::Error<E> {
    fn admission(&self) -> Option<Admission> {
        match self {
            Self::Inner(_) => None,
            Self::Refused(refused) => Some((*refused).into()),
        }
    }
}

#[cfg(feature = "load-shed")]
impl<E> Decided for crate::load_shed::Error<E> {
    fn admission(&self) -> Option<Admission> {
        match self {
            Self::Inner(_) => None,
            Self::Shed(shed) => Some((*shed).into()),
        }
    }
}

#[cfg(feature = "coalesce")]
impl<E> Decided for crate::coalesce::Error<E> {
    /// A call that panicked was decided by nobody.
    fn admission(&self) -> Option<Admission> {
        match self {
            Self::Inner(_) | Self::Panicked(_) => None,
            Self::Refused(refused) => Some((*refused).into()),
        }
    }
}

#[cfg(feature = "balance")]
impl<E> Decided for crate::balance::Error<E> {
    fn admission(&self) -> Option<Admission> {
        match self {
            Self::Inner(_) => None,
            Self::Unavailable(unavailable) => Some((*unavailable).into()),
        }
    }
}

#[cfg(feature = "read-write")]
impl<E> Decided for crate::read_write::Error<E> {
    fn admission(&self) -> Option<Admission> {
        Some(self.refusal()?.into())
    }
}
