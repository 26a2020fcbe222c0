//! Settings: one unchecked builder, one checking conversion.

use std::time::Duration;

use super::{
    config::{Config, OnCancel},
    state::MAX_PERMITS,
};
use crate::settings::{ConfigError, check, rate, span, whole};

/// Unchecked settings; [`build`](Self::build) checks them.
///
/// Defaults: failure rate 0.5 over the last 100 calls, judged from 20 calls on; time window,
/// failure count, consecutive failures and slow calls off (slow call rate 0.5 once they are on);
/// 10 half-open permits, 1 success closes, as many failures reopen as make that success
/// impossible; reset timeout 30 s, doubling up to 5 min; jitter 0; lease = the reset timeout; a
/// cancelled call counts as nothing.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use]
pub struct ConfigBuilder {
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or")
    )]
    pub(super) failure_rate: Option<f64>,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or")
    )]
    pub(super) failure_count: Option<u32>,
    pub(super) minimum_calls: u32,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or")
    )]
    pub(super) count_window: Option<u32>,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or_span")
    )]
    pub(super) time_window: Option<Duration>,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or_span")
    )]
    pub(super) slow_call: Option<Duration>,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or")
    )]
    pub(super) slow_call_rate: Option<f64>,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or")
    )]
    pub(super) consecutive_failures: Option<u32>,
    pub(super) half_open_permits: u32,
    pub(super) success_threshold: Option<u32>,
    pub(super) half_open_failure_rate: Option<f64>,
    pub(super) probe_failures: Option<u32>,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub(super) reset_timeout: Duration,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub(super) max_reset_timeout: Option<Duration>,
    pub(super) jitter: f64,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub(super) lease: Option<Duration>,
    pub(super) on_cancel: OnCancel,
}

