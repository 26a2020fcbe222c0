//! Which breaker guards a request.

use resilience_core::breaker::{CircuitBreaker, OwnedPermit, Rejected};

/// Where a [`Breaker`](super::Breaker) takes the permit for a request.
///
/// A [`CircuitBreaker`] guards every request; a [`Keyed`](super::Keyed) one has a breaker per key.
/// An implementation of one's own may choose by anything in the request.
pub trait Permits<Req> {
    /// The right to one call, or `None` if no breaker guards this request.
    ///
    /// # Errors
    ///
    /// The refusal of the request's breaker.
    fn try_acquire(&self, request: &Req) -> Result<Option<OwnedPermit>, Rejected>;
}

impl<Req> Permits<Req> for CircuitBreaker {
    #[inline]
    fn try_acquire(&self, _: &Req) -> Result<Option<OwnedPermit>, Rejected> {
        self.try_acquire_owned().map(Some)
    }
}
