//! A clock that moves only when told to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::Clock;

/// A clock that moves only when told to; clones show the same time.
///
/// Starts at zero. It may be [set](Self::set) backwards, to show that nothing breaks.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    nanos: Arc<AtomicU64>,
}

impl ManualClock {
    /// A clock that stands at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock forward; stops at the largest time it can hold (584 years).
    pub fn advance(&self, by: Duration) {
        let by = nanos(by);
        // ORDERING: SeqCst. A test that moves the clock and then starts calls in other threads
        // expects them to see the new time; speed does not matter here.
        self.nanos
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
                Some(now.saturating_add(by))
            })
            .ok();
    }

    /// Sets the time since the origin, backwards as well.
    pub fn set(&self, to: Duration) {
        self.nanos.store(nanos(to), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::SeqCst))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
