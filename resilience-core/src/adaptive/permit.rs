//! What a call holds while it runs.

use std::{fmt, sync::Arc};

use super::{Inner, window::Ended};

/// A place among the calls that run. Say how the call ended; dropped without, it is
/// [ignored](Self::ignore).
#[must_use = "dropping the permit gives it back, and the call is ignored"]
pub struct Permit<'a> {
    inner: &'a Inner,
    began: u64,
}

/// A [`Permit`] without a lifetime, for futures that are stored.
#[must_use = "dropping the permit gives it back, and the call is ignored"]
pub struct OwnedPermit {
    inner: Arc<Inner>,
    began: u64,
}

impl<'a> Permit<'a> {
    pub(super) const fn new(inner: &'a Inner, began: u64) -> Self {
        Self { inner, began }
    }

    /// The upstream answered: the time it took counts.
    #[inline]
    pub fn success(self) {
        self.inner.book(self.began, Ended::Success);
    }

    /// The upstream had too much to do: it said so, or did not answer in time.
    #[inline]
    pub fn overloaded(self) {
        self.inner.book(self.began, Ended::Overloaded);
    }

    /// The call says nothing about the upstream: it was cancelled, or never got there.
    #[inline]
    pub fn ignore(self) {}
}

impl OwnedPermit {
    pub(super) const fn new(inner: Arc<Inner>, began: u64) -> Self {
        Self { inner, began }
    }

    /// As [`Permit::success`].
    #[inline]
    pub fn success(self) {
        self.inner.book(self.began, Ended::Success);
    }

    /// As [`Permit::overloaded`].
    #[inline]
    pub fn overloaded(self) {
        self.inner.book(self.began, Ended::Overloaded);
    }

    /// As [`Permit::ignore`].
    #[inline]
    pub fn ignore(self) {}
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.inner.give_back();
    }
}

impl Drop for OwnedPermit {
    #[inline]
    fn drop(&mut self) {
        self.inner.give_back();
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
