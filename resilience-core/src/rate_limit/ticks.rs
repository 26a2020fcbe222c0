//! The time of one limiter.

use std::time::Duration;

use super::quota::capped;
use crate::clock::{Clock, SharedClock};

/// A clock whose readings fit the words of the limiters.
#[derive(Clone, Debug)]
pub(crate) struct Ticks(SharedClock);

impl Ticks {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self::with_origin(clock).0
    }

    /// As [`new`](Self::new), with the reading of `clock` from which it counts.
    pub(crate) fn with_origin(clock: SharedClock) -> (Self, Duration) {
        let origin = clock.now();
        // A clock of one's own may count from anywhere, from 1970 for example.
        if origin < FAR {
            return (Self(clock), Duration::ZERO);
        }
        let ticks = Self(SharedClock::new(Since { clock, origin }));
        (ticks, origin)
    }

    /// Nanoseconds, capped so that no sum with a quota overflows.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        capped(self.0.nanos())
    }

    /// So long after the origin.
    #[inline]
    pub(crate) fn at(time: Duration) -> u64 {
        capped(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
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
