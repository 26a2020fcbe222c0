use resilience_core::breaker::Rejected;

/// Why a call through [`Breaker`](super::Breaker) failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The inner service failed, when asked whether it is ready or when called.
    #[error(transparent)]
    Inner(E),
    /// The breaker refused the call; the inner service never saw the request.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

#[cfg(feature = "http")]
impl<E> crate::refusal::sealed::Sealed for Error<E> {}

#[cfg(feature = "http")]
impl<E> crate::refusal::Refused for Error<E> {
    type Inner = E;
    type Refusal = Rejected;

    fn into_refusal(self) -> Result<Rejected, E> {
        match self {
            Self::Rejected(rejected) => Ok(rejected),
            Self::Inner(error) => Err(error),
        }
    }
}
