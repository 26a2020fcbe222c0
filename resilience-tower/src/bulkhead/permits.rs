//! Which bulkhead a request belongs to.

use std::time::Duration;

use resilience_core::bulkhead::{Bulkhead, OwnedPermit, Priority, Refused, Waiter};

/// Where a [`Bulkhead`](super::Bulkhead) or a [`Wait`](super::Wait) takes the permit for a request.
///
/// A core [`Bulkhead`] is for every request; a [`Keyed`](super::Keyed) one has a bulkhead per key. An
/// implementation of one's own may choose by anything in the request.
pub trait Permits<Req> {
    /// The right to one call, or `None` if nothing limits this request.
    ///
    /// # Errors
    ///
    /// The refusal of the request's bulkhead.
    fn try_acquire(&self, request: &Req) -> Result<Option<OwnedPermit>, Refused>;

    /// A place in line, or `None` if nothing limits this request. `left` is the time until the
    /// request's deadline.
    ///
    /// # Errors
    ///
    /// The refusal of the request's bulkhead.
    fn enqueue(
        &self,
        request: &Req,
        priority: Priority,
        left: Option<Duration>,
    ) -> Result<Option<Waiter>, Refused>;
}

impl<Req> Permits<Req> for Bulkhead {
    #[inline]
    fn try_acquire(&self, _: &Req) -> Result<Option<OwnedPermit>, Refused> {
        self.try_acquire_owned().map(Some)
    }

    fn enqueue(
        &self,
        _: &Req,
        priority: Priority,
        left: Option<Duration>,
    ) -> Result<Option<Waiter>, Refused> {
        self.enqueue_within(priority, left).map(Some)
    }
}
