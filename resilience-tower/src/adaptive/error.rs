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
