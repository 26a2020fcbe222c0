//! What a call that is shed is told, and what subscribers are told of the level.

use std::time::Duration;

use super::{Cause, Class};

/// A call was shed: there is more to do than can be done, and others matter more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("overloaded, calls of class {class} are shed (level {level})")]
#[non_exhaustive]
pub struct Shed {
    /// The call's class.
    pub class: Class,
    /// The level of that moment.
    pub level: u32,
    /// What made it rise the last time.
    pub cause: Cause,
    pub(super) retry_after: Duration,
}

impl Shed {
    /// When the class is admitted again at the earliest: the level must fall so far, in calm
    /// intervals. The lower the class, the later; at least one second.
    pub const fn retry_after(&self) -> Duration {
        self.retry_after
    }

    /// What made the level rise the last time: `queue_delay`, `concurrency` or `cpu`, as used in
    /// metric labels.
    pub const fn reason(&self) -> &'static str {
        self.cause.as_str()
    }
}

/// The level moved.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LevelChange {
    /// The level before.
    pub from: u32,
    /// The level after.
    pub to: u32,
    /// Why.
    pub cause: Cause,
    /// The shortest queue delay of the interval, if one was reported.
    pub delay: Option<Duration>,
    /// Calls that ran at that moment.
    pub in_flight: u32,
    /// The calls at once that are borne, if there is a limit.
    pub limit: Option<u32>,
    /// The share of the CPU that was used, if it was told.
    pub cpu: Option<f64>,
}

/// The figures of a load shedder at one moment. Counts wrap at 2^64.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// 0: all are admitted. Each 16 levels shed one more class, the lowest first, a sixteenth of it
    /// at a time.
    pub level: u32,
    /// The highest level that may be reached.
    pub max_level: u32,
    /// Calls that run.
    pub in_flight: u32,
    /// The calls at once that are borne, as seen at the end of the last interval; `None` without a
    /// limit.
    pub limit: Option<u32>,
    /// The shortest queue delay of the last interval in which one was reported.
    pub delay: Option<Duration>,
    /// The share of the CPU that was used, as seen at the end of the last interval; `None` while
    /// nobody tells it.
    pub cpu: Option<f64>,
    /// How often the level rose, since the handle was made.
    pub rises: u64,
    /// How often it fell.
    pub falls: u64,
    /// Events that did not fit the channel of a subscriber.
    pub lost_events: u64,
    pub(super) admitted: [u64; Class::ALL.len()],
    pub(super) shed: [u64; Class::ALL.len()],
}

impl Snapshot {
    /// Calls of `class` that were admitted, since the handle was made.
    pub const fn admitted(&self, class: Class) -> u64 {
        self.admitted[class as usize]
    }

    /// Calls of `class` that were shed, since the handle was made.
    pub const fn shed(&self, class: Class) -> u64 {
        self.shed[class as usize]
    }
}
