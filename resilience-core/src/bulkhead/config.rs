//! Checked settings.

use std::time::Duration;

use super::word::MOST;
use crate::settings::{ConfigError, check, span, whole};

/// Unchecked settings; [`build`](Self::build) checks them.
///
/// Defaults: 100 calls at once, and nobody waits; a line, once there is one, for 1 s at most.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use]
pub struct ConfigBuilder {
    limit: u32,
    max_queue: usize,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or_span")
    )]
    max_wait: Option<Duration>,
}

impl Default for ConfigBuilder {
    fn default() -> Self {
        Self {
            limit: 100,
            max_queue: 0,
            max_wait: Some(Duration::from_secs(1)),
        }
    }
}

/// The longest line that may be asked for.
const LONGEST_QUEUE: usize = 1_000_000;

impl ConfigBuilder {
    /// The most calls at once; 1 to 1 073 741 824.
    pub const fn limit(mut self, calls: u32) -> Self {
        self.limit = calls;
        self
    }

    /// The most calls that wait; 0 (nobody) to 1 000 000.
    pub const fn max_queue(mut self, calls: usize) -> Self {
        self.max_queue = calls;
        self
    }

    /// How long a call waits at most; 1 ns to 1 day. `None` (in a file: `"off"`) leaves that to
    /// the deadline of each call.
    pub fn max_wait(mut self, longest: impl Into<Option<Duration>>) -> Self {
        self.max_wait = longest.into();
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

/// Checked settings of a [`Bulkhead`](super::Bulkhead).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "ConfigBuilder"))]
pub struct Config {
    settings: ConfigBuilder,
}

impl TryFrom<ConfigBuilder> for Config {
    type Error = ConfigError;

    fn try_from(settings: ConfigBuilder) -> Result<Self, ConfigError> {
        whole("limit", settings.limit, 1, MOST)?;
        let calls = settings.max_queue;
        check("max_queue", calls, calls <= LONGEST_QUEUE, || {
            format!("0 to {LONGEST_QUEUE}")
        })?;
        if let Some(longest) = settings.max_wait {
            span("max_wait", longest, Duration::from_nanos(1))?;
        }
        Ok(Self { settings })
    }
}

impl Config {
    /// Settings, from the defaults on.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// The most calls at once.
    pub const fn limit(&self) -> u32 {
        self.settings.limit
    }

    /// The most calls that wait.
    pub const fn max_queue(&self) -> usize {
        self.settings.max_queue
    }

    /// How long a call waits at most.
    pub const fn max_wait(&self) -> Option<Duration> {
        self.settings.max_wait
    }
}
