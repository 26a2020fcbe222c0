//! Checked settings.

use std::time::Duration;

use crate::settings::{ConfigError, check, rate, span, whole};

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Strategy {
    /// One after the other; of a weight only counts whether it is 0.
    RoundRobin,
    /// One after the other in proportion to the weights, the heavy ones spread out: the smooth
    /// weighted round robin of nginx (`ngx_http_upstream_round_robin.c`). Of weights 5, 1 and 1
    /// the order is `a a b a c a a`.
    SmoothWeighted,
    /// The fewest calls in flight per weight, as nginx's `least_conn`; among equals one at random,
    /// by weight. Looks at all endpoints.
    LeastConnections,
    /// The better of two at random (Mitzenmacher, *The Power of Two Choices in Randomized Load
    /// Balancing*, 2001), by latency × (calls in flight + 1) / weight. The latency is the peak
    /// EWMA of Finagle (`loadbalancer/PeakEwma.scala`), as in tower and linkerd: a longer one
    /// counts at once, shorter ones little by little.
    #[default]
    PeakEwma,
    /// The same endpoint for the same key, by a ring of 160 points per weight (Karger et al.,
    /// *Consistent Hashing and Random Trees*, 1997). A change of endpoints moves only the keys of
    /// those that went and those that the new ones take.
    ConsistentHash,
}

impl Strategy {
    /// `round_robin`, `smooth_weighted`, `least_connections`, `peak_ewma` or `consistent_hash`,
    /// as used in settings and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::SmoothWeighted => "smooth_weighted",
            Self::LeastConnections => "least_connections",
            Self::PeakEwma => "peak_ewma",
            Self::ConsistentHash => "consistent_hash",
        }
    }
}

/// Unchecked settings; [`build`](Self::build) checks them.
///
/// Defaults: the better of two by peak EWMA, which forgets by a factor of e in 10 s, and in which
/// a failure counts as 1 s at least; no slow start. An endpoint is ejected by 5 failures in a row,
/// or a success rate 1.9 standard deviations below the mean (judged every 10 s, among at least 5
/// endpoints with 100 calls each), for 30 s the first time and 5 min at most, and never more than
/// half of the endpoints. Calls go to the next priority when less than 0.7 of a group's weight is
/// left, and to unhealthy endpoints when nobody else is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use]
pub struct ConfigBuilder {
    strategy: Strategy,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    decay: Duration,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or_span")
    )]
    failure_penalty: Option<Duration>,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or")
    )]
    max_load: Option<f64>,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or_span")
    )]
    slow_start: Option<Duration>,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or")
    )]
    consecutive_failures: Option<u32>,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::settings::off::off_or")
    )]
    success_rate_deviations: Option<f64>,
    minimum_calls: u32,
    minimum_endpoints: u32,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    interval: Duration,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    ejection_time: Duration,
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    max_ejection_time: Duration,
    max_ejected: f64,
    failover_below: f64,
    refuse_unhealthy: bool,
}

impl Default for ConfigBuilder {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            decay: Duration::from_secs(10),
            failure_penalty: Some(Duration::from_secs(1)),
            max_load: None,
            slow_start: None,
            consecutive_failures: Some(5),
            // This and the figures below are those of Envoy's outlier detection, but the last.
            success_rate_deviations: Some(1.9),
            minimum_calls: 100,
            minimum_endpoints: 5,
            interval: Duration::from_secs(10),
            ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejected: 0.5,
            // Envoy's overprovisioning factor is 1.4, which is one over 0.714.
            failover_below: 0.7,
            refuse_unhealthy: false,
        }
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);

impl ConfigBuilder {
    /// How an endpoint is chosen.
    pub const fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// The time in which a measured latency fades to 1/e; 1 ms to 1 day.
    pub const fn decay(mut self, time: Duration) -> Self {
        self.decay = time;
        self
    }

    /// The least latency that a failure counts as, so that an endpoint does not win by failing
    /// fast; 1 ms to 1 day. `None` (in a file: `"off"`): a failure is as long as it was.
    pub fn failure_penalty(mut self, least: impl Into<Option<Duration>>) -> Self {
        self.failure_penalty = least.into();
        self
    }

    /// The most calls in flight that an endpoint is given by its keys, as a multiple of its fair
    /// share; over 1, up to 100. A call above goes on along the ring (Mirrokni, Thorup and
    /// Zadimoghaddam, *Consistent Hashing with Bounded Loads*, 2018). `None` (in a file: `"off"`):
    /// no bound. Only for [`Strategy::ConsistentHash`].
    pub fn max_load(mut self, factor: impl Into<Option<f64>>) -> Self {
        self.max_load = factor.into();
        self
    }

    /// The time in which the share of an endpoint that is new, or back from ejection, grows from a
    /// tenth to the whole; 1 ms to 1 day. `None` (in a file: `"off"`): the whole share at once.
    /// Not for [`Strategy::ConsistentHash`], where it would move keys twice.
    pub fn slow_start(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.slow_start = time.into();
        self
    }

    /// Ejects at so many failures without a success in between; 1 to 1 000 000, or `None` (in a
    /// file: `"off"`).
    pub fn consecutive_failures(mut self, failures: impl Into<Option<u32>>) -> Self {
        self.consecutive_failures = failures.into();
        self
    }

    /// Ejects at a success rate so many standard deviations below the mean of all; over 0, up to
    /// 10, or `None` (in a file: `"off"`).
    pub fn success_rate_deviations(mut self, deviations: impl Into<Option<f64>>) -> Self {
        self.success_rate_deviations = deviations.into();
        self
    }

