//! Checked settings.

use std::fmt::Display;
use std::time::Duration;

use resilience_core::rate_limit::{Quota, QuotaError, store::Terms};

/// Unchecked settings; [`build`](Self::build) checks them.
///
/// Defaults: leases for quotas above 1 000 per second, and below them each call is decided by Redis;
/// a lease is a tenth of the time in which the burst comes back, up to 1 s; 10 000 keys have a lease
/// in each process; an answer takes 100 ms at
/// most; without answers calls are refused; after 3 failures in a row Redis is asked again after 1 s;
/// keys begin with `rate-limit:`.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[must_use]
pub struct ConfigBuilder {
    quota: Quota,
    #[cfg_attr(feature = "serde", serde(default))]
    mode: Mode,
    #[cfg_attr(feature = "serde", serde(default, with = "humantime_serde"))]
    lease: Option<Duration>,
    #[cfg_attr(feature = "serde", serde(default = "max_keys"))]
    max_keys: usize,
    #[cfg_attr(
        feature = "serde",
        serde(default = "timeout", with = "humantime_serde")
    )]
    timeout: Duration,
    #[cfg_attr(feature = "serde", serde(default))]
    on_outage: OnOutage,
    #[cfg_attr(feature = "serde", serde(default = "failures"))]
    failures: u32,
    #[cfg_attr(
        feature = "serde",
        serde(default = "reset_timeout", with = "humantime_serde")
    )]
    reset_timeout: Duration,
    #[cfg_attr(feature = "serde", serde(default = "prefix"))]
    prefix: String,
}

/// Who decides a call.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Mode {
    /// `Leased` above 1 000 permits per second, else `Exact`; `Exact` too where the burst is too
    /// small for a lease.
    #[default]
    Auto,
    /// Redis, each of them.
    Exact,
    /// This process, out of blocks that Redis gives it.
    Leased,
}

/// What becomes of calls while Redis does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum OnOutage {
    /// They are admitted, whatever their number: the limit does not hold.
    Open,
    /// They are refused.
    #[default]
    Closed,
    /// This process limits them by itself, to a share (over 0, up to 1) of the quota. The limit
    /// holds where the shares of all processes sum up to 1; beside what was admitted before.
    Local(f64),
}

/// A setting out of its range.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field} is {value}, allowed: {allowed}")]
#[non_exhaustive]
pub struct ConfigError {
    /// The setting.
    pub field: &'static str,
    /// The value it was given; not told of an address, which may hold a password.
    pub value: String,
    /// The values it may have.
    pub allowed: String,
}

/// Checked settings of a [`RedisLimiter`](super::RedisLimiter).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "ConfigBuilder"))]
pub struct Config {
    settings: ConfigBuilder,
    pub(super) terms: Terms,
    /// What this process alone admits without Redis.
    pub(super) local: Option<Quota>,
}

const MS: Duration = Duration::from_millis(1);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_LEASE: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const LONGEST_TEXT: usize = 64;
const MOST_KEYS: usize = 10_000_000;

fn max_keys() -> usize {
    10_000
}

fn timeout() -> Duration {
    100 * MS
}

fn failures() -> u32 {
    3
}

fn reset_timeout() -> Duration {
    Duration::from_secs(1)
}

fn prefix() -> String {
    "rate-limit:".to_owned()
}

impl ConfigBuilder {
    /// Who decides a call.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How long what was leased may be spent; 1 ms to a quarter of the time in which the burst comes
    /// back. Longer leases ask Redis less, and keep more of the burst back.
    pub fn lease(mut self, lease: impl Into<Option<Duration>>) -> Self {
        self.lease = lease.into();
        self
    }

    /// How many keys may have a lease in this process at once; 1 to 10 000 000, of less than
    /// 1 KiB each. Calls of further keys are decided by Redis, until a key was not asked for as long as a lease
    /// lasts.
    pub fn max_keys(mut self, max: usize) -> Self {
        self.max_keys = max;
        self
    }

    /// How long one answer may take, connecting included; 1 ms to 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What becomes of calls while Redis does not answer.
    pub fn on_outage(mut self, policy: OnOutage) -> Self {
        self.on_outage = policy;
        self
    }

    /// After how many failures in a row Redis is left alone; 1 to 1 000.
    pub fn failures(mut self, failures: u32) -> Self {
        self.failures = failures;
        self
    }

    /// After what time it is then asked again, by one call; 1 ms to 1 day. It doubles with each try
    /// in vain, up to ten times as long.
    pub fn reset_timeout(mut self, timeout: Duration) -> Self {
        self.reset_timeout = timeout;
        self
    }

    /// What all keys begin with; up to 64 visible ASCII characters. All processes that share limits
    /// have the same.
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
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

    fn terms(&self) -> Result<Terms, QuotaError> {
        let default = (self.quota.fill_time() / 10).min(LONGEST_LEASE);
        let lease = self.lease.unwrap_or(default);
        match self.mode {
            Mode::Exact => Terms::exact(self.quota),
            Mode::Leased => Terms::leased(self.quota, lease),
            Mode::Auto if self.lease.is_some() => Terms::leased(self.quota, lease),
            Mode::Auto if self.quota.replenish_interval() >= MS => Terms::exact(self.quota),
            Mode::Auto => Terms::leased(self.quota, lease).or_else(|_| Terms::exact(self.quota)),
        }
    }

