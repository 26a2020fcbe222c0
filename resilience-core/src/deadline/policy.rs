//! Whether there is time for a call, and how much.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use super::{Config, TimeUp};
use crate::primitive::{AtomicU64, Ordering};

/// Decides on the time of calls; clones are handles on the same one.
///
/// # Concurrency
///
/// Calls take no lock, and write nothing that is shared unless their time is up.
#[derive(Clone)]
pub struct Deadlines(Arc<Inner>);

struct Inner {
    config: ArcSwap<Config>,
    attempt: AtomicU64,
    deadline: AtomicU64,
    refused: AtomicU64,
}

/// Calls whose time was up, since the handle was made. Each count wraps at 2^64.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Attempts that took too long.
    pub attempt: u64,
    /// Calls during which the deadline came.
    pub deadline: u64,
    /// Calls that were not begun.
    pub refused: u64,
}

/// The time that a call has, from when it began.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Time {
    left: Option<Duration>,
    attempt: Option<Duration>,
}

impl Time {
    /// Until the deadline of the call; `None` for a call without.
    pub const fn left(&self) -> Option<Duration> {
        self.left
    }

    /// Until this attempt is given up: its own limit, or what is left when that is less.
    pub fn limit(&self) -> Option<Duration> {
        earlier(self.left, self.attempt)
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Deadlines {
    /// Deadlines by these settings.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(Inner {
            config: ArcSwap::from_pointee(config),
            attempt: AtomicU64::new(0),
            deadline: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }))
    }

    /// A call begins. `left` is the time until the earliest deadline that it brought along, zero
    /// for one that is over, `None` for none. `least` is the least time that this caller can do
    /// anything with; when the settings ask for more, that counts.
    ///
    /// # Errors
    ///
    /// [`TimeUp::Refused`] when there is no time, or too little.
    #[inline]
    pub fn begin(&self, left: Option<Duration>, least: Duration) -> Result<Time, TimeUp> {
        let config = **self.0.config.load();
        let left = earlier(left, config.total());
        let least = least.max(config.least());
        match left {
            Some(left) if left.is_zero() || left < least => {
                let refused = TimeUp::Refused { left, least };
                count(&self.0.refused);
                Err(refused)
            }
            _ => Ok(Time {
                left,
                attempt: config.attempt(),
            }),
        }
    }

    /// The [limit](Time::limit) of a call is reached: answers which it was, and counts it. For a
    /// call without a limit that is a deadline, after [`Duration::MAX`].
    pub fn time_up(&self, time: Time) -> TimeUp {
        let left = time.left.unwrap_or(Duration::MAX);
        match time.attempt {
            Some(after) if after < left => {
                count(&self.0.attempt);
                TimeUp::Attempt { after }
            }
            _ => {
                count(&self.0.deadline);
                TimeUp::Deadline { after: left }
            }
        }
    }

    /// The settings in force.
    pub fn config(&self) -> Config {
        **self.0.config.load()
    }

    /// Changes the settings, for all handles at once. Calls under way keep the time that they
    /// began with.
    pub fn set_config(&self, config: Config) {
        self.0.config.store(Arc::new(config));
    }

    /// How many calls ran out of time.
    pub fn snapshot(&self) -> Snapshot {
        // ORDERING: Relaxed. Counts on their own; nothing is published by them.
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Snapshot {
            attempt: read(&self.0.attempt),
            deadline: read(&self.0.deadline),
            refused: read(&self.0.refused),
        }
    }

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map(Self)
    }
}

impl fmt::Debug for Deadlines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadlines")
            .field("config", &self.config())
            .field("time_up", &self.snapshot())
            .finish()
    }
}

fn count(counter: &AtomicU64) {
    // ORDERING: Relaxed, as above.
    counter.fetch_add(1, Ordering::Relaxed);
}

fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        _ => one.or(other),
    }
}