    /// The fewest calls of an interval by which an endpoint's success rate is judged; 1 to
    /// 1 000 000.
    pub const fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = calls;
        self
    }

    /// The fewest endpoints with enough calls for a mean; 2 to 1 000 000.
    pub const fn minimum_endpoints(mut self, endpoints: u32) -> Self {
        self.minimum_endpoints = endpoints;
        self
    }

    /// How often success rates are judged; 1 ms to 1 day.
    pub const fn interval(mut self, time: Duration) -> Self {
        self.interval = time;
        self
    }

    /// How long an ejection is: so long for the first, twice as long for the second, and so on;
    /// 1 ms to 1 day. Each interval between two ejections takes one off.
    pub const fn ejection_time(mut self, time: Duration) -> Self {
        self.ejection_time = time;
        self
    }

    /// The longest ejection; from `ejection_time` to 1 day.
    pub const fn max_ejection_time(mut self, time: Duration) -> Self {
        self.max_ejection_time = time;
        self
    }

    /// The most that is ejected at once, as a share of all endpoints, rounded down; over 0, up to
    /// 1. One may always be, and never the last.
    pub const fn max_ejected(mut self, share: f64) -> Self {
        self.max_ejected = share;
        self
    }

    /// How much of a group's weight must be left (neither ejected nor unhealthy) for it to keep all
    /// calls; over 0, up to 1. With less it keeps as much as is left, divided by this, and the rest
    /// goes to the next priority. So do Envoy's priority levels, whose overprovisioning factor is
    /// one over this.
    pub const fn failover_below(mut self, share: f64) -> Self {
        self.failover_below = share;
        self
    }

    /// Refuses calls when all endpoints with a weight are unhealthy, instead of trying them.
    pub const fn refuse_unhealthy(mut self, refuse: bool) -> Self {
        self.refuse_unhealthy = refuse;
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

/// Checked settings of a [`Balancer`](super::Balancer).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "ConfigBuilder"))]
pub struct Config {
    settings: ConfigBuilder,
}

impl TryFrom<ConfigBuilder> for Config {
    type Error = ConfigError;

    fn try_from(settings: ConfigBuilder) -> Result<Self, ConfigError> {
        span("decay", settings.decay, MILLISECOND)?;
        if let Some(penalty) = settings.failure_penalty {
            span("failure_penalty", penalty, MILLISECOND)?;
        }
        if let Some(load) = settings.max_load {
            check("max_load", load, load > 1.0 && load <= 100.0, || {
                "over 1, up to 100".into()
            })?;
        }
        if let Some(time) = settings.slow_start {
            span("slow_start", time, MILLISECOND)?;
        }
        if let Some(failures) = settings.consecutive_failures {
            whole("consecutive_failures", failures, 1, 1_000_000)?;
        }
        if let Some(deviations) = settings.success_rate_deviations {
            let inside = deviations > 0.0 && deviations <= 10.0;
            check("success_rate_deviations", deviations, inside, || {
                "over 0, up to 10".into()
            })?;
        }
        whole("minimum_calls", settings.minimum_calls, 1, 1_000_000)?;
        whole(
            "minimum_endpoints",
            settings.minimum_endpoints,
            2,
            1_000_000,
        )?;
        span("interval", settings.interval, MILLISECOND)?;
        span("ejection_time", settings.ejection_time, MILLISECOND)?;
        span(
            "max_ejection_time",
            settings.max_ejection_time,
            settings.ejection_time,
        )?;
        rate("max_ejected", Some(settings.max_ejected))?;
        rate("failover_below", Some(settings.failover_below))?;
        Ok(Self { settings })
    }
}

impl Config {
    /// Settings, from the defaults on.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// How an endpoint is chosen.
    pub const fn strategy(&self) -> Strategy {
        self.settings.strategy
    }

    /// The time in which a measured latency fades to 1/e.
    pub const fn decay(&self) -> Duration {
        self.settings.decay
    }

    /// The least latency that a failure counts as.
    pub const fn failure_penalty(&self) -> Option<Duration> {
        self.settings.failure_penalty
    }

    /// The most calls in flight as a multiple of the fair share.
    pub const fn max_load(&self) -> Option<f64> {
        self.settings.max_load
    }

    /// The time in which the share of an endpoint grows to the whole.
    pub const fn slow_start(&self) -> Option<Duration> {
        self.settings.slow_start
    }

    /// The failures in a row that eject.
    pub const fn consecutive_failures(&self) -> Option<u32> {
        self.settings.consecutive_failures
    }

    /// The standard deviations below the mean that eject.
    pub const fn success_rate_deviations(&self) -> Option<f64> {
        self.settings.success_rate_deviations
    }

    /// The fewest calls of an interval by which an endpoint's success rate is judged.
    pub const fn minimum_calls(&self) -> u32 {
        self.settings.minimum_calls
    }

    /// The fewest endpoints with enough calls for a mean.
    pub const fn minimum_endpoints(&self) -> u32 {
        self.settings.minimum_endpoints
    }

    /// How often success rates are judged.
    pub const fn interval(&self) -> Duration {
        self.settings.interval
    }

    /// How long the first ejection is.
    pub const fn ejection_time(&self) -> Duration {
        self.settings.ejection_time
    }

    /// The longest ejection.
    pub const fn max_ejection_time(&self) -> Duration {
        self.settings.max_ejection_time
    }

    /// The most that is ejected at once, as a share of all endpoints.
    pub const fn max_ejected(&self) -> f64 {
        self.settings.max_ejected
    }

    /// How much of a group's weight must be left for it to keep all calls.
    pub const fn failover_below(&self) -> f64 {
        self.settings.failover_below
    }

    /// Whether calls are refused when all endpoints with a weight are unhealthy.
    pub const fn refuse_unhealthy(&self) -> bool {
        self.settings.refuse_unhealthy
    }
}
