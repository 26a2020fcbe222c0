use resilience_core::bulkhead::Refused;

/// Why a call through a [`Bulkhead`](super::Bulkhead) failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The inner service failed, when asked whether it is ready or when called.
    #[error(transparent)]
    Inner(E),
    /// As many calls run as may, and this one could not wait or not long enough.
    #[error(transparent)]
    Refused(#[from] Refused),
}
