use std::time::Duration;

/// Why a call through [`Timeout`](super::Timeout) failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The inner service failed, when asked whether it is ready or when called.
    #[error(transparent)]
    Inner(E),
    /// The inner service did not answer in time.
    #[error(transparent)]
    Elapsed(#[from] Elapsed),
}

/// The time of a call was up.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no answer after {after:?}")]
#[non_exhaustive]
pub struct Elapsed {
    /// How much time the call had.
    pub after: Duration,
}
