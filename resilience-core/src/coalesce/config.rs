//! Checked settings.

use std::time::Duration;

use crate::settings::{ConfigError, span, whole};

/// Unchecked settings; [`build`](Self::build) checks them.
///
/// Defaults: 10 000 keys, 10 000 followers of each call, and a call is joined for 30 s.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use]
pub struct ConfigBuilder {
    max_keys: u32,
    max_followers: u32,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or_span")
    )]
    join_within: Option<Duration>,
}

impl Default for ConfigBuilder {
    fn default() -> Self {
        Self {
            max_keys: 10_000,
            max_followers: 10_000,
            join_within: Some(Duration::from_secs(30)),
        }
    }
}

/// The most keys and followers that may be asked for.
const MOST: u32 = 10_000_000;

impl ConfigBuilder {
    /// The most keys with a call under way; 1 to 10 000 000.
    pub const fn max_keys(mut self, keys: u32) -> Self {
        self.max_keys = keys;
        self
    }

    /// The most calls that wait for the answer of one other; 0 (each call of a key after the first is
    /// refused) to 10 000 000.
    pub const fn max_followers(mut self, calls: u32) -> Self {
        self.max_followers = calls;
        self
    }

    /// For how long after its beginning a call is joined; 1 ms to 1 day. Who comes later begins
    /// another one, so that a call that hangs does not take its key along for ever.
    ///
    /// `None` (in a file: `"off"`): for as long as it runs.
    pub fn join_within(mut self, longest: impl Into<Option<Duration>>) -> Self {
        self.join_within = longest.into();
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

/// Checked settings of calls that share one answer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "ConfigBuilder"))]
pub struct Config {
    settings: ConfigBuilder,
}

impl TryFrom<ConfigBuilder> for Config {
    type Error = ConfigError;

    fn try_from(settings: ConfigBuilder) -> Result<Self, ConfigError> {
        whole("max_keys", settings.max_keys, 1, MOST)?;
        whole("max_followers", settings.max_followers, 0, MOST)?;
        if let Some(longest) = settings.join_within {
            span("join_within", longest, Duration::from_millis(1))?;
        }
        Ok(Self { settings })
    }
}

impl Config {
    /// Settings, from the defaults on.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// The most keys with a call under way.
    pub const fn max_keys(&self) -> u32 {
        self.settings.max_keys
    }

    /// The most calls that wait for the answer of one other.
    pub const fn max_followers(&self) -> u32 {
        self.settings.max_followers
    }

    /// For how long a call is joined.
    pub const fn join_within(&self) -> Option<Duration> {
        self.settings.join_within
    }
}
