//! Settings: one unchecked builder, one checking conversion.

use std::{fmt::Display, time::Duration};

use super::state::MAX_PERMITS;

/// The longest time any setting or `Retry-After` may ask for: one day.
pub(super) const LONGEST: Duration = Duration::from_secs(86_400);

/// What happens when a call is dropped before it has an outcome.
///
/// The permit comes back in every case. A drop while the thread panics is always a failure.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum OnCancel {
    /// It counts as nothing: a client that leaves early is harmless. The default.
    #[default]
    Ignore,
    /// It counts as a failure.
    Failure,
    /// It counts as a failure when the call ran at least this long since it was admitted, so that
    /// a timeout around the breaker is still seen. Costs one clock read per call.
    FailureAfter(#[cfg_attr(feature = "serde", serde(with = "humantime_serde"))] Duration),
}

/// Checked settings of a breaker.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "ConfigBuilder"))]
pub struct Config {
    settings: ConfigBuilder,
}

impl Config {
    /// Starts from the defaults.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// Share of failed calls in the window that opens, or `None` when off.
    pub fn failure_rate(&self) -> Option<f64> {
        self.settings.failure_rate
    }

    /// Fewest calls in the window for which a rate is judged.
    pub fn minimum_calls(&self) -> u32 {
        self.settings.minimum_calls
    }

    /// How many calls the window holds.
    pub fn count_window(&self) -> u32 {
        self.settings.count_window
    }

    /// Failures in a row that open, or `None` when off.
    pub fn consecutive_failures(&self) -> Option<u32> {
        self.settings.consecutive_failures
    }

    /// Probes admitted per half-open period.
    pub fn half_open_permits(&self) -> u32 {
        self.settings.half_open_permits
    }

    /// Successful probes that close.
    pub fn success_threshold(&self) -> u32 {
        self.settings.success_threshold
    }

    /// Probes that may fail in one half-open period without reopening.
    pub fn probe_failures(&self) -> u32 {
        self.settings
            .probe_failures
            .unwrap_or_else(|| self.settings.k_of_n())
    }

    /// How long the breaker stays open the first time.
    pub fn reset_timeout(&self) -> Duration {
        self.settings.reset_timeout
    }

    /// The longest it stays open after several openings in a row.
    pub fn max_reset_timeout(&self) -> Duration {
        self.settings
            .max_reset_timeout
            .unwrap_or_else(|| self.settings.default_cap())
    }

    /// Share of the reset timeout by which it varies.
    pub fn jitter(&self) -> f64 {
        self.settings.jitter
    }

    /// How long a probe may take before it is written off as lost.
    pub fn lease(&self) -> Duration {
        self.settings.lease.unwrap_or(self.settings.reset_timeout)
    }

    /// What a dropped call counts as.
    pub fn on_cancel(&self) -> OnCancel {
        self.settings.on_cancel
    }
}

/// Unchecked settings; [`build`](Self::build) checks them.
///
/// Defaults: failure rate 0.5 over the last 100 calls, judged from 20 calls on; consecutive
/// failures off; 10 half-open permits, 1 success closes, as many failures reopen as make that
/// success impossible; reset timeout 30 s, doubling up to 5 min; jitter 0; lease = the reset
/// timeout; a cancelled call counts as nothing.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use]
pub struct ConfigBuilder {
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "super::config_serde::off_or")
    )]
    failure_rate: Option<f64>,
    minimum_calls: u32,
    count_window: u32,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "super::config_serde::off_or")
    )]
    consecutive_failures: Option<u32>,
    half_open_permits: u32,
    success_threshold: u32,
    probe_failures: Option<u32>,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    reset_timeout: Duration,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    max_reset_timeout: Option<Duration>,
    jitter: f64,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    lease: Option<Duration>,
    on_cancel: OnCancel,
}

impl Default for ConfigBuilder {
    fn default() -> Self {
        Self {
            failure_rate: Some(0.5),
            minimum_calls: 20,
            count_window: 100,
            consecutive_failures: None,
            half_open_permits: 10,
            success_threshold: 1,
            probe_failures: None,
            reset_timeout: Duration::from_secs(30),
            max_reset_timeout: None,
            jitter: 0.0,
            lease: None,
            on_cancel: OnCancel::Ignore,
        }
    }
}

impl ConfigBuilder {
    /// Share of failed calls in the window at which the breaker opens; over 0, up to 1. `None`
    /// turns it off (in a file: `"off"`).
    pub fn failure_rate(mut self, rate: impl Into<Option<f64>>) -> Self {
        self.failure_rate = rate.into();
        self
    }

