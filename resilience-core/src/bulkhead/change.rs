//! What becomes of a bulkhead, told to subscribers.

use super::Config;

/// What became of a [`Bulkhead`](super::Bulkhead).
///
/// Those of one thread come in order; of two threads each may tell its own first. The
/// [snapshot](super::Bulkhead::snapshot) says how things are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// The first call was refused for want of room since the bulkhead was made or had room: no
    /// place was free for it, in time or at all, and none is yet. One whose time was up when it came
    /// is not such a call, nor is one that waits.
    Full,
    /// There is room again: at most half of the limit runs, and nobody waits. Told by the call that
    /// ended, or gave up, last.
    Room,
    /// It has other settings, these.
    Settings(Config),
}

impl Change {
    /// `full`, `room` or `settings`, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Room => "room",
            Self::Settings(_) => "settings",
        }
    }
}
