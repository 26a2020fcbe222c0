//! What a breaker shows of itself.

use std::time::Duration;

use super::state::State;

/// State and counters of a breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The phase.
    pub state: State,
    /// Goes up on every change of state, and on every expired lease.
    pub generation: u32,
    /// Closed: calls in the window. Half-open: probes that have ended. Open: 0.
    pub calls: u64,
    /// Failures among [`calls`](Self::calls).
    pub failures: u64,
    /// Closed: failures at the end of the window without a success after them. Counted up to the
    /// larger of count window and consecutive failures.
    pub consecutive_failures: u32,
    /// Share of failures, or `None` below minimum calls and when not closed.
    pub failure_rate: Option<f64>,
    /// Half-open: probes whose call has not ended.
    pub permits_out: u32,
    /// Openings in a row without a close between them; stops at 63.
    pub openings: u32,
    /// Calls refused since the breaker was made.
    pub rejected: u64,
    /// Outcomes that came in a later generation than their call, since the breaker was made.
    pub stale: u64,
    /// Open: the rest of the reset timeout. Half-open with all permits spent: the rest of the
    /// lease.
    pub retry_after: Option<Duration>,
}
