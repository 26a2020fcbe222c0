//! Clocks that can be moved ahead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use resilience_core::clock::{Clock, StdClock};
use webhook_verify::clock::{SystemClock, WallClock};

/// A clock of the system plus an offset; clones share the offset.
#[derive(Clone, Debug, Default)]
pub struct OffsetClock {
    monotonic: StdClock,
    ahead_ms: Arc<AtomicU64>,
}

impl OffsetClock {
    /// Moves the time ahead, rounded down to milliseconds.
    pub fn jump(&self, ahead: Duration) {
        let ahead = u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX);
        // ORDERING: Relaxed. The offset publishes nothing else.
        let _ = self
            .ahead_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                Some(now.saturating_add(ahead))
            });
    }

    fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed))
    }
}

impl WallClock for OffsetClock {
    fn now(&self) -> Duration {
        SystemClock.now().saturating_add(self.ahead())
    }
}

impl Clock for OffsetClock {
    fn now(&self) -> Duration {
        self.monotonic.now().saturating_add(self.ahead())
    }
}
