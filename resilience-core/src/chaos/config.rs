//! Checked settings.

use std::time::Duration;

use crate::settings::{ConfigError, check, span};

/// How a call ends that is broken off.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Abort {
    /// It fails, as when a connection breaks.
    #[default]
    Disconnect,
    /// It never answers.
    Silence,
}

impl Abort {
    /// `disconnect` or `silence`, as used in settings and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::Silence => "silence",
        }
    }
}

/// Unchecked settings; [`build`](Self::build) checks them.
///
/// Defaults: all rates are 0, so that nothing happens even when it is switched on; a latency of
/// 100 ms, and calls that are broken off fail.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use]
pub struct ConfigBuilder {
    latency_rate: f64,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    latency: Duration,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or_span")
    )]
    latency_max: Option<Duration>,
    error_rate: f64,
    abort_rate: f64,
    abort: Abort,
}

impl Default for ConfigBuilder {
    fn default() -> Self {
        Self {
            latency_rate: 0.0,
            latency: Duration::from_millis(100),
            latency_max: None,
            error_rate: 0.0,
            abort_rate: 0.0,
            abort: Abort::default(),
        }
    }
}

impl ConfigBuilder {
    /// The share of calls that take longer; 0 to 1.
    pub const fn latency_rate(mut self, share: f64) -> Self {
        self.latency_rate = share;
        self
    }

    /// How much longer they take, or the least of it; 0 to 1 day.
    pub const fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// The most of it, so that it is drawn evenly from `latency` on; `latency` to 1 day. `None` (in
    /// a file: `"off"`): always `latency`.
    pub fn latency_max(mut self, most: impl Into<Option<Duration>>) -> Self {
        self.latency_max = most.into();
        self
    }

    /// The share of calls that are answered by an error; 0 to 1.
    pub const fn error_rate(mut self, share: f64) -> Self {
        self.error_rate = share;
        self
    }

    /// The share of calls that are broken off; 0 to what `error_rate` leaves of 1, for no call has
    /// both.
    pub const fn abort_rate(mut self, share: f64) -> Self {
        self.abort_rate = share;
        self
    }

    /// How a call ends that is broken off.
    pub const fn abort(mut self, abort: Abort) -> Self {
        self.abort = abort;
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

/// Checked settings of a [`Chaos`](super::Chaos).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "ConfigBuilder"))]
pub struct Config {
    settings: ConfigBuilder,
}

impl TryFrom<ConfigBuilder> for Config {
    type Error = ConfigError;

    fn try_from(settings: ConfigBuilder) -> Result<Self, ConfigError> {
        share("latency_rate", settings.latency_rate)?;
        let least = settings.latency;
        span("latency", least, Duration::ZERO)?;
        if let Some(most) = settings.latency_max {
            span("latency_max", most, least)?;
        }
        let (errors, aborts) = (settings.error_rate, settings.abort_rate);
        share("error_rate", errors)?;
        // By the sum, which is rounded to 1 as it should be: 1 - 0.8 is a little less than 0.2.
        let inside = aborts >= 0.0 && errors + aborts <= 1.0;
        check("abort_rate", aborts, inside, || {
            format!("0 to {}", 1.0 - errors)
        })?;
        Ok(Self { settings })
    }
}

fn share(field: &'static str, value: f64) -> Result<(), ConfigError> {
    check(field, value, (0.0..=1.0).contains(&value), || {
        "0 to 1".into()
    })
}

impl Config {
    /// Settings, from the defaults on.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// The share of calls that take longer.
    pub const fn latency_rate(&self) -> f64 {
        self.settings.latency_rate
    }

    /// How much longer they take at least.
    pub const fn latency(&self) -> Duration {
        self.settings.latency
    }

    /// How much longer they take at most, if that is more.
    pub const fn latency_max(&self) -> Option<Duration> {
        self.settings.latency_max
    }

    /// The share of calls that are answered by an error.
    pub const fn error_rate(&self) -> f64 {
        self.settings.error_rate
    }

    /// The share of calls that are broken off.
    pub const fn abort_rate(&self) -> f64 {
        self.settings.abort_rate
    }

    /// How a call ends that is broken off.
    pub const fn abort(&self) -> Abort {
        self.settings.abort
    }
}
