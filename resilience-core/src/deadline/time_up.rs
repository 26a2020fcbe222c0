use std::time::Duration;

/// Why a call has no answer in time.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TimeUp {
    /// The attempt's own limit was up, and the deadline was not: another attempt may help.
    #[error("no answer after {after:?}")]
    Attempt {
        /// How much time the attempt had.
        after: Duration,
    },
    /// The deadline came during the call.
    #[error("the deadline came {after:?} after the call began")]
    Deadline {
        /// How much time was left when the call began.
        after: Duration,
    },
    /// The deadline was over before the call began, or too near; nothing was called.
    #[error("refused: {left:?} until the deadline, and a call takes {least:?} at least")]
    Refused {
        /// How much time was left. Zero for a deadline that was over.
        left: Duration,
        /// How much would have been enough; zero stands for any at all.
        least: Duration,
    },
}

impl TimeUp {
    /// `attempt`, `deadline` or `refused`, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempt { .. } => "attempt",
            Self::Deadline { .. } => "deadline",
            Self::Refused { .. } => "refused",
        }
    }
}
