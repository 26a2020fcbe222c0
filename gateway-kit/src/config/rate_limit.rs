//! `rate_limit`.

use std::num::NonZeroU32;
use std::time::Duration;

use resilience_core::rate_limit::{Quota, QuotaError};
use serde::{Deserialize, Serialize};

use super::load::{check_duration, check_range};
use super::{ConfigError, FieldName, Several};

/// `rate_limit`: a bucket of `burst` per client, refilled at `requests` per `window`.
///
/// One, or several as `[[rate_limit]]`, which all have to admit a request.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RateLimitConfig {
    /// Requests per window.
    pub requests: NonZeroU32,
    /// The window; default one minute.
    #[serde(default = "super::seconds::<60>", with = "super::Human")]
    pub window: Duration,
    /// Most requests at once; default `requests`.
    pub burst: Option<NonZeroU32>,
    /// Whom a request is counted for; default `address`.
    #[serde(default)]
    pub key: RateLimitKey,
    /// What it is called in metrics; default the key. Several limits need different names.
    pub name: Option<String>,
    /// Most clients remembered, 1 to 10 000 000, at 22 bytes each; default 100 000. With more, those
    /// are forgotten first that have most of their burst.
    #[serde(default = "default_max_keys")]
    pub max_keys: usize,
    /// How many bits of an IPv6 address are looked at, 1 to 128; default 64, as a subscriber has
    /// a /64 at least.
    #[serde(default = "default_ipv6_prefix")]
    pub ipv6_prefix: u8,
}

/// Whom a request is counted for. One that lacks what is looked for is counted for its address.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RateLimitKey {
    /// The client's address, as far as it is believed. Looked at before the request is authenticated.
    #[default]
    Address,
    /// The value of a header field. A client may send any value: this alone stops nobody.
    Header(FieldName),
    /// A claim of the token that `jwt` has found good; a string or a number.
    Claim(String),
}

impl RateLimitConfig {
    /// The name in metrics.
    pub fn label(&self) -> String {
        match (&self.name, &self.key) {
            (Some(name), _) => name.clone(),
            (None, RateLimitKey::Address) => "address".to_owned(),
            (None, RateLimitKey::Header(name)) => format!("header:{}", name.name()),
            (None, RateLimitKey::Claim(name)) => format!("claim:{name}"),
        }
    }

    /// What the settings mean.
    pub(crate) fn quota(&self) -> Result<Quota, QuotaError> {
        let burst = self.burst.unwrap_or(self.requests);
        Quota::new(self.requests.get(), self.window)?.burst(burst.get())
    }

    fn check(&self, field: &impl Fn(&str) -> String) -> Result<(), ConfigError> {
        check_duration(field("window"), self.window)?;
        check_range(&field("max_keys"), self.max_keys, 1..=10_000_000)?;
        check_range(&field("ipv6_prefix"), self.ipv6_prefix.into(), 1..=128)?;
        self.quota()
            .map_err(|error| ConfigError::new(field("requests"), error.to_string()))?;
        Ok(())
    }
}

/// Each limit by itself, and no name twice.
pub(super) fn check(
    limits: &Several<RateLimitConfig>,
    field: &dyn Fn(&str) -> String,
) -> Result<(), ConfigError> {
    let mut names = std::collections::HashSet::new();
    for (index, limit) in limits.as_slice().iter().enumerate() {
        let place = |name: &str| match limits {
            Several::One(_) => field(&format!("rate_limit.{name}")),
            Several::List(_) => field(&format!("rate_limit[{index}].{name}")),
        };
        limit.check(&place)?;
        if !names.insert(limit.label()) {
            return Err(ConfigError::new(
                place("name"),
                format!("must differ: there is a limit {:?} already", limit.label()),
            ));
        }
    }
    Ok(())
}

const fn default_max_keys() -> usize {
    100_000
}

const fn default_ipv6_prefix() -> u8 {
    64
}
