//! What a call holds while it runs.

use std::{fmt, sync::Arc};

use super::Inner;

/// A place among the calls that run; comes back when it is dropped.
#[must_use = "dropping the permit gives it back"]
pub struct Permit<'a>(&'a Inner);

/// A [`Permit`] without a lifetime, for futures that are stored.
#[must_use = "dropping the permit gives it back"]
pub struct OwnedPermit(Arc<Inner>);

impl<'a> Permit<'a> {
    pub(super) const fn new(inner: &'a Inner) -> Self {
        Self(inner)
    }
}

impl OwnedPermit {
    pub(super) const fn new(inner: Arc<Inner>) -> Self {
        Self(inner)
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.give_back();
    }
}

impl Drop for OwnedPermit {
    #[inline]
    fn drop(&mut self) {
        self.0.give_back();
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

impl fmt::Debug for OwnedPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnedPermit")
    }
}
