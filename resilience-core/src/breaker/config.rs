//! Checked settings.

use std::time::Duration;

use super::builder::ConfigBuilder;

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
    /// It counts as a failure when the call was slow by then: it ran for longer than
    /// [`Config::slow_call`], which must be set.
    FailureWhenSlow,
}

/// Checked settings of a breaker.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "ConfigBuilder"))]
pub struct Config {
    pub(super) settings: ConfigBuilder,
}

impl Config {
    /// Starts from the defaults.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// The settings again, to change some of them.
    pub fn to_builder(&self) -> ConfigBuilder {
        self.settings.clone()
    }

    /// Share of failed calls in a window that opens, or `None` when off.
    pub fn failure_rate(&self) -> Option<f64> {
        self.settings.failure_rate
    }

    /// Failures in a window that open, or `None` when off.
    pub fn failure_count(&self) -> Option<u32> {
        self.settings.failure_count
    }

    /// Fewest calls in a window for which a rate is judged.
    pub fn minimum_calls(&self) -> u32 {
        self.settings.minimum_calls
    }

    /// How many calls the count window holds, or `None` when off.
    pub fn count_window(&self) -> Option<u32> {
        self.settings.count_window
    }

    /// How long a call stays in the time window, or `None` when off.
    pub fn time_window(&self) -> Option<Duration> {
        self.settings.time_window
    }

    /// A call that takes longer than this is slow; `None` when off.
    pub fn slow_call(&self) -> Option<Duration> {
        self.settings.slow_call
    }

    /// Share of slow calls in a window that opens; `None` when off or without
    /// [`slow_call`](Self::slow_call).
    pub fn slow_call_rate(&self) -> Option<f64> {
        self.settings.slow_call.and(self.settings.slow_call_rate)
    }

    /// Failures in a row that open, or `None` when off.
    pub fn consecutive_failures(&self) -> Option<u32> {
        self.settings.consecutive_failures
    }

    /// Probes admitted per half-open period.
    pub fn half_open_permits(&self) -> u32 {
        self.settings.half_open_permits
    }

    /// Successful probes that close, also when set by
    /// [`half_open_failure_rate`](ConfigBuilder::half_open_failure_rate).
    pub fn success_threshold(&self) -> u32 {
        self.settings.needed()
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

    /// Places that the ring of calls must remember.
    pub(super) fn places(&self) -> u32 {
        let window = self.count_window().unwrap_or(1);
        window.max(self.consecutive_failures().unwrap_or(1))
    }
}
