//! Checked settings.

use std::time::Duration;

use crate::{
    bulkhead::MOST,
    settings::{ConfigError, check, rate, span, whole},
};

/// By what rule the limit moves.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Algorithm {
    /// One more call per window, until calls are overloaded or take too long; then a share less.
    Aimd,
    /// Keeps a queue of a few calls, as computed from how much longer than usual they take.
    Vegas,
    /// Follows the ratio of the usual time of a call to the time it takes now.
    #[default]
    Gradient2,
}

impl Algorithm {
    /// `aimd`, `vegas` or `gradient2`, as used in settings and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aimd => "aimd",
            Self::Vegas => "vegas",
            Self::Gradient2 => "gradient2",
        }
    }
}

/// Unchecked settings; [`build`](Self::build) checks them.
///
/// Defaults: Gradient2 from 20 calls on, between 5 and 1000; a window of 100 ms and 10 calls, which
/// counts as overloaded when 5 % of its calls were. Those of an algorithm are the published ones,
/// and mean nothing to the others.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use]
pub struct ConfigBuilder {
    algorithm: Algorithm,
    initial_limit: u32,
    min_limit: u32,
    max_limit: u32,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    window: Duration,
    min_samples: u32,
    drop_rate: f64,
    backoff_ratio: f64,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or_span")
    )]
    timeout: Option<Duration>,
    tolerance: f64,
    queue_size: u32,
    smoothing: f64,
    long_window: u32,
}

impl Default for ConfigBuilder {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            initial_limit: 20,
            min_limit: 5,
            max_limit: 1000,
            window: Duration::from_millis(100),
            min_samples: 10,
            drop_rate: 0.05,
            backoff_ratio: 0.9,
            timeout: Some(Duration::from_secs(5)),
            tolerance: 1.5,
            queue_size: 4,
            smoothing: 0.2,
            long_window: 600,
        }
    }
}

impl ConfigBuilder {
    /// By what rule the limit moves.
    pub const fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// The limit to begin with; `min_limit` to `max_limit`.
    ///
    /// Rather too low: the first windows teach how long a call usually takes, and a limit that lets
    /// them queue teaches it wrong.
    pub const fn initial_limit(mut self, calls: u32) -> Self {
        self.initial_limit = calls;
        self
    }

    /// The limit is never lower, whatever happens; 1 to `max_limit`.
    pub const fn min_limit(mut self, calls: u32) -> Self {
        self.min_limit = calls;
        self
    }

    /// The limit is never higher; 1 to 1 073 741 824.
    pub const fn max_limit(mut self, calls: u32) -> Self {
        self.max_limit = calls;
        self
    }

    /// The shortest time between two moves of the limit; 1 ms to 1 day.
    ///
    /// A window lasts at least twice as long as the shortest call of the one before, so that it
    /// shows what the last move has done; for that it may last a hundred times as long as said here.
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// A window goes on until so many calls have ended in it, for ten times its length; then it is
    /// forgotten, and another begins. 1 to 1 000 000.
    pub const fn min_samples(mut self, calls: u32) -> Self {
        self.min_samples = calls;
        self
    }

    /// The share of overloaded calls from which on a window counts as overloaded; over 0, up to 1.
    ///
    /// Published is any single one. At a thousand calls per window a stray timeout would then hold
    /// the limit down for ever.
    pub const fn drop_rate(mut self, share: f64) -> Self {
        self.drop_rate = share;
        self
    }

    /// What an overloaded window leaves of the limit; 0.5 up to, not including, 1.
    ///
    /// For all algorithms, except that Vegas takes the logarithm of the limit off it if that is
    /// more.
    pub const fn backoff_ratio(mut self, ratio: f64) -> Self {
        self.backoff_ratio = ratio;
        self
    }

    /// AIMD: a window whose calls take longer on average counts as overloaded; 1 ms to 1 day.
    /// `None` (in a file: `"off"`): only calls that are reported as overloaded count, and without
    /// any the limit rises to `max_limit`.
    pub fn timeout(mut self, longest: impl Into<Option<Duration>>) -> Self {
        self.timeout = longest.into();
        self
    }

