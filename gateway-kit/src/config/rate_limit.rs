//! `rate_limit`.

use std::num::NonZeroU32;
use std::time::Duration;

use resilience_core::rate_limit::{Quota, QuotaError};
use serde::{Deserialize, Serialize};

use super::check::{Amount, Bounds, Place, TIME, bounds};
use super::{FieldName, Several};

/// `rate_limit`: a bucket of `burst` per client, refilled at `requests` per `window`.
///
/// One, or several as `[[rate_limit]]`, which all have to admit a request.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
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

    fn check(&self, place: &mut Place<'_>) {
        place.bounds(self);
        if let Err(error) = self.quota()
            && TIME.contains(Amount::Time(self.window))
        {
            place.at("requests").refuse(error.to_string());
        }
    }
}

bounds! {
    RateLimitConfig {
        requests: Bounds::whole(1, u32::MAX as u64),
        window: TIME,
        burst: Bounds::whole(1, u32::MAX as u64),
        max_keys: Bounds::whole(1, 10_000_000),
        ipv6_prefix: Bounds::whole(1, 128),
    }
}

impl Several<RateLimitConfig> {
    /// Each limit by itself, and no name twice.
    pub(super) fn check(&self, place: &mut Place<'_>) {
        let mut names = std::collections::HashSet::new();
        for (index, limit) in self.as_slice().iter().enumerate() {
            let mut place = match self {
                Self::One(_) => place.at("rate_limit"),
                Self::List(_) => place.at(format_args!("rate_limit[{index}]")),
            };
            limit.check(&mut place);
            if !names.insert(limit.label()) {
                let reason = format!("must differ: there is a limit {:?} already", limit.label());
                place.at("name").refuse(reason);
            }
        }
    }
}

const fn default_max_keys() -> usize {
    100_000
}

const fn default_ipv6_prefix() -> u8 {
    64
}
