//! What the settings of all policies have in common: one error, and the checks that make it.

#[cfg(feature = "serde")]
pub(crate) mod off;

use std::{fmt::Display, time::Duration};

/// A setting out of its range.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field} is {value}, allowed: {allowed}")]
#[non_exhaustive]
pub struct ConfigError {
    /// The setting.
    pub field: &'static str,
    /// The value it was given.
    pub value: String,
    /// The values it may have.
    pub allowed: String,
}

impl ConfigError {
    /// A setting of one's own that is out of its range.
    pub fn new(field: &'static str, value: impl Display, allowed: impl Into<String>) -> Self {
        Self {
            field,
            value: value.to_string(),
            allowed: allowed.into(),
        }
    }
}

/// The longest time that a setting may ask for.
pub(crate) const LONGEST: Duration = Duration::from_secs(86_400);

/// A share that may be off.
pub(crate) fn rate(field: &'static str, value: Option<f64>) -> Result<(), ConfigError> {
    value.map_or(Ok(()), |rate| {
        check(field, rate, rate > 0.0 && rate <= 1.0, || {
            "over 0, up to 1".into()
        })
    })
}

/// A number from `low` to `high`.
pub(crate) fn whole(
    field: &'static str,
    value: u32,
    low: u32,
    high: u32,
) -> Result<(), ConfigError> {
    check(field, value, (low..=high).contains(&value), || {
        format!("{low} to {high}")
    })
}

/// A time from `low` to a day.
pub(crate) fn span(field: &'static str, value: Duration, low: Duration) -> Result<(), ConfigError> {
    let inside = (low..=LONGEST).contains(&value);
    check(field, format_args!("{value:?}"), inside, || {
        format!("{low:?} to 1 day")
    })
}

/// Any value, with what it may be if it is not `ok`.
pub(crate) fn check(
    field: &'static str,
    value: impl Display,
    ok: bool,
    allowed: impl FnOnce() -> String,
) -> Result<(), ConfigError> {
    if ok {
        return Ok(());
    }
    Err(ConfigError::new(field, value, allowed()))
}
