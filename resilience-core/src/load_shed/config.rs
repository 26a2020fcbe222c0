//! Checked settings.

use std::time::Duration;

use super::Class;
use crate::{
    bulkhead::MOST,
    settings::{ConfigError, check, span, whole},
};

/// Unchecked settings; [`build`](Self::build) checks them.
///
/// Defaults: a target of 5 ms in intervals of 100 ms; no limit on calls at once nor on the CPU; five calm
/// intervals before less is shed; all classes up to high may be shed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use]
pub struct ConfigBuilder {
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    target: Duration,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    interval: Duration,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or")
    )]
    limit: Option<u32>,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or")
    )]
    cpu: Option<f64>,
    hold: u32,
    highest: Class,
}

impl Default for ConfigBuilder {
    fn default() -> Self {
        Self {
            target: Duration::from_millis(5),
            interval: Duration::from_millis(100),
            limit: None,
            cpu: None,
            hold: 5,
            highest: Class::High,
        }
    }
}

impl ConfigBuilder {
    /// The queue delay that is borne; 1 ms to 1 day, and not above `interval`.
    ///
    /// An interval in which even the shortest delay is longer is overloaded, one in which it is not
    /// longer than half of this is calm.
    pub const fn target(mut self, delay: Duration) -> Self {
        self.target = delay;
        self
    }

    /// How long is measured before the level moves; 1 ms to 1 day. Long enough for a burst to be
    /// worked off, and for some calls to come through.
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The calls at once that are borne; 1 to 1 073 741 824. `None` (in a file: `"off"`): they are
    /// counted, and decide nothing.
    ///
    /// An interval in which every call finds as many or more is overloaded; one in which some call
    /// finds at most nine tenths of them is calm. A limit that moves comes by
    /// [`LoadShed::follow`](super::LoadShed::follow).
    pub fn limit(mut self, calls: impl Into<Option<u32>>) -> Self {
        self.limit = calls.into();
        self
    }

    /// The share of the CPU that is borne; 0.1 to 0.99. `None` (in a file: `"off"`): what is told of
    /// it decides nothing.
    ///
    /// An interval at whose end more is used is overloaded, one with at most nine tenths of it is
    /// calm. Somebody must tell what is used: [`LoadShed::report_cpu`](super::LoadShed::report_cpu)
    /// or [`LoadShed::follow_cpu`](super::LoadShed::follow_cpu).
    pub fn cpu(mut self, share: impl Into<Option<f64>>) -> Self {
        self.cpu = share.into();
        self
    }

    /// How many calm intervals in a row let the level fall; 1 to 1 000.
    ///
    /// After a fall that was one too many it is twice as many, up to 16 times as many.
    pub const fn hold(mut self, intervals: u32) -> Self {
        self.hold = intervals;
        self
    }

    /// The highest class that may be shed; not `critical`, which never is.
    pub const fn highest(mut self, class: Class) -> Self {
        self.highest = class;
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

/// Checked settings of a [`LoadShed`](super::LoadShed).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "ConfigBuilder"))]
pub struct Config {
    settings: ConfigBuilder,
}

impl TryFrom<ConfigBuilder> for Config {
    type Error = ConfigError;

    fn try_from(settings: ConfigBuilder) -> Result<Self, ConfigError> {
        let (target, interval) = (settings.target, settings.interval);
        span("interval", interval, Duration::from_millis(1))?;
        let inside = (Duration::from_millis(1)..=interval).contains(&target);
        check("target", format_args!("{target:?}"), inside, || {
            format!("1ms to the interval, {interval:?}")
        })?;
        if let Some(calls) = settings.limit {
            whole("limit", calls, 1, MOST)?;
        }
        if let Some(share) = settings.cpu {
            let inside = (0.1..=0.99).contains(&share);
            check("cpu", share, inside, || "0.1 to 0.99".into())?;
        }
        whole("hold", settings.hold, 1, 1_000)?;
        let class = settings.highest;
        check("highest", class, class < Class::Critical, || {
            "background, low, normal or high".into()
        })?;
        Ok(Self { settings })
    }
}

impl Config {
    /// Settings, from the defaults on.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// The queue delay that is borne.
    pub const fn target(&self) -> Duration {
        self.settings.target
    }

    /// How long is measured before the level moves.
    pub const fn interval(&self) -> Duration {
        self.settings.interval
    }

    /// The calls at once that are borne.
    pub const fn limit(&self) -> Option<u32> {
        self.settings.limit
    }

    /// The share of the CPU that is borne.
    pub const fn cpu(&self) -> Option<f64> {
        self.settings.cpu
    }

    /// How many calm intervals in a row let the level fall.
    pub const fn hold(&self) -> u32 {
        self.settings.hold
    }

    /// The highest class that may be shed.
    pub const fn highest(&self) -> Class {
        self.settings.highest
    }

    /// The level at which all classes are shed that may be.
    pub const fn max_level(&self) -> u32 {
        self.settings.highest.floor() + super::class::STEPS
    }
}