impl Default for ConfigBuilder {
    fn default() -> Self {
        Self {
            failure_rate: Some(0.5),
            failure_count: None,
            minimum_calls: 20,
            count_window: Some(100),
            time_window: None,
            slow_call: None,
            slow_call_rate: Some(0.5),
            consecutive_failures: None,
            half_open_permits: 10,
            success_threshold: None,
            half_open_failure_rate: None,
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
    /// Share of failed calls in a window at which the breaker opens; over 0, up to 1. `None`
    /// turns it off (in a file: `"off"`).
    pub fn failure_rate(mut self, rate: impl Into<Option<f64>>) -> Self {
        self.failure_rate = rate.into();
        self
    }

    /// Failures in a window at which the breaker opens, whatever the number of calls (minimum
    /// calls do not matter); 1 up to the count window, or to 10 000 000 with a time window.
    /// `None` turns it off (in a file: `"off"`).
    pub fn failure_count(mut self, failures: impl Into<Option<u32>>) -> Self {
        self.failure_count = failures.into();
        self
    }

    /// Fewest calls in a window for which its rates are judged; 1 up to the count window, or to
    /// 10 000 000 without one. Holds for each window on its own.
    pub fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = calls;
        self
    }

    /// How many of the last calls are judged; 1 to 10 000 000. Takes up to 2.3 bytes per call, and
    /// as much again with slow calls. `None` turns it off (in a file: `"off"`): then a time window
    /// is needed for rates and the failure count.
    pub fn count_window(mut self, calls: impl Into<Option<u32>>) -> Self {
        self.count_window = calls.into();
        self
    }

    /// The calls that ended in this span are judged; 10 ms to 1 hour. Besides a count window each
    /// of the two is judged on its own, and the first that holds opens. `None` turns it off (in a
    /// file: `"off"`).
    ///
    /// Kept in segments of a tenth: the one that runs and the nine before it. So a call leaves
    /// the window between 0.9 and 1 times the span after its end.
    pub fn time_window(mut self, span: impl Into<Option<Duration>>) -> Self {
        self.time_window = span.into();
        self
    }

    /// A call that takes strictly longer is slow, be it a success or a failure; 1 ns to 1 day. A
    /// slow probe counts as a failed one. `None` turns it off (in a file: `"off"`).
    pub fn slow_call(mut self, longer_than: impl Into<Option<Duration>>) -> Self {
        self.slow_call = longer_than.into();
        self
    }

    /// Share of slow calls in a window at which the breaker opens; over 0, up to 1. Has no effect
    /// without [`slow_call`](Self::slow_call). `None` turns it off (in a file: `"off"`): slow
    /// calls are then counted only.
    pub fn slow_call_rate(mut self, rate: impl Into<Option<f64>>) -> Self {
        self.slow_call_rate = rate.into();
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

    /// Successful probes that close; 1 (the default) up to the half-open permits. Not together
    /// with [`half_open_failure_rate`](Self::half_open_failure_rate).
    pub fn success_threshold(mut self, successes: impl Into<Option<u32>>) -> Self {
        self.success_threshold = successes.into();
        self
    }

    /// Share of failed probes at which the breaker reopens; over 0, up to 1. The same as the
    /// success threshold n − f + 1, where n are the half-open permits and f is the smallest
    /// number of failures with f / n `>=` the rate: fewer failures than that close.
    pub fn half_open_failure_rate(mut self, rate: impl Into<Option<f64>>) -> Self {
        self.half_open_failure_rate = rate.into();
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

    /// The longest that the reset timeout grows by doubling; the reset timeout to 1 day. Jitter, and
    /// what an upstream asks for, come on top. Equal to the reset timeout
    /// it turns the doubling off. Default: 5 min, or the reset timeout when that is longer.
    pub fn max_reset_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.max_reset_timeout = timeout.into();
        self
    }

    /// Share by which the reset timeout varies to both sides, so that many processes do not
    /// probe at once; 0 up to (not including) 1. Drawn anew for each opening, from a number that
    /// differs from breaker to breaker and from process to process.
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

    /// Successful probes that close.
    pub(super) fn needed(&self) -> u32 {
        let permits = self.half_open_permits;
        match self.half_open_failure_rate {
            // The same comparison as for the rates of a window: share `>=` threshold.
            Some(rate) => {
                let reopens = |f: &u32| f64::from(*f) / f64::from(permits) >= rate;
                permits + 1 - (1..=permits).find(reopens).unwrap_or(permits)
            }
            None => self.success_threshold.unwrap_or(1),
        }
    }

    pub(super) fn k_of_n(&self) -> u32 {
        self.half_open_permits.saturating_sub(self.needed())
    }

    pub(super) fn default_cap(&self) -> Duration {
        self.reset_timeout.max(Duration::from_secs(300))
    }
}

impl TryFrom<ConfigBuilder> for Config {
    type Error = ConfigError;

    fn try_from(s: ConfigBuilder) -> Result<Self, ConfigError> {
        windows(&s)?;
        half_open(&s)?;
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
        match s.on_cancel {
            OnCancel::FailureAfter(after) => span("on_cancel", after, Duration::ZERO)?,
            OnCancel::FailureWhenSlow => {
                check(
                    "on_cancel",
                    "failure_when_slow",
                    s.slow_call.is_some(),
                    || "only with slow_call".into(),
                )?;
            }
            OnCancel::Ignore | OnCancel::Failure => {}
        }
        Ok(Self { settings: s })
    }
}

fn windows(s: &ConfigBuilder) -> Result<(), ConfigError> {
    rate("failure_rate", s.failure_rate)?;
    rate("slow_call_rate", s.slow_call_rate)?;
    if let Some(calls) = s.count_window {
        whole("count_window", calls, 1, MOST_CALLS)?;
    }
    if let Some(time) = s.time_window {
        let longest = Duration::from_secs(3600);
        let ok = (Duration::from_millis(10)..=longest).contains(&time);
        check("time_window", format_args!("{time:?}"), ok, || {
            "10ms to 1 hour".into()
        })?;
    }
    if let Some(slow) = s.slow_call {
        span("slow_call", slow, Duration::from_nanos(1))?;
    }
    let calls = s.count_window.unwrap_or(MOST_CALLS);
    whole("minimum_calls", s.minimum_calls, 1, calls)?;
    if let Some(failures) = s.failure_count {
        let most = s.time_window.map_or(calls, |_| MOST_CALLS);
        whole("failure_count", failures, 1, most)?;
    }
    let judged = s.failure_rate.is_some()
        || s.failure_count.is_some()
        || s.slow_call.and(s.slow_call_rate).is_some();
    let window = s.count_window.is_some() || s.time_window.is_some();
    check("count_window", "off", window || !judged, || {
        "a number of calls, or off with a time_window, or with rates and failure_count off".into()
    })?;
    if let Some(failures) = s.consecutive_failures {
        whole("consecutive_failures", failures, 1, 10_000)?;
    }
    Ok(())
}

fn half_open(s: &ConfigBuilder) -> Result<(), ConfigError> {
    whole("half_open_permits", s.half_open_permits, 1, MAX_PERMITS)?;
    rate("half_open_failure_rate", s.half_open_failure_rate)?;
    if let Some(successes) = s.success_threshold {
        let alone = s.half_open_failure_rate.is_none();
        check("success_threshold", successes, alone, || {
            "only without half_open_failure_rate".into()
        })?;
        whole("success_threshold", successes, 1, s.half_open_permits)?;
    }
    match s.probe_failures {
        Some(failures) => whole("probe_failures", failures, 0, s.k_of_n()),
        None => Ok(()),
    }
}

/// The longest count window, and the most calls that any setting may ask for.
const MOST_CALLS: u32 = 10_000_000;
