//! What becomes of retries and of what pays for them, told to subscribers.

use super::{BudgetConfig, Config};

/// What became of a [`RetryBudget`](super::RetryBudget).
///
/// Those of one thread come in order; of two threads each may tell its own first. The
/// [snapshot](super::RetryBudget::snapshot) says how things are.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum BudgetChange {
    /// It is spent: the first retry or hedge was refused since it was made or has recovered.
    Spent,
    /// It has recovered from that: half of its burst is saved up again, or more. Told by the first
    /// retry or hedge that is asked for then; a budget that has just enough for one now and then
    /// has not.
    Recovered,
    /// It has other settings, these.
    Settings(BudgetConfig),
}

impl BudgetChange {
    /// `spent`, `recovered` or `settings`, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spent => "spent",
            Self::Recovered => "recovered",
            Self::Settings(_) => "settings",
        }
    }
}

/// What became of a [`RetryPolicy`](super::RetryPolicy).
///
/// A call that is not tried again is none: the [snapshot](super::RetryPolicy::snapshot) counts those.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// Of its budget, which others may share.
    Budget(BudgetChange),
    /// It has other settings, these.
    Settings(Config),
}
