//! Wall-clock time, as webhook timestamps need it.
//!
//! Timestamps in webhooks are Unix time, so this is a different trait from a monotonic
//! clock on purpose; the two are never mixed.

use std::{fmt::Debug, time::Duration};

/// A wall clock.
pub trait WallClock: Debug + Send + Sync + 'static {
    /// Time since the Unix epoch; may step in both directions.
    fn now(&self) -> Duration;
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    // The one place of the crate that reads the real clock. A clock set before 1970
    // reads as the epoch, at which every current timestamp is refused.
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> Duration {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
    }
}

/// A clock that moves only when told to; clones share the time.
#[cfg(any(test, feature = "test-util"))]
#[derive(Clone, Debug, Default)]
pub struct ManualWallClock(std::sync::Arc<parking_lot::Mutex<Duration>>);

#[cfg(any(test, feature = "test-util"))]
impl ManualWallClock {
    /// A clock that shows `unix_seconds`.
    #[must_use]
    pub fn new(unix_seconds: u64) -> Self {
        let clock = Self::default();
        clock.set(Duration::from_secs(unix_seconds));
        clock
    }

    /// Sets the time since the Unix epoch; it may go back.
    pub fn set(&self, now: Duration) {
        *self.0.lock() = now;
    }

    /// Moves the time forward (it saturates).
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock();
        *now = now.saturating_add(by);
    }
}

#[cfg(any(test, feature = "test-util"))]
impl WallClock for ManualWallClock {
    fn now(&self) -> Duration {
        *self.0.lock()
    }
}
