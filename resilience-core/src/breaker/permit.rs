//! The right to one call.

use std::sync::Arc;

use super::{classify::Outcome, handle::Stub, inner::Inner};

/// Bits of [`Admitted::key`] above the generation.
pub(super) mod flag {
    /// The call took the full path.
    pub(in super::super) const FULL: u64 = 1 << 32;
    /// A half-open probe.
    pub(in super::super) const PROBE: u64 = 2 << 32;
    /// `at` is set.
    pub(in super::super) const STAMPED: u64 = 4 << 32;
    /// Would have been refused: its outcome is not judged.
    pub(in super::super) const UNJUDGED: u64 = 8 << 32;
    /// Admitted by a disabled breaker: its outcome is not even stale.
    pub(in super::super) const UNCOUNTED: u64 = 16 << 32;
    /// A shadow has admitted it as well; the next two are the shadow's.
    pub(in super::super) const SHADOW: u64 = 32 << 32;
    pub(in super::super) const SHADOW_PROBE: u64 = 64 << 32;
    pub(in super::super) const SHADOW_UNJUDGED: u64 = 128 << 32;
}

/// What a permit remembers of its admission.
///
/// Three words, each written and read as a whole: a permit travels through memory, and a load that
/// spans two smaller stores waits for both of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitted {
    /// `[flags: 32 | generation: 32]`. Without flags it is the plain closed word that admitted it.
    pub(super) key: u64,
    /// Nanoseconds of the clock, with [`flag::STAMPED`].
    pub(super) at: u64,
    /// A generation, with [`flag::SHADOW`].
    pub(super) shadow: u64,
}

impl Admitted {
    #[inline]
    pub(super) fn new(generation: u32, flags: u64) -> Self {
        Self::plain(u64::from(generation) | flags)
    }

    #[inline]
    pub(super) fn plain(key: u64) -> Self {
        Self {
            key,
            at: 0,
            shadow: 0,
        }
    }

    #[inline]
    pub(super) fn generation(self) -> u32 {
        self.key as u32
    }

    #[inline]
    pub(super) fn has(self, flags: u64) -> bool {
        self.key & flags != 0
    }

    pub(super) fn stamp(&mut self, now: u64) {
        self.at = now;
        self.key |= flag::STAMPED;
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
            // `None` once the outcome is recorded.
            $via: Option<$owner>,
            admitted: Admitted,
        }

        impl$(<$life>)? $name$(<$life>)? {
            #[inline]
            pub(super) fn new($via: $owner, admitted: Admitted) -> Self {
                Self { $via: Some($via), admitted }
            }

            /// Whether the call is a half-open probe.
            pub fn is_probe(&self) -> bool {
                self.admitted.has(flag::PROBE)
            }

            /// The call succeeded.
            #[inline(always)]
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
            #[inline(always)]
            pub fn record(mut self, outcome: Outcome) {
                let (via, admitted) = (self.$via.take(), self.admitted);
                // Nothing is left to drop, and what is not dropped can stay in registers.
                std::mem::forget(self);
                if let Some($via) = via {
                    $inner(&$via).settle(admitted, outcome);
                }
            }
        }

        impl$(<$life>)? Drop for $name$(<$life>)? {
            #[inline]
            fn drop(&mut self) {
                if let Some($via) = self.$via.take() {
                    $inner(&$via).abandon(self.admitted);
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
