use resilience_core::rate_limit::Limited;

/// Why a call through [`RateLimit`](super::RateLimit) or
/// [`KeyedRateLimit`](super::keyed::KeyedRateLimit) failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The inner service failed, when asked whether it is ready or when called.
    #[error(transparent)]
    Inner(E),
    /// The quota is used up; the inner service never saw the request.
    #[error(transparent)]
    Limited(#[from] Limited),
}
