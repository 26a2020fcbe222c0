//! The time of day: for dates, never for waits.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serializer;

/// Tells the time of day; clones tell the same.
#[derive(Clone)]
pub(crate) struct WallClock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl WallClock {
    pub(crate) fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> SystemTime {
        (self.0)()
    }
}

/// As `2026-02-03T04:05:06.789Z` (RFC 3339); what has no such form becomes the nearest time that has.
pub(crate) fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let last = UNIX_EPOCH + Duration::from_secs(LAST);
    let time = (*time).clamp(UNIX_EPOCH, last);
    let text = humantime_serde::re::humantime::format_rfc3339_millis(time);
    serializer.collect_str(&text)
}

/// The end of the year 9999.
const LAST: u64 = 253_402_300_799;

impl Default for WallClock {
    fn default() -> Self {
        // The one place that reads the system's.
        #[allow(clippy::disallowed_methods)]
        Self::new(SystemTime::now)
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WallClock").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_form() {
        let told = |time| rfc3339(&time, serde_json::value::Serializer).unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(told(UNIX_EPOCH + second / 4), "1970-01-01T00:00:00.250Z");
        assert_eq!(told(UNIX_EPOCH - second), "1970-01-01T00:00:00.000Z");
        let late = UNIX_EPOCH + Duration::from_secs(LAST) + second;
        assert_eq!(told(late), "9999-12-31T23:59:59.000Z");
    }
}
