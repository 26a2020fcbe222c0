//! Checked settings.

use std::time::Duration;

use crate::{
    coalesce,
    settings::{ConfigError, check, span, whole},
};

/// Unchecked settings; [`build`](Self::build) checks them.
///
/// Defaults: 64 MiB; nothing stale is served; 1 s between two tries to renew an entry, 100 of them at
/// once; 16 tags per entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use]
pub struct ConfigBuilder {
    max_weight: u64,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or_span")
    )]
    stale_while_revalidate: Option<Duration>,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or_span")
    )]
    stale_if_error: Option<Duration>,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    revalidation_pause: Duration,
    max_revalidations: u32,
    max_tags: u32,
    coalesce: coalesce::Config,
}

impl Default for ConfigBuilder {
    fn default() -> Self {
        Self {
            max_weight: 64 * 1024 * 1024,
            stale_while_revalidate: None,
            stale_if_error: None,
            revalidation_pause: Duration::from_secs(1),
            max_revalidations: 100,
            max_tags: 16,
            coalesce: coalesce::Config::default(),
        }
    }
}

impl ConfigBuilder {
    /// The weight of all entries together, in bytes if entries are weighed in bytes; 1 to 2^62.
    /// Cannot be changed later.
    pub const fn max_weight(mut self, weight: u64) -> Self {
        self.max_weight = weight;
        self
    }

    /// For how long after its end of freshness an entry is served while it is renewed beside;
    /// 1 ms to 1 day. `None` (in a file: `"off"`): never. [`Terms`](super::Terms) may say otherwise.
    pub fn stale_while_revalidate(mut self, longest: impl Into<Option<Duration>>) -> Self {
        self.stale_while_revalidate = longest.into();
        self
    }

    /// For how long after its end of freshness an entry is served when the upstream fails; 1 ms to
    /// 1 day. `None` (in a file: `"off"`): never. [`Terms`](super::Terms) may say otherwise.
    pub fn stale_if_error(mut self, longest: impl Into<Option<Duration>>) -> Self {
        self.stale_if_error = longest.into();
        self
    }

    /// How long after a failure an entry is not tried to be renewed again; 1 ms to 1 day. An upstream
    /// that asks for more gets more.
    pub const fn revalidation_pause(mut self, pause: Duration) -> Self {
        self.revalidation_pause = pause;
        self
    }

    /// How many entries are renewed at once, at most; 1 to 100 000. Above it stale entries are served
    /// and not renewed.
    pub const fn max_revalidations(mut self, calls: u32) -> Self {
        self.max_revalidations = calls;
        self
    }

    /// The most tags of an entry; 0 to 1000. What has more is not kept, for it could not be
    /// invalidated.
    pub const fn max_tags(mut self, tags: u32) -> Self {
        self.max_tags = tags;
        self
    }

    /// How the calls for one key share an answer.
    pub const fn coalesce(mut self, coalesce: coalesce::Config) -> Self {
        self.coalesce = coalesce;
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

/// Checked settings of a cache.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "ConfigBuilder"))]
pub struct Config {
    settings: ConfigBuilder,
}

/// The heaviest that may be asked for.
const HEAVIEST: u64 = 1 << 62;

impl TryFrom<ConfigBuilder> for Config {
    type Error = ConfigError;

    fn try_from(settings: ConfigBuilder) -> Result<Self, ConfigError> {
        let (weight, least) = (settings.max_weight, Duration::from_millis(1));
        let inside = (1..=HEAVIEST).contains(&weight);
        check("max_weight", weight, inside, || format!("1 to {HEAVIEST}"))?;
        if let Some(longest) = settings.stale_while_revalidate {
            span("stale_while_revalidate", longest, least)?;
        }
        if let Some(longest) = settings.stale_if_error {
            span("stale_if_error", longest, least)?;
        }
        span("revalidation_pause", settings.revalidation_pause, least)?;
        whole("max_revalidations", settings.max_revalidations, 1, 100_000)?;
        whole("max_tags", settings.max_tags, 0, 1000)?;
        Ok(Self { settings })
    }
}

impl Config {
    /// Settings, from the defaults on.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// The weight of all entries together.
    pub const fn max_weight(&self) -> u64 {
        self.settings.max_weight
    }

    /// For how long an entry is served while it is renewed.
    pub const fn stale_while_revalidate(&self) -> Option<Duration> {
        self.settings.stale_while_revalidate
    }

    /// For how long an entry is served when the upstream fails.
    pub const fn stale_if_error(&self) -> Option<Duration> {
        self.settings.stale_if_error
    }

    /// How long after a failure an entry is not tried to be renewed.
    pub const fn revalidation_pause(&self) -> Duration {
        self.settings.revalidation_pause
    }

    /// How many entries are renewed at once.
    pub const fn max_revalidations(&self) -> u32 {
        self.settings.max_revalidations
    }

    /// The most tags of an entry.
    pub const fn max_tags(&self) -> u32 {
        self.settings.max_tags
    }

    /// How the calls for one key share an answer.
    pub const fn coalesce(&self) -> coalesce::Config {
        self.settings.coalesce
    }

    /// Nothing, if `next` may take the place of these settings.
    ///
    /// # Errors
    ///
    /// `max_weight` is another.
    pub fn may_become(&self, next: &Self) -> Result<(), ConfigError> {
        let weight = self.max_weight();
        check(
            "max_weight",
            next.max_weight(),
            next.max_weight() == weight,
            || format!("{weight}, as long as the cache lives"),
        )
    }
}
