use resilience_core::load_shed::Shed;

/// Why a call through a [`LoadShed`](super::LoadShed) failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The inner service failed, when asked whether it is ready or when called.
    #[error(transparent)]
    Inner(E),
    /// There is more to do than can be done, and others matter more; the inner service never saw
    /// the request.
    #[error(transparent)]
    Shed(#[from] Shed),
}

#[cfg(feature = "http")]
impl<E> crate::refusal::sealed::Sealed for Error<E> {}

#[cfg(feature = "http")]
impl<E> crate::refusal::Refused for Error<E> {
    type Inner = E;
    type Refusal = Shed;

    fn into_refusal(self) -> Result<Shed, E> {
        match self {
            Self::Shed(shed) => Ok(shed),
            Self::Inner(error) => Err(error),
        }
    }
}