    /// Fewest calls in the window for which a rate is judged; 1 up to the count window.
    pub fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = calls;
        self
    }

    /// How many of the last calls are judged; 1 to 10 000 000. Takes up to 2.3 bytes per call.
    pub fn count_window(mut self, calls: u32) -> Self {
        self.count_window = calls;
        self
    }

    /// Failures in a row that open; 1 to 10 000. `None` turns it off (in a file: `"off"`).
    pub fn consecutive_failures(mut self, failures: impl Into<Option<u32>>) -> Self {
        self.consecutive_failures = failures.into();
        self
    }

    /// Probes admitted per half-open period in total; 1 to 1023.
    pub fn half_open_permits(mut self, permits: u32) -> Self {
        self.half_open_permits = permits;
        self
    }

    /// Successful probes that close; 1 up to the half-open permits.
    pub fn success_threshold(mut self, successes: u32) -> Self {
        self.success_threshold = successes;
        self
    }

    /// Probes that may fail in one half-open period without reopening: 0 reopens at the first
    /// failure. At most half-open permits − success threshold, which is the default: the breaker
    /// then reopens as soon as the success threshold is out of reach.
    pub fn probe_failures(mut self, failures: impl Into<Option<u32>>) -> Self {
        self.probe_failures = failures.into();
        self
    }

    /// How long the breaker stays open before it admits a probe; 1 ms to 1 day. Doubles with
    /// each opening in a row, up to [`max_reset_timeout`](Self::max_reset_timeout).
    pub fn reset_timeout(mut self, timeout: Duration) -> Self {
        self.reset_timeout = timeout;
        self
    }

    /// The longest the breaker stays open; the reset timeout to 1 day. Equal to the reset timeout
    /// it turns the doubling off. Default: 5 min, or the reset timeout when that is longer.
    pub fn max_reset_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.max_reset_timeout = timeout.into();
        self
    }

    /// Share by which the reset timeout varies to both sides, so that many processes do not
    /// probe at once; 0 up to (not including) 1. Derived from name and generation, not random.
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// How long a probe may take before it is written off as lost; 1 ms to 1 day. Default: the
    /// reset timeout.
    pub fn lease(mut self, lease: impl Into<Option<Duration>>) -> Self {
        self.lease = lease.into();
        self
    }

    /// What a call counts as that is dropped before it has an outcome.
    pub fn on_cancel(mut self, policy: OnCancel) -> Self {
        self.on_cancel = policy;
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

    fn k_of_n(&self) -> u32 {
        self.half_open_permits
            .saturating_sub(self.success_threshold)
    }

    fn default_cap(&self) -> Duration {
        self.reset_timeout.max(Duration::from_secs(300))
    }
}

impl TryFrom<ConfigBuilder> for Config {
    type Error = ConfigError;

    fn try_from(s: ConfigBuilder) -> Result<Self, ConfigError> {
        if let Some(rate) = s.failure_rate {
            check("failure_rate", rate, rate > 0.0 && rate <= 1.0, || {
                "over 0, up to 1".into()
            })?;
        }
        whole("count_window", s.count_window, 1, 10_000_000)?;
        whole("minimum_calls", s.minimum_calls, 1, s.count_window)?;
        if let Some(failures) = s.consecutive_failures {
            whole("consecutive_failures", failures, 1, 10_000)?;
        }
        whole("half_open_permits", s.half_open_permits, 1, MAX_PERMITS)?;
        whole(
            "success_threshold",
            s.success_threshold,
            1,
            s.half_open_permits,
        )?;
        if let Some(failures) = s.probe_failures {
            whole("probe_failures", failures, 0, s.k_of_n())?;
        }
        let shortest = Duration::from_millis(1);
        span("reset_timeout", s.reset_timeout, shortest)?;
        if let Some(cap) = s.max_reset_timeout {
            span("max_reset_timeout", cap, s.reset_timeout)?;
        }
        check("jitter", s.jitter, (0.0..1.0).contains(&s.jitter), || {
            "0 up to, not including, 1".into()
        })?;
        if let Some(lease) = s.lease {
            span("lease", lease, shortest)?;
        }
        if let OnCancel::FailureAfter(after) = s.on_cancel {
            span("on_cancel", after, Duration::ZERO)?;
        }
        Ok(Self { settings: s })
    }
}

fn whole(field: &'static str, value: u32, low: u32, high: u32) -> Result<(), ConfigError> {
    check(field, value, (low..=high).contains(&value), || {
        format!("{low} to {high}")
    })
}

fn span(field: &'static str, value: Duration, low: Duration) -> Result<(), ConfigError> {
    let inside = (low..=LONGEST).contains(&value);
    check(field, format_args!("{value:?}"), inside, || {
        format!("{low:?} to 1 day")
    })
}

fn check(
    field: &'static str,
    value: impl Display,
    ok: bool,
    allowed: impl FnOnce() -> String,
) -> Result<(), ConfigError> {
    if ok {
        return Ok(());
    }
    Err(ConfigError {
        field,
        value: value.to_string(),
        allowed: allowed(),
    })
}

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
