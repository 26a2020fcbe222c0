//! Deadlines: how long a call may take in all, and each of its attempts.
//!
//! | type | for |
//! |---|---|
//! | [`Deadlines`] | decides: is there time enough to begin, and when is it up? |
//! | [`grpc`], [`millis`] | the time that is left, as headers say it |
//!
//! A deadline is when the answer is of no use any more. It goes with the call to everyone who works
//! on it, so that nobody works on for a caller who has gone.
//!
//! # What is answered
//!
//! | question | answer |
//! |---|---|
//! | several deadlines? | the earliest: a setting shortens what a caller asked for, and never lengthens it |
//! | how long may an attempt take? | the attempt's own limit, or what is left when that is less |
//! | when is it too late to begin? | when nothing is left, or less than `least`; exactly `least` is enough |
//! | both up at once? | the deadline is told: another attempt would be in vain |
//! | a change of settings? | for calls that begin after it |
//!
//! Time is told as spans that are left, not as points on a clock: callers have their own.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//!
//! use resilience_core::deadline::{Config, Deadlines, TimeUp};
//!
//! let config = Config::builder()
//!     .attempt(Duration::from_secs(2))
//!     .least(Duration::from_millis(20))
//!     .build()?;
//! let deadlines = Deadlines::new(config);
//!
//! let time = deadlines.begin(Some(Duration::from_millis(1_500)), Duration::ZERO);
//! assert_eq!(time.unwrap().limit(), Some(Duration::from_millis(1_500)));
//!
//! let late = deadlines.begin(Some(Duration::from_millis(19)), Duration::ZERO);
//! assert!(matches!(late, Err(TimeUp::Refused { .. })));
//! # Ok::<_, resilience_core::deadline::ConfigError>(())
//! ```

mod config;
pub mod grpc;
pub mod millis;
mod policy;
mod text;
mod time_up;

pub use self::{
    config::{Config, ConfigBuilder},
    policy::{Deadlines, Snapshot, Time},
    text::Text,
    time_up::TimeUp,
};
pub use crate::settings::ConfigError;
