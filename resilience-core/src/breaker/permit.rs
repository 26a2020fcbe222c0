//! The right to one call.

use std::{sync::Arc, time::Duration};

use super::{classify::Outcome, inner::Inner};

/// What a permit remembers of its admission.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitted {
    pub(super) generation: u32,
    pub(super) probe: bool,
    /// Set only when the settings need it.
    pub(super) at: Option<Duration>,
}

macro_rules! permit {
    ($(#[$doc:meta])* $name:ident, [$($life:lifetime)?], $inner:ty) => {
        $(#[$doc])*
        ///
        /// Dropped without an outcome it is given back, and counts as
        /// [`Config::on_cancel`](super::Config::on_cancel) says; as a failure while the thread
        /// panics.
        #[derive(Debug)]
        #[must_use = "a permit dropped at once counts as a cancelled call"]
        pub struct $name$(<$life>)? {
            inner: $inner,
            // `None` once the outcome is recorded.
            admitted: Option<Admitted>,
        }

        impl$(<$life>)? $name$(<$life>)? {
            #[inline]
            pub(super) fn new(inner: $inner, admitted: Admitted) -> Self {
                Self { inner, admitted: Some(admitted) }
            }

            /// Whether the call is a half-open probe.
            pub fn is_probe(&self) -> bool {
                self.admitted.is_some_and(|admitted| admitted.probe)
            }

            /// The call succeeded.
            #[inline]
            pub fn success(self) {
                self.record(Outcome::Success);
            }

            /// The call failed.
            pub fn failure(self) {
                self.record(Outcome::Failure);
            }

            /// The call says nothing about the upstream; the permit comes back.
            pub fn ignore(self) {
                self.record(Outcome::Ignored);
            }

            /// Books how the call ended.
            #[inline]
            pub fn record(mut self, outcome: Outcome) {
                if let Some(admitted) = self.admitted.take() {
                    self.inner.settle(admitted, outcome);
                }
            }
        }

        impl$(<$life>)? Drop for $name$(<$life>)? {
            #[inline]
            fn drop(&mut self) {
                if let Some(admitted) = self.admitted.take() {
                    self.inner.abandon(admitted);
                }
            }
        }
    };
}

permit!(
    /// The right to one call; borrows the handle.
    Permit, ['a], &'a Inner
);
permit!(
    /// The right to one call; owns a clone of the handle.
    OwnedPermit, [], Arc<Inner>
);