    fn local(&self) -> Result<Option<Quota>, ConfigError> {
        let OnOutage::Local(share) = self.on_outage else {
            return Ok(None);
        };
        let allowed = "a share over 0, up to 1, of which a permit comes back each day";
        let error = || ConfigError::new("on_outage", share, allowed);
        if !(share > 0.0 && share <= 1.0) {
            return Err(error());
        }
        // At most 30 days over a share: whatever is too long saturates, and is refused below.
        let interval = self.quota.replenish_interval().as_nanos() as f64 / share;
        let interval = Duration::from_nanos(interval.ceil() as u64);
        let burst = (f64::from(self.quota.burst_size()) * share) as u32;
        let quota = Quota::new(1, interval).and_then(|quota| quota.burst(burst.max(1)));
        quota.map(Some).map_err(|_| error())
    }
}

impl TryFrom<ConfigBuilder> for Config {
    type Error = ConfigError;

    fn try_from(settings: ConfigBuilder) -> Result<Self, ConfigError> {
        let terms = settings.terms()?;
        let local = settings.local()?;
        span("timeout", settings.timeout, LONGEST_TIMEOUT)?;
        span("reset_timeout", settings.reset_timeout, DAY)?;
        let failures = settings.failures;
        if !(1..=1_000).contains(&failures) {
            return Err(ConfigError::new("failures", failures, "1 to 1000"));
        }
        let max_keys = settings.max_keys;
        if !(1..=MOST_KEYS).contains(&max_keys) {
            let allowed = format!("1 to {MOST_KEYS}");
            return Err(ConfigError::new("max_keys", max_keys, allowed));
        }
        let prefix = &settings.prefix;
        let visible = prefix.bytes().all(|byte| byte.is_ascii_graphic());
        if !visible || prefix.len() > LONGEST_TEXT {
            let allowed = format!("up to {LONGEST_TEXT} visible ASCII characters");
            return Err(ConfigError::new("prefix", prefix.escape_debug(), allowed));
        }
        Ok(Self {
            settings,
            terms,
            local,
        })
    }
}

impl Config {
    /// Settings for `quota`, from the defaults on.
    pub fn builder(quota: Quota) -> ConfigBuilder {
        ConfigBuilder {
            quota,
            mode: Mode::default(),
            lease: None,
            max_keys: max_keys(),
            timeout: timeout(),
            on_outage: OnOutage::default(),
            failures: failures(),
            reset_timeout: reset_timeout(),
            prefix: prefix(),
        }
    }

    /// The quota that all processes together keep to.
    pub fn quota(&self) -> Quota {
        self.settings.quota
    }

    /// How long what was leased may be spent; `None` when each call is decided by Redis.
    pub fn lease(&self) -> Option<Duration> {
        self.terms.lease()
    }

    /// How many keys may have a lease in this process at once.
    pub fn max_keys(&self) -> usize {
        self.settings.max_keys
    }

    /// How long one answer may take, connecting included.
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// What becomes of calls while Redis does not answer.
    pub fn on_outage(&self) -> OnOutage {
        self.settings.on_outage
    }

    /// After how many failures in a row Redis is left alone.
    pub fn failures(&self) -> u32 {
        self.settings.failures
    }

    /// After what time it is then asked again.
    pub fn reset_timeout(&self) -> Duration {
        self.settings.reset_timeout
    }

    /// What all keys begin with.
    pub fn prefix(&self) -> &str {
        &self.settings.prefix
    }

    /// The same for another quota, in the mode that was chosen for the first.
    pub(super) fn with_quota(&self, quota: Quota) -> Result<Self, ConfigError> {
        let settings = self.settings.clone();
        let mode = match self.lease() {
            Some(_) => Mode::Leased,
            None => Mode::Exact,
        };
        ConfigBuilder {
            quota,
            mode,
            ..settings
        }
        .build()
    }
}

impl ConfigError {
    pub(super) fn new(
        field: &'static str,
        value: impl Display,
        allowed: impl Into<String>,
    ) -> Self {
        Self {
            field,
            value: value.to_string(),
            allowed: allowed.into(),
        }
    }

    /// Checks the name of a limit.
    pub(super) fn check_name(name: &str) -> Result<(), Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !name.is_empty() && name.len() <= LONGEST_TEXT && name.bytes().all(plain) {
            return Ok(());
        }
        let allowed = format!("1 to {LONGEST_TEXT} of A-Z a-z 0-9 . _ -");
        Err(Self::new("name", format_args!("{name:?}"), allowed))
    }
}

impl From<QuotaError> for ConfigError {
    fn from(error: QuotaError) -> Self {
        Self::new(error.field, error.value, error.allowed)
    }
}

fn span(field: &'static str, value: Duration, longest: Duration) -> Result<(), ConfigError> {
    if (MS..=longest).contains(&value) {
        return Ok(());
    }
    let allowed = format!("{MS:?} to {longest:?}");
    Err(ConfigError::new(field, format_args!("{value:?}"), allowed))
}
