//! The right to one call.

use std::sync::Arc;

use super::{classify::Outcome, handle::Stub, inner::Inner};

/// Bits of [`Admitted::flags`].
pub(super) mod flag {
    /// The call took the full path.
    pub(in super::super) const FULL: u16 = 1;
    /// A half-open probe.
    pub(in super::super) const PROBE: u16 = 2;
    /// `at` is set.
    pub(in super::super) const STAMPED: u16 = 4;
    /// Would have been refused: its outcome is not judged.
    pub(in super::super) const UNJUDGED: u16 = 8;
    /// Admitted by a disabled breaker: its outcome is not even stale.
    pub(in super::super) const UNCOUNTED: u16 = 16;
    /// A shadow has admitted it as well; the next two are the shadow's.
    pub(in super::super) const SHADOW: u16 = 32;
    pub(in super::super) const SHADOW_PROBE: u16 = 64;
    pub(in super::super) const SHADOW_UNJUDGED: u16 = 128;
    /// The outcome is recorded.
    pub(in super::super) const ENDED: u16 = 256;
}

/// What a permit remembers of its admission.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitted {
    /// Nanoseconds of the clock; written only when the settings need it.
    pub(super) at: u64,
    pub(super) generation: u32,
    /// Valid with [`flag::SHADOW`].
    pub(super) shadow_generation: u32,
    /// None is set for a call that took the short path.
    pub(super) flags: u16,
}

impl Admitted {
    #[inline]
    pub(super) fn plain(generation: u32) -> Self {
        Self {
            at: 0,
            generation,
            shadow_generation: 0,
            flags: 0,
        }
    }

    pub(super) fn stamp(&mut self, now: u64) {
        self.at = now;
        self.flags |= flag::STAMPED;
    }

    /// Takes what is to be settled, so that nothing is settled twice.
    #[inline]
    fn end(&mut self) -> Option<Self> {
        let taken = *self;
        self.flags |= flag::ENDED;
        (taken.flags & flag::ENDED == 0).then_some(taken)
    }
}

macro_rules! permit {
    ($(#[$doc:meta])* $name:ident, [$($life:lifetime)?], $via:ident: $owner:ty, $inner:expr) => {
        $(#[$doc])*
        ///
        /// Dropped without an outcome it is given back, and counts as
        /// [`Config::on_cancel`](super::Config::on_cancel) says; as a failure while the thread
        /// panics.
        #[derive(Debug)]
        #[must_use = "a permit dropped at once counts as a cancelled call"]
        pub struct $name$(<$life>)? {
            $via: $owner,
            admitted: Admitted,
        }

        impl$(<$life>)? $name$(<$life>)? {
            #[inline]
            pub(super) fn new($via: $owner, admitted: Admitted) -> Self {
                Self { $via, admitted }
            }

            /// Whether the call is a half-open probe.
            pub fn is_probe(&self) -> bool {
                self.admitted.flags & flag::PROBE != 0
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
                if let Some(admitted) = self.admitted.end() {
                    $inner(&self.$via).settle(admitted, outcome);
                }
            }
        }

        impl$(<$life>)? Drop for $name$(<$life>)? {
            #[inline]
            fn drop(&mut self) {
                if let Some(admitted) = self.admitted.end() {
                    $inner(&self.$via).abandon(admitted);
                }
            }
        }
    };
}

permit!(
    /// The right to one call; borrows the handle.
    Permit, ['a], inner: &'a Inner, Inner::me
);
permit!(
    /// The right to one call; owns a share of the breaker.
    OwnedPermit, [], stub: Arc<Stub>, Stub::inner
);
