//! What handles share.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use crossbeam_utils::CachePadded;

use super::inner::Inner;
use crate::stripe::{STRIPES, Stripe};

/// A way to the breaker with a reference count of its own, in a line of its own: owned permits
/// that are taken by different threads count up and down in different places.
pub(super) struct Stub(CachePadded<Arc<Inner>>);

impl Stub {
    #[inline]
    pub(super) fn inner(this: &Arc<Self>) -> &Inner {
        &this.0
    }
}

impl fmt::Debug for Stub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The breaker, and a stub for each stripe that has asked for one.
pub(super) struct Shared {
    pub(super) inner: Arc<Inner>,
    stubs: [OnceLock<Arc<Stub>>; STRIPES],
}

impl Shared {
    pub(super) fn new(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
            stubs: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    /// A share of the breaker, counted in the calling thread's stripe.
    #[inline]
    pub(super) fn stub(&self) -> Arc<Stub> {
        let make = || Arc::new(Stub(CachePadded::new(Arc::clone(&self.inner))));
        // PANIC-FREE: an index is below STRIPES.
        Arc::clone(self.stubs[Stripe::current().index].get_or_init(make))
    }

    /// Whether owned permits are out.
    pub(super) fn permits_out(&self) -> bool {
        let mut stubs = self.stubs.iter().filter_map(OnceLock::get);
        stubs.any(|stub| Arc::strong_count(stub) > 1)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
