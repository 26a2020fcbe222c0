//! What a refused call is told.

use std::fmt;

/// A call was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason} ({in_flight} run, {limit} may)")]
#[non_exhaustive]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// The most calls at once.
    pub limit: u32,
    /// Calls that ran at that moment.
    pub in_flight: u32,
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// As many calls run as may.
    Full,
    /// As many calls wait as may.
    QueueFull,
    /// Its time was up before its turn.
    Deadline,
    /// A call of a higher priority took its place in a full line.
    Displaced,
    /// Its key is new, and all bulkheads of the [`Registry`](super::Registry) are in use.
    KeysFull,
}

impl Reason {
    /// In the order of their declaration.
    pub(super) const ALL: [Self; 5] = [
        Self::Full,
        Self::QueueFull,
        Self::Deadline,
        Self::Displaced,
        Self::KeysFull,
    ];

    /// `full`, `queue_full`, `deadline`, `displaced` or `keys_full`, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::QueueFull => "queue_full",
            Self::Deadline => "deadline",
            Self::Displaced => "displaced",
            Self::KeysFull => "keys_full",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "as many calls run as may",
            Self::QueueFull => "as many calls wait as may",
            Self::Deadline => "the time was up before the turn came",
            Self::Displaced => "a call of a higher priority took the place",
            Self::KeysFull => "the key is new, and all bulkheads are in use",
        })
    }
}
