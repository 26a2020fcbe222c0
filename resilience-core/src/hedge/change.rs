//! What becomes of hedges, told to subscribers.

use std::time::Duration;

use super::Config;
use crate::retry::BudgetChange;

/// What became of a [`HedgePolicy`](super::HedgePolicy).
///
/// Those of one thread come in order; of two threads each may tell its own first. The
/// [snapshot](super::HedgePolicy::snapshot) says how things are.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// Of its budget, which others may share.
    Budget(BudgetChange),
    /// It has other settings, these.
    Settings(Config),
    /// The [delay](super::Snapshot::delay) was learned, was lost for want of attempts, or is twice
    /// or half of what was told the last time, or further from it.
    Delay {
        /// As it was told the last time; `None` for never.
        from: Option<Duration>,
        /// From now on; `None` for never.
        to: Option<Duration>,
    },
}
