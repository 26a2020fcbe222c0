//! The time of one limiter.

use std::time::Duration;

use super::quota::capped;
use crate::clock::{Clock, SharedClock};

/// A clock whose readings fit the words of the limiters.
#[derive(Clone, Debug)]
pub(crate) struct Ticks(SharedClock);

impl Ticks {
    pub(crate) fn new(clock: SharedClock) -> Self {
        let origin = clock.now();
        // A clock of one's own may count from anywhere, from 1970 for example.
        if origin < FAR {
            return Self(clock);
        }
        Self(SharedClock::new(Since { clock, origin }))
    }

    /// Nanoseconds, capped so that no sum with a quota overflows.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        capped(self.0.nanos())
    }
}

/// A year: more than a process runs, less than a limiter can count.
const FAR: Duration = Duration::from_secs(365 * 86_400);

/// A clock that is counted from `origin`, and stands at zero before.
#[derive(Debug)]
struct Since {
    clock: SharedClock,
    origin: Duration,
}

impl Clock for Since {
    fn now(&self) -> Duration {
        self.clock.now().saturating_sub(self.origin)
    }
}
