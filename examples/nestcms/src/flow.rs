//! The numbered steps of the payment flow, as log lines.
//!
//! Each step is one `tracing` event at debug level under [`TARGET`], written by the code
//! that takes the step, so that a log (or a test) shows the order in which they ran.

/// The target of all flow events.
pub const TARGET: &str = "nestcms::flow";

/// Notes that `step` of the payment flow was taken.
pub fn step(step: u8, what: &'static str) {
    tracing::debug!(target: TARGET, step, what);
}

/// Notes that an event was emitted.
pub fn event(name: &'static str) {
    tracing::debug!(target: TARGET, event = name);
}
