//! The time of one limiter.

use super::quota::capped;
use crate::clock::SharedClock;

/// A clock, counted from when the limiter was made, so that any origin will do.
#[derive(Clone, Debug)]
pub(super) struct Ticks {
    clock: SharedClock,
    origin: u64,
}

impl Ticks {
    pub(super) fn new(clock: SharedClock) -> Self {
        let origin = clock.nanos();
        Self { clock, origin }
    }

    /// Nanoseconds; 0 while the clock is before its first reading, and capped so that no sum with
    /// a quota overflows.
    #[inline]
    pub(super) fn now(&self) -> u64 {
        capped(self.clock.nanos().saturating_sub(self.origin))
    }
}
