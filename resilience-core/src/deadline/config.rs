//! Checked settings.

use std::time::Duration;

use crate::settings::{ConfigError, check, span};

/// Unchecked settings; [`build`](Self::build) checks them.
///
/// Defaults: no limit of its own, neither in all nor per attempt, and no least time: only what
/// calls bring along counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use]
pub struct ConfigBuilder {
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or_span")
    )]
    total: Option<Duration>,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or_span")
    )]
    attempt: Option<Duration>,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    least: Duration,
}

impl ConfigBuilder {
    /// How long a call may take from here on, whatever it brings along; 1 ns to 1 day. `None` (in
    /// a file: `"off"`) leaves it to the call.
    pub fn total(mut self, longest: impl Into<Option<Duration>>) -> Self {
        self.total = longest.into();
        self
    }

    /// How long one attempt may take; 1 ns to 1 day. `None` (in a file: `"off"`): as long as
    /// is left.
    pub fn attempt(mut self, longest: impl Into<Option<Duration>>) -> Self {
        self.attempt = longest.into();
        self
    }

    /// The least time in which an answer can be had; 0 to 1 day, and not more than `total` and
    /// `attempt`. A call with less is refused. With 0 it is refused when nothing is left.
    pub const fn least(mut self, shortest: Duration) -> Self {
        self.least = shortest;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// The first setting out of its range, with its value and what is allowed.
    pub fn build(self) -> Result<Config, ConfigError> {
        Config::try_from(self)
    }
}

/// Checked settings of [`Deadlines`](super::Deadlines).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "ConfigBuilder"))]
pub struct Config {
    settings: ConfigBuilder,
}

impl TryFrom<ConfigBuilder> for Config {
    type Error = ConfigError;

    fn try_from(settings: ConfigBuilder) -> Result<Self, ConfigError> {
        let limits = [("total", settings.total), ("attempt", settings.attempt)];
        for (field, limit) in limits {
            if let Some(limit) = limit {
                span(field, limit, Duration::from_nanos(1))?;
            }
        }
        let least = settings.least;
        span("least", least, Duration::ZERO)?;
        for (field, limit) in limits {
            let fits = limit.is_none_or(|limit| least <= limit);
            check("least", format_args!("{least:?}"), fits, || {
                format!("up to {field}, {:?}", limit.unwrap_or_default())
            })?;
        }
        Ok(Self { settings })
    }
}

impl Config {
    /// Settings, from the defaults on.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// How long a call may take from here on.
    pub const fn total(&self) -> Option<Duration> {
        self.settings.total
    }

    /// How long one attempt may take.
    pub const fn attempt(&self) -> Option<Duration> {
        self.settings.attempt
    }

    /// The least time in which an answer can be had.
    pub const fn least(&self) -> Duration {
        self.settings.least
    }
}