    /// Gradient2: how many times as long as usual calls may take before the limit falls; 1 to 10.
    pub const fn tolerance(mut self, ratio: f64) -> Self {
        self.tolerance = ratio;
        self
    }

    /// Gradient2: how many calls a limit grows by; 1 to 10 000. A share of them (`smoothing`) per
    /// window.
    pub const fn queue_size(mut self, calls: u32) -> Self {
        self.queue_size = calls;
        self
    }

    /// Gradient2: the weight of a window's answer against the limit of before; over 0, up to 1.
    pub const fn smoothing(mut self, share: f64) -> Self {
        self.smoothing = share;
        self
    }

    /// Gradient2 and Vegas: over how many windows the usual time of a call is averaged; 1 to
    /// 1 000 000.
    pub const fn long_window(mut self, windows: u32) -> Self {
        self.long_window = windows;
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

/// Checked settings of an [`AdaptiveLimit`](super::AdaptiveLimit).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "ConfigBuilder"))]
pub struct Config {
    settings: ConfigBuilder,
}

impl TryFrom<ConfigBuilder> for Config {
    type Error = ConfigError;

    fn try_from(settings: ConfigBuilder) -> Result<Self, ConfigError> {
        let (low, high) = (settings.min_limit, settings.max_limit);
        whole("max_limit", high, 1, MOST)?;
        whole("min_limit", low, 1, high)?;
        whole("initial_limit", settings.initial_limit, low, high)?;
        span("window", settings.window, Duration::from_millis(1))?;
        whole("min_samples", settings.min_samples, 1, 1_000_000)?;
        rate("drop_rate", Some(settings.drop_rate))?;
        let ratio = settings.backoff_ratio;
        let inside = (0.5..1.0).contains(&ratio);
        check("backoff_ratio", ratio, inside, || {
            "0.5 up to, not including, 1".into()
        })?;
        if let Some(longest) = settings.timeout {
            span("timeout", longest, Duration::from_millis(1))?;
        }
        let ratio = settings.tolerance;
        let inside = (1.0..=10.0).contains(&ratio);
        check("tolerance", ratio, inside, || "1 to 10".into())?;
        whole("queue_size", settings.queue_size, 1, 10_000)?;
        rate("smoothing", Some(settings.smoothing))?;
        whole("long_window", settings.long_window, 1, 1_000_000)?;
        Ok(Self { settings })
    }
}

impl Config {
    /// Settings, from the defaults on.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// By what rule the limit moves.
    pub const fn algorithm(&self) -> Algorithm {
        self.settings.algorithm
    }

    /// The limit to begin with.
    pub const fn initial_limit(&self) -> u32 {
        self.settings.initial_limit
    }

    /// The lowest limit.
    pub const fn min_limit(&self) -> u32 {
        self.settings.min_limit
    }

    /// The highest limit.
    pub const fn max_limit(&self) -> u32 {
        self.settings.max_limit
    }

    /// The shortest time between two moves of the limit.
    pub const fn window(&self) -> Duration {
        self.settings.window
    }

    /// The fewest calls of a window.
    pub const fn min_samples(&self) -> u32 {
        self.settings.min_samples
    }

    /// The share of overloaded calls from which on a window is overloaded.
    pub const fn drop_rate(&self) -> f64 {
        self.settings.drop_rate
    }

    /// What an overloaded window leaves of the limit.
    pub const fn backoff_ratio(&self) -> f64 {
        self.settings.backoff_ratio
    }

    /// How long calls may take on average, under AIMD.
    pub const fn timeout(&self) -> Option<Duration> {
        self.settings.timeout
    }

    /// How many times as long as usual calls may take, under Gradient2.
    pub const fn tolerance(&self) -> f64 {
        self.settings.tolerance
    }

    /// How many calls a limit grows by, under Gradient2.
    pub const fn queue_size(&self) -> u32 {
        self.settings.queue_size
    }

    /// The weight of a window's answer, under Gradient2.
    pub const fn smoothing(&self) -> f64 {
        self.settings.smoothing
    }

    /// Over how many windows the usual time of a call is averaged.
    pub const fn long_window(&self) -> u32 {
        self.settings.long_window
    }
}
