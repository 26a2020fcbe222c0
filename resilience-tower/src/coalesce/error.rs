use resilience_core::coalesce::Refused;

/// Why a call through a layer that shares answers failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The inner service failed, when asked whether it is ready or when called.
    #[error(transparent)]
    Inner(E),
    /// Too many keys have a call under way, or too many calls wait for the same one.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The call that was shared panicked; what it panicked with went to the panic hook.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

/// The call that was shared panicked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the call that was shared panicked")]
#[non_exhaustive]
pub struct Panicked;

#[cfg(feature = "http")]
impl<E> crate::refusal::sealed::Sealed for Error<E> {}

// A panic is no refusal, but there is no inner error that would say it: at the edge it is a refusal
// that has no reason of its own.
#[cfg(feature = "http")]
impl<E> crate::refusal::Refused for Error<E> {
    type Inner = E;
    type Refusal = super::http::Unanswered;

    fn into_refusal(self) -> Result<Self::Refusal, E> {
        match self {
            Self::Refused(refused) => Ok(refused.into()),
            Self::Panicked(panicked) => Ok(panicked.into()),
            Self::Inner(error) => Err(error),
        }
    }
}
