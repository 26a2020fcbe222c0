use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use resilience_core::clock::{Clock, SharedClock};
use resilience_core::coalesce::{Config, Reason};

/// Settings and figures of calls that share answers; clones are handles on the same ones.
#[derive(Clone)]
pub struct Coalescing(Arc<Inner>);

struct Inner {
    config: ArcSwap<Config>,
    clock: SharedClock,
    keys: AtomicUsize,
    calls: AtomicU64,
    followers: AtomicU64,
    refused_keys: AtomicU64,
    refused_followers: AtomicU64,
}

/// The figures at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Keys with a call under way.
    pub keys: usize,
    /// Calls that were begun since the handle was made. One whose callers all went away before it
    /// was polled counts, and never reached the inner service; those that callers make on their own,
    /// after an answer that was for one alone, do not count.
    pub calls: u64,
    /// Calls that joined another one.
    pub followers: u64,
    /// Calls that were refused because of too many keys.
    pub refused_keys: u64,
    /// Calls that were refused because of too many followers.
    pub refused_followers: u64,
}

impl Coalescing {
    /// A handle on the default clock.
    pub fn new(config: Config) -> Self {
        Self::with_clock(config, SharedClock::default())
    }

    /// A handle on a clock of one's own, by which the age of calls is counted.
    pub fn with_clock(config: Config, clock: impl Into<SharedClock>) -> Self {
        Self(Arc::new(Inner {
            config: ArcSwap::from_pointee(config),
            clock: clock.into(),
            keys: AtomicUsize::new(0),
            calls: AtomicU64::new(0),
            followers: AtomicU64::new(0),
            refused_keys: AtomicU64::new(0),
            refused_followers: AtomicU64::new(0),
        }))
    }

    /// The settings in force.
    pub fn config(&self) -> Config {
        **self.0.config.load()
    }

    /// Changes the settings, for all handles at once.
    ///
    /// | setting | what becomes of calls under way |
    /// |---|---|
    /// | `max_keys`, `max_followers` | go on, also above a smaller one |
    /// | `join_within` | counts from the beginning of each |
    pub fn set_config(&self, config: Config) {
        self.0.config.store(Arc::new(config));
    }

    /// The figures of now.
    pub fn snapshot(&self) -> Snapshot {
        // ORDERING: Relaxed, here and below. Counts for people to read.
        Snapshot {
            keys: self.0.keys.load(Ordering::Relaxed),
            calls: self.0.calls.load(Ordering::Relaxed),
            followers: self.0.followers.load(Ordering::Relaxed),
            refused_keys: self.0.refused_keys.load(Ordering::Relaxed),
            refused_followers: self.0.refused_followers.load(Ordering::Relaxed),
        }
    }

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map(Self)
    }

    pub(super) fn now(&self) -> Duration {
        self.0.clock.now()
    }

    pub(super) fn began(&self) {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn followed(&self) {
        self.0.followers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, reason: Reason) {
        let count = match reason {
            Reason::Keys => &self.0.refused_keys,
            _ => &self.0.refused_followers,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn keys_grew(&self) {
        self.0.keys.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn keys_shrank(&self, by: usize) {
        self.0.keys.fetch_sub(by, Ordering::Relaxed);
    }
}

impl Default for Coalescing {
    /// The default settings on the default clock.
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl fmt::Debug for Coalescing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}
