//! Changes of state, told to subscribers.

use std::{fmt, sync::Arc, time::Duration};

use super::{mode::Mode, state::State};
use crate::events;
pub use crate::events::Subscription;

/// Why a breaker changed its state.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// Enough failures in a row.
    ConsecutiveFailures,
    /// Enough failures in a window.
    FailureCount,
    /// The share of failures in a window reached its threshold.
    FailureRate,
    /// The share of slow calls in a window reached its threshold.
    SlowCallRate,
    /// So many probes failed that the success threshold is out of reach, or more than allowed.
    ProbeFailed,
    /// Enough probes succeeded.
    ProbesSucceeded,
    /// The reset timeout was over when a caller came.
    ResetTimeout,
    /// Probes did not end within their lease and were written off; still half-open.
    LeaseExpired,
    /// A mode was set, or the breaker was reset.
    ByHand,
}

impl Cause {
    /// Snake case name, as used in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureCount => "failure_count",
            Self::FailureRate => "failure_rate",
            Self::SlowCallRate => "slow_call_rate",
            Self::ProbeFailed => "probe_failed",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::ResetTimeout => "reset_timeout",
            Self::LeaseExpired => "lease_expired",
            Self::ByHand => "by_hand",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The beginning of a generation: a change of state or mode, a reset, or an expired lease.
///
/// `from` and `to` are equal for an expired lease (half-open), and may be for a reset or a change
/// of mode.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Transition {
    /// The breaker's name.
    pub breaker: Arc<str>,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// The mode after.
    pub mode: Mode,
    /// The generation that began.
    pub generation: u32,
    /// Why.
    pub cause: Cause,
    /// Calls (or probes) that were judged: those of the window that opened.
    pub calls: u64,
    /// Failures among them.
    pub failures: u64,
    /// Slow calls among them.
    pub slow_calls: u64,
    /// Share of failures, if it was judged.
    pub failure_rate: Option<f64>,
    /// Share of slow calls, if it was judged.
    pub slow_call_rate: Option<f64>,
    /// How long the breaker stays open, when it opened by itself.
    pub open_for: Option<Duration>,
    /// The breaker only observes: no call was or will be refused because of this.
    pub observed: bool,
    /// It is the shadow's, not the breaker's own; always `observed` as well.
    pub shadow: bool,
}

pub(super) type Events = events::Events<Transition>;
