//! What a breaker shows of itself.

use std::time::Duration;

use super::{mode::Mode, state::State};

/// State and counters of a breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The phase. In observe-only mode the one that the breaker would be in.
    pub state: State,
    /// Who decides.
    pub mode: Mode,
    /// Goes up on every change of state or mode, every reset and every expired lease.
    pub generation: u32,
    /// Closed: calls in the window (the count window if there is one, else the time window).
    /// Half-open: probes that have ended. Open: 0.
    pub calls: u64,
    /// Failures among [`calls`](Self::calls).
    pub failures: u64,
    /// Slow calls among [`calls`](Self::calls); 0 when not closed.
    pub slow_calls: u64,
    /// Closed: failures at the end of the window without a success after them. Counted up to the
    /// larger of count window and consecutive failures; 0 when neither is set.
    pub consecutive_failures: u32,
    /// Share of failures, or `None` below minimum calls and when not closed.
    pub failure_rate: Option<f64>,
    /// Share of slow calls, or `None` below minimum calls, when not closed and when slow calls
    /// are off.
    pub slow_call_rate: Option<f64>,
    /// Closed: the count window, if there is one.
    pub count_window: Option<WindowCounts>,
    /// Closed: the time window, if there is one.
    pub time_window: Option<WindowCounts>,
    /// Half-open: probes whose call has not ended.
    pub permits_out: u32,
    /// Openings in a row without a close between them; stops at 63.
    pub openings: u32,
    /// Openings since the breaker was made, by cause.
    pub opened_by: OpenedBy,
    /// Calls refused since the breaker was made.
    pub rejected: u64,
    /// Calls admitted in observe-only mode that would have been refused, since it was made.
    pub would_have_refused: u64,
    /// Outcomes that came in a later generation than their call, since the breaker was made.
    pub stale: u64,
    /// Events that did not fit the channel of a subscriber, since the breaker was made.
    pub lost_events: u64,
    /// Open: the rest of the reset timeout. Half-open with all permits spent: the rest of the
    /// lease. Forced open: the reset timeout, for nobody knows when it is let go.
    pub retry_after: Option<Duration>,
}

/// What is in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct WindowCounts {
    /// Calls that ended with success or failure.
    pub calls: u64,
    /// Failures among them.
    pub failures: u64,
    /// Slow calls among them, successes and failures.
    pub slow_calls: u64,
    /// Share of failures, or `None` below minimum calls.
    pub failure_rate: Option<f64>,
    /// Share of slow calls, or `None` below minimum calls and when slow calls are off.
    pub slow_call_rate: Option<f64>,
}

/// Openings since a breaker was made, by cause.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct OpenedBy {
    /// Enough failures in a row.
    pub consecutive_failures: u64,
    /// Enough failures in a window.
    pub failure_count: u64,
    /// The share of failures.
    pub failure_rate: u64,
    /// The share of slow calls.
    pub slow_call_rate: u64,
    /// Failed probes.
    pub probe_failed: u64,
    /// Forced open.
    pub by_hand: u64,
}
