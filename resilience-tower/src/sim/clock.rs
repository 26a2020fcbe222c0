//! The virtual time of a run as a clock of the policies.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use resilience_core::clock::Clock;
use tokio::time::Instant;

use super::random::nanos;

/// Shows the time of tokio's paused clock; after the run it stands still.
#[derive(Clone, Debug)]
pub(super) struct VirtualClock {
    origin: Instant,
    /// Where it stands, once the run is over.
    stands: Arc<AtomicU64>,
}

const RUNS: u64 = u64::MAX;

impl VirtualClock {
    /// Stands at zero now; in the runtime of the run.
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            stands: Arc::new(AtomicU64::new(RUNS)),
        }
    }

    pub(super) fn nanos(&self) -> u64 {
        // ORDERING: Relaxed. The run is one thread.
        match self.stands.load(Ordering::Relaxed) {
            RUNS => nanos(Instant::now() - self.origin),
            time => time,
        }
    }

    /// The first moment of the runtime's clock that is not before `time`.
    pub(super) fn at(&self, time: u64) -> Instant {
        self.origin + Duration::from_nanos(time)
    }

    /// Outside of the runtime tokio would show the real time.
    pub(super) fn stop(&self) {
        self.stands.store(self.nanos(), Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos())
    }
}
