//! What an admitted call holds while it runs.

use std::{fmt, sync::Arc};

use super::Inner;

/// A call that runs, and is counted as such until this is dropped.
#[must_use = "dropping the permit says that the call has ended"]
pub struct Permit<'a>(&'a Inner);

/// A [`Permit`] without a lifetime, for futures that are stored.
#[must_use = "dropping the permit says that the call has ended"]
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
        self.0.ended();
    }
}

impl Drop for OwnedPermit {
    #[inline]
    fn drop(&mut self) {
        self.0.ended();
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
