use resilience_core::deadline::TimeUp;

/// Why a call through [`WithDeadline`](super::WithDeadline) failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The inner service failed, when asked whether it is ready or when called.
    #[error(transparent)]
    Inner(E),
    /// The time of the attempt or of the call was up, or there was too little to begin. Only in the
    /// last case the inner service never saw the request.
    #[error(transparent)]
    TimeUp(#[from] TimeUp),
}

#[cfg(feature = "http")]
impl<E> crate::refusal::sealed::Sealed for Error<E> {}

#[cfg(feature = "http")]
impl<E> crate::refusal::Refused for Error<E> {
    type Inner = E;
    type Refusal = TimeUp;

    fn into_refusal(self) -> Result<TimeUp, E> {
        match self {
            Self::TimeUp(up) => Ok(up),
            Self::Inner(error) => Err(error),
        }
    }
}
