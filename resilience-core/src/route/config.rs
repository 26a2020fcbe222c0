//! Checked settings.

use std::time::Duration;

use crate::{
    retry::BudgetConfig,
    settings::{ConfigError, span},
};

/// Unchecked settings; [`build`](Self::build) checks them.
///
/// Defaults: nodes are asked every 50 ms, and an answer counts for 1 s; a replica that is 10 s
/// behind is out until it has been at most 2 s behind for 1 s; a read waits 5 ms at most for a
/// replica; a fifth of the reads, and 100 per second, may move to the primary.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use]
pub struct ConfigBuilder {
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    poll_interval: Duration,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    observation_ttl: Duration,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or_span")
    )]
    max_lag: Option<Duration>,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    readmit_lag: Duration,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    readmit_after: Duration,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or_span")
    )]
    max_wait: Option<Duration>,
    spill: BudgetConfig,
}

const MILLISECOND: Duration = Duration::from_millis(1);

impl Default for ConfigBuilder {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_millis(50),
            observation_ttl: Duration::from_secs(1),
            max_lag: Some(Duration::from_secs(10)),
            readmit_lag: Duration::from_secs(2),
            readmit_after: Duration::from_secs(1),
            max_wait: Some(Duration::from_millis(5)),
            spill: BudgetConfig::default(),
        }
        .spill_floor()
    }
}

impl ConfigBuilder {
    /// The default: as that of retries, with a floor that a service with few reads does not notice.
    fn spill_floor(self) -> Self {
        match BudgetConfig::new(0.2, 100) {
            Ok(spill) => self.spill(spill),
            Err(_) => self,
        }
    }

    /// How often each node is asked, by whoever asks; 1 ms to 1 day. It tells those who are refused
    /// when to come again.
    pub const fn poll_interval(mut self, time: Duration) -> Self {
        self.poll_interval = time;
        self
    }

    /// How long an answer counts; from `poll_interval` to 1 day. A node that has not been seen for
    /// longer is down. Shorter than any failover takes: within this time, a primary that hangs is
    /// still the primary.
    pub const fn observation_ttl(mut self, time: Duration) -> Self {
        self.observation_ttl = time;
        self
    }

    /// How far behind a replica may be before it is out; from `readmit_lag` to 1 day. `None` (in a
    /// file: `"off"`): as far as it likes.
    pub fn max_lag(mut self, lag: impl Into<Option<Duration>>) -> Self {
        self.max_lag = lag.into();
        self
    }

    /// How far behind a replica that is out may be to come back; 1 ms to 1 day.
    pub const fn readmit_lag(mut self, lag: Duration) -> Self {
        self.readmit_lag = lag;
        self
    }

    /// How long it must be no further behind than that, at every look; 1 ms to 1 day.
    pub const fn readmit_after(mut self, time: Duration) -> Self {
        self.readmit_after = time;
        self
    }

    /// The longest wait for a replica that is about to have what a read asks for, and the longest that
    /// who looks at one should wait for its answer; 1 ms to 1 day. `None` (in a file: `"off"`): the
    /// primary is asked at once.
    pub fn max_wait(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.max_wait = time.into();
        self
    }

    /// How many reads may move to the primary as no replica will do: a share of all reads, and so
    /// many per second. A share of 1 is no limit.
    pub const fn spill(mut self, budget: BudgetConfig) -> Self {
        self.spill = budget;
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

/// Checked settings of a [`Router`](super::Router).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "ConfigBuilder"))]
pub struct Config {
    settings: ConfigBuilder,
}

impl TryFrom<ConfigBuilder> for Config {
    type Error = ConfigError;

    fn try_from(settings: ConfigBuilder) -> Result<Self, ConfigError> {
        span("poll_interval", settings.poll_interval, MILLISECOND)?;
        span(
            "observation_ttl",
            settings.observation_ttl,
            settings.poll_interval,
        )?;
        span("readmit_lag", settings.readmit_lag, MILLISECOND)?;
        if let Some(lag) = settings.max_lag {
            span("max_lag", lag, settings.readmit_lag)?;
        }
        span("readmit_after", settings.readmit_after, MILLISECOND)?;
        if let Some(wait) = settings.max_wait {
            span("max_wait", wait, MILLISECOND)?;
        }
        Ok(Self { settings })
    }
}

impl Config {
    /// Settings, from the defaults on.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// How often each node is asked.
    pub const fn poll_interval(&self) -> Duration {
        self.settings.poll_interval
    }

    /// How long an answer counts.
    pub const fn observation_ttl(&self) -> Duration {
        self.settings.observation_ttl
    }

    /// How far behind a replica may be before it is out.
    pub const fn max_lag(&self) -> Option<Duration> {
        self.settings.max_lag
    }

    /// How far behind one that is out may be to come back.
    pub const fn readmit_lag(&self) -> Duration {
        self.settings.readmit_lag
    }

    /// How long it must be no further behind than that.
    pub const fn readmit_after(&self) -> Duration {
        self.settings.readmit_after
    }

    /// The longest wait for a replica.
    pub const fn max_wait(&self) -> Option<Duration> {
        self.settings.max_wait
    }

    /// How many reads may move to the primary.
    pub const fn spill(&self) -> BudgetConfig {
        self.settings.spill
    }
}
