//! Monotonic clocks: where the policies learn the time.
//!
//! A clock counts from its own origin and has nothing to do with the time of day. Policies
//! hold a [`SharedClock`], which is an enum and not a trait object, so that reading the standard
//! clock is not a virtual call. Tests move time by hand with `ManualClock` (feature `test-util`).
//!
//! A clock that steps back makes nothing panic or overflow. Each policy says how it goes on.

use std::{
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};

#[cfg(feature = "test-util")]
mod manual;

#[cfg(feature = "test-util")]
pub use manual::ManualClock;

/// A monotonic clock.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Time since this clock's own origin; never wall-clock time.
    fn now(&self) -> Duration;
}

/// The operating system's monotonic clock ([`Instant`]), counted from the clock's creation.
#[derive(Clone, Copy, Debug)]
pub struct StdClock {
    origin: Instant,
}

impl StdClock {
    /// A clock that stands at zero now.
    // The one place that may read the monotonic clock of the operating system.
    #[allow(clippy::disallowed_methods)]
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }
}

impl Default for StdClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for StdClock {
    #[inline]
    #[allow(clippy::disallowed_methods)] // as above
    fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.origin)
    }
}

/// A clock that reads the processor's time stamp counter where that is safe (crate `quanta`),
/// and the operating system's clock elsewhere.
#[cfg(feature = "fast-clock")]
#[derive(Clone, Debug)]
pub struct FastClock {
    clock: quanta::Clock,
    origin: u64,
}

#[cfg(feature = "fast-clock")]
impl FastClock {
    /// A clock that stands at zero now.
    ///
    /// The first one in a process calibrates the counter, which takes some milliseconds.
    pub fn new() -> Self {
        let clock = quanta::Clock::new();
        let origin = clock.raw();
        Self { clock, origin }
    }
}

#[cfg(feature = "fast-clock")]
impl Default for FastClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "fast-clock")]
impl FastClock {
    #[inline]
    fn nanos(&self) -> u64 {
        self.clock.delta_as_nanos(self.origin, self.clock.raw())
    }
}

#[cfg(feature = "fast-clock")]
impl Clock for FastClock {
    #[inline]
    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos())
    }
}

/// A cheap, cloneable handle on any clock; what the policies hold.
#[derive(Clone, Debug)]
pub struct SharedClock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Std(StdClock),
    #[cfg(feature = "fast-clock")]
    Fast(FastClock),
    Dyn(Arc<dyn Clock>),
}

impl SharedClock {
    /// The operating system's clock, counted from now.
    pub fn std() -> Self {
        Self(Kind::Std(StdClock::new()))
    }

    /// The time stamp counter, counted from now.
    #[cfg(feature = "fast-clock")]
    pub fn fast() -> Self {
        Self(Kind::Fast(FastClock::new()))
    }

    /// Any clock of one's own; each reading is then a virtual call.
    pub fn new(clock: impl Clock) -> Self {
        Self(Kind::Dyn(Arc::new(clock)))
    }

    /// [`now`](Clock::now) in nanoseconds, without the detour over seconds where that is possible.
    #[inline]
    pub(crate) fn nanos(&self) -> u64 {
        match &self.0 {
            #[cfg(feature = "fast-clock")]
            Kind::Fast(clock) => clock.nanos(),
            _ => {
                let now = self.now();
                let seconds = now.as_secs().saturating_mul(1_000_000_000);
                seconds.saturating_add(now.subsec_nanos().into())
            }
        }
    }
}

/// Stands at zero, for models of races.
#[cfg(all(test, resilience_loom))]
#[derive(Debug)]
pub(crate) struct Still;

#[cfg(all(test, resilience_loom))]
impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl Default for SharedClock {
    /// The time stamp counter with feature `fast-clock` (a default feature), else the operating
    /// system's clock; counted from now. Under Miri always the latter.
    fn default() -> Self {
        #[cfg(all(feature = "fast-clock", not(miri)))]
        return Self::fast();
        #[cfg(not(all(feature = "fast-clock", not(miri))))]
        return Self::std();
    }
}

impl Clock for SharedClock {
    #[inline]
    fn now(&self) -> Duration {
        match &self.0 {
            Kind::Std(clock) => clock.now(),
            #[cfg(feature = "fast-clock")]
            Kind::Fast(clock) => clock.now(),
            Kind::Dyn(clock) => clock.now(),
        }
    }
}

impl From<StdClock> for SharedClock {
    fn from(clock: StdClock) -> Self {
        Self(Kind::Std(clock))
    }
}

#[cfg(feature = "fast-clock")]
impl From<FastClock> for SharedClock {
    fn from(clock: FastClock) -> Self {
        Self(Kind::Fast(clock))
    }
}

#[cfg(feature = "test-util")]
impl From<ManualClock> for SharedClock {
    fn from(clock: ManualClock) -> Self {
        Self::new(clock)
    }
}
