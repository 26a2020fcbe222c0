use resilience_core::adaptive::Refused;

/// Why a call through an [`Adaptive`](super::Adaptive) failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The inner service failed, when asked whether it is ready or when called.
    #[error(transparent)]
    Inner(E),
    /// As many calls run as the upstream bears; the inner service never saw the request.
    #[error(transparent)]
    Refused(#[from] Refused),
}

#[cfg(feature = "http")]
impl<E> crate::refusal::sealed::Sealed for Error<E> {}

#[cfg(feature = "http")]
impl<E> crate::refusal::Refused for Error<E> {
    type Inner = E;
    type Refusal = Refused;

    fn into_refusal(self) -> Result<Refused, E> {
        match self {
            Self::Refused(refused) => Ok(refused),
            Self::Inner(error) => Err(error),
        }
    }
}
