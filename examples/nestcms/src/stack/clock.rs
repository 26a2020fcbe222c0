//! A wall clock that can be moved ahead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use webhook_verify::clock::{SystemClock, WallClock};

/// The system's wall clock plus an offset; clones share the offset.
#[derive(Clone, Debug, Default)]
pub struct OffsetClock {
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
}

impl WallClock for OffsetClock {
    fn now(&self) -> Duration {
        let ahead = Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed));
        SystemClock.now().saturating_add(ahead)
    }
}
