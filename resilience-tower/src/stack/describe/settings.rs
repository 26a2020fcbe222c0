//! The settings of a description, unchecked.

use std::time::Duration;

use resilience_core::retry::{BudgetConfig, Config, Jitter};

/// So many in a time.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Quota {
    /// How many; 1 or more.
    pub permits: u32,
    /// In what time; over 0, up to 1 day.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub per: Duration,
    /// How many at once; as many as `permits` when it is not said.
    #[cfg_attr(feature = "serde", serde(default))]
    pub burst: Option<u32>,
}

/// The time of a call in all.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Deadline {
    /// The longest, whatever the caller leaves; 1 ns to 1 day.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub total: Duration,
    /// The least time in which an answer can be had: a call with less is refused. 0 to `total`.
    #[cfg_attr(feature = "serde", serde(default, with = "humantime_serde"))]
    pub least: Duration,
}

/// How often a call is tried again, when, and how many of all calls.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Retry {
    /// Attempts in all, the first included; 1 to 100. 3 by default.
    pub max_attempts: u32,
    /// The waits between them.
    pub backoff: Backoff,
    /// The longest that an upstream, or a breaker, may ask to wait; 0 to 1 day. 30 s by default.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub max_retry_after: Duration,
    /// How many retries there may be for all calls together.
    pub budget: Budget,
}

impl Default for Retry {
    fn default() -> Self {
        let default = Config::default();
        Self {
            max_attempts: default.max_attempts(),
            backoff: Backoff::default(),
            max_retry_after: default.max_retry_after(),
            budget: Budget::default(),
        }
    }
}

/// Waits that double with each retry.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Backoff {
    /// The first; 0 to 1 day. 50 ms by default.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub base: Duration,
    /// The longest; `base` to 1 day. 2 s by default.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub cap: Duration,
    /// How they vary; `full` by default.
    pub jitter: Jitter,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(50),
            cap: Duration::from_secs(2),
            jitter: Jitter::Full,
        }
    }
}

/// How many retries there may be for all calls together.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Budget {
    /// Per first attempt; 0 to 1. 0.2 by default.
    pub share: f64,
    /// Beside the share; 0 to 1 000 000. 10 by default.
    pub floor_per_second: u32,
    /// The most that are saved up, 1 to 1 000 000; when it is not said, the floor of a second, and 10
    /// at least.
    pub burst: Option<u32>,
}

impl Default for Budget {
    fn default() -> Self {
        let default = BudgetConfig::default();
        Self {
            share: default.share(),
            floor_per_second: default.floor_per_second(),
            burst: None,
        }
    }
}

impl From<BudgetConfig> for Budget {
    fn from(config: BudgetConfig) -> Self {
        Self {
            share: config.share(),
            floor_per_second: config.floor_per_second(),
            burst: Some(config.burst_size()),
        }
    }
}

/// The time of one attempt.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct AttemptTimeout {
    /// When it is given up; 1 ns to 1 day, and less than the `total` of the deadline.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub after: Duration,
}
