//! The peers, each as fast as it can sanely be set up, and settings that all share.
//!
//! Where a peer cannot be set up like ours, the difference is said here.

#![allow(
    clippy::missing_panics_doc,
    reason = "all settings are fixed here: a wrong one stops the first run"
)]

pub mod breaker;
pub mod layer;
pub mod policies;
pub mod rate_limit;
pub mod read_write;
pub mod webhook;

use std::time::Duration;

/// Calls in a count window.
pub const COUNT_WINDOW: u32 = 100;
/// Fewest calls that are judged.
pub const MINIMUM_CALLS: u32 = 20;
/// The share of failures that opens.
pub const FAILURE_RATE: f64 = 0.5;
/// The span of a time window.
pub const TIME_WINDOW: Duration = Duration::from_secs(10);
/// Calls that last longer are slow: none here is.
pub const SLOW_CALL: Duration = Duration::from_secs(1);
/// From open to half-open: longer than any measurement.
pub const RESET_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Permits in a second: more than a machine can ask for, so that all are admitted.
pub const NEVER_USED_UP: u32 = 1_000_000_000;
/// The span in which one permit comes back: longer than any measurement, so that after the
/// first call all are refused.
pub const USED_UP: Duration = Duration::from_secs(3_600);
