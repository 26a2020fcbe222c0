//! Checked settings.

use std::time::Duration;

use crate::settings::{ConfigError, check, span, whole};

/// Unchecked settings; [`build`](Self::build) checks them.
///
/// Defaults: one hedge, after the time in which 95 % of attempts are answered, but not before 1 ms;
/// measured over 30 s, from 100 attempts on, and no hedge until then.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use]
pub struct ConfigBuilder {
    max_hedges: u32,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or")
    )]
    quantile: Option<f64>,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or_span")
    )]
    fixed_delay: Option<Duration>,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    min_delay: Duration,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    window: Duration,
    min_samples: u32,
}

impl Default for ConfigBuilder {
    fn default() -> Self {
        Self {
            max_hedges: 1,
            quantile: Some(0.95),
            fixed_delay: None,
            min_delay: Duration::from_millis(1),
            window: Duration::from_secs(30),
            min_samples: 100,
        }
    }
}

impl ConfigBuilder {
    /// Attempts of one call beside the first; 0 (never) to 10.
    pub const fn max_hedges(mut self, attempts: u32) -> Self {
        self.max_hedges = attempts;
        self
    }

    /// A hedge begins when an attempt takes longer than this share of them; 0.5 to 0.999. `None` (in
    /// a file: `"off"`): always after `fixed_delay`.
    ///
    /// What it leaves of 1 is about the share of calls that ask for a hedge.
    pub fn quantile(mut self, share: impl Into<Option<f64>>) -> Self {
        self.quantile = share.into();
        self
    }

    /// A hedge begins after this time while too few attempts are measured; 0 to 1 day. `None` (in
    /// a file: `"off"`): there is none until then.
    pub fn fixed_delay(mut self, delay: impl Into<Option<Duration>>) -> Self {
        self.fixed_delay = delay.into();
        self
    }

    /// No hedge begins earlier, whatever is measured; 0 to 1 day.
    pub const fn min_delay(mut self, delay: Duration) -> Self {
        self.min_delay = delay;
        self
    }

    /// What was measured counts half after this time, a quarter after another; 10 ms to 1 day.
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// The fewest attempts that say how long attempts take, those that count half as half; 10 to
    /// 1 000 000.
    pub const fn min_samples(mut self, attempts: u32) -> Self {
        self.min_samples = attempts;
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

/// Checked settings of a [`HedgePolicy`](super::HedgePolicy).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "ConfigBuilder"))]
pub struct Config {
    settings: ConfigBuilder,
}

impl TryFrom<ConfigBuilder> for Config {
    type Error = ConfigError;

    fn try_from(settings: ConfigBuilder) -> Result<Self, ConfigError> {
        whole("max_hedges", settings.max_hedges, 0, 10)?;
        if let Some(share) = settings.quantile {
            let inside = (0.5..=0.999).contains(&share);
            check("quantile", share, inside, || "0.5 to 0.999".into())?;
        }
        if let Some(delay) = settings.fixed_delay {
            span("fixed_delay", delay, Duration::ZERO)?;
        }
        let known = settings.quantile.is_some() || settings.fixed_delay.is_some();
        check("fixed_delay", "off", known, || {
            "a time, while quantile is off".into()
        })?;
        span("min_delay", settings.min_delay, Duration::ZERO)?;
        span("window", settings.window, Duration::from_millis(10))?;
        whole("min_samples", settings.min_samples, 10, 1_000_000)?;
        Ok(Self { settings })
    }
}

impl Config {
    /// Settings, from the defaults on.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// Attempts of one call beside the first.
    pub const fn max_hedges(&self) -> u32 {
        self.settings.max_hedges
    }

    /// The share of attempts that are answered before a hedge begins.
    pub const fn quantile(&self) -> Option<f64> {
        self.settings.quantile
    }

    /// The delay of a hedge while too few attempts are measured.
    pub const fn fixed_delay(&self) -> Option<Duration> {
        self.settings.fixed_delay
    }

    /// The least delay of a hedge.
    pub const fn min_delay(&self) -> Duration {
        self.settings.min_delay
    }

    /// After what time a measurement counts half.
    pub const fn window(&self) -> Duration {
        self.settings.window
    }

    /// The fewest attempts that say how long attempts take.
    pub const fn min_samples(&self) -> u32 {
        self.settings.min_samples
    }
}
