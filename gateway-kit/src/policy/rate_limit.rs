//! Limits on the requests of one client: by address, before it is known who it is, and by what
//! tells consumers apart, after.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use metrics::Counter;
use parking_lot::Mutex;
use resilience_core::rate_limit::{Check, KeyedRateLimiter, Limited, Quota, check_all};
use serde_json::Value;

use crate::Error;
use crate::config::{RateLimitConfig, RateLimitKey};
use crate::policy::Place;
use crate::problem::{Problem, whole_seconds};
use crate::shared::Shared;

/// The buckets of one limit, whatever the configuration.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// What it is found again by, and called in metrics.
    pub(crate) name: String,
    buckets: KeyedRateLimiter<[u8]>,
    max_keys: usize,
    /// `None` before the first configuration.
    configured: Mutex<Option<Quota>>,
    rejected: Counter,
}

impl Limiter {
    fn new(name: &str, quota: Quota, max_keys: usize, shared: &Shared) -> Self {
        Self {
            name: name.to_owned(),
            buckets: KeyedRateLimiter::with_clock(quota, max_keys, shared.clock.clone()),
            max_keys,
            configured: Mutex::new(None),
            rejected: shared.metrics.rate_limit(name),
        }
    }

    /// Puts a configured quota in force; one set at run time holds until the configured one changes.
    fn configure(&self, quota: Quota) {
        let mut configured = self.configured.lock();
        if configured.replace(quota) != Some(quota) {
            self.buckets.set_quota(quota);
        }
        self.rejected.increment(0);
    }

    /// The quota in force.
    pub(crate) fn quota(&self) -> Quota {
        self.buckets.quota()
    }

    /// Whether the quota is not as configured.
    pub(crate) fn is_changed(&self) -> bool {
        let configured = self.configured.lock();
        configured.is_some_and(|configured| configured != self.buckets.quota())
    }

    /// Gives all clients another quota until the configured one changes.
    pub(crate) fn set_quota(&self, quota: Quota) {
        let _configured = self.configured.lock();
        self.buckets.set_quota(quota);
    }

    /// Clients that are remembered.
    pub(crate) fn keys(&self) -> usize {
        self.buckets.len()
    }
}

/// One limit as a snapshot sees it.
#[derive(Debug)]
struct Limit {
    limiter: Arc<Limiter>,
    /// As configured.
    quota: Quota,
    ipv6_prefix: u8,
}

/// An address as a key. It begins with a byte that no value of a header field has, so that nobody
/// can spend what is another's.
struct AddressKey {
    bytes: [u8; 17],
    len: usize,
}

impl Limit {
    fn address(&self, client: IpAddr) -> AddressKey {
        let mut key = AddressKey {
            bytes: [0; 17],
            len: 17,
        };
        match client.to_canonical() {
            IpAddr::V4(v4) => {
                key.bytes[1..5].copy_from_slice(&v4.octets());
                key.len = 5;
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX << (128 - self.ipv6_prefix.clamp(1, 128));
                let network = Ipv6Addr::from_bits(v6.to_bits() & mask);
                key.bytes[1..].copy_from_slice(&network.octets());
            }
        }
        key
    }

    fn take(&self, key: &[u8]) -> Result<(), Problem> {
        let taken = self.limiter.buckets.try_acquire(key);
        taken.map(drop).map_err(|limited| self.refuse(&limited))
    }

    fn refuse(&self, limited: &Limited) -> Problem {
        self.limiter.rejected.increment(1);
        problem(limited)
    }
}

impl AddressKey {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Takes one from each bucket, or from none.
fn take_all(limits: Vec<(&Limit, &[u8])>) -> Result<(), Problem> {
    if let [(limit, key)] = limits[..] {
        return limit.take(key);
    }
    let costs = limits.iter();
    let costs = costs.map(|(limit, key)| limit.limiter.buckets.cost(key, 1));
    let costs: Vec<_> = costs.collect();
    let checks: Vec<_> = costs.iter().map(|cost| cost as &dyn Check).collect();
    match check_all(&checks) {
        Ok(_) => Ok(()),
        Err(refused) => Err(match limits.get(refused.refused_by) {
            Some((limit, _)) => limit.refuse(&refused.limited),
            None => problem(&refused.limited),
        }),
    }
}

/// The limits of a place as a step of the pipeline; clones share the buckets.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    by_address: Arc<[Limit]>,
    /// After the request is authenticated.
    by_consumer: Arc<[(RateLimitKey, Limit)]>,
}

impl Limits {
    pub(crate) fn compile(configs: &[RateLimitConfig], place: Place<'_>) -> Result<Self, Error> {
        let (mut by_address, mut by_consumer) = (Vec::new(), Vec::new());
        for config in configs {
            let quota = config
                .quota()
                .map_err(|error| Error::Settings(error.to_string()))?;
            let name = place.name(&config.label());
            let known = place.shared.limiters.get(&name);
            // Another size needs another table.
            let known = known.filter(|known| known.max_keys == config.max_keys);
            let limiter = known.unwrap_or_else(|| {
                Arc::new(Limiter::new(&name, quota, config.max_keys, place.shared))
            });
            let limit = Limit {
                limiter,
                quota,
                ipv6_prefix: config.ipv6_prefix,
            };
            match &config.key {
                RateLimitKey::Address => by_address.push(limit),
                key => by_consumer.push((key.clone(), limit)),
            }
        }
        Ok(Self {
            by_address: by_address.into(),
            by_consumer: by_consumer.into(),
        })
    }

    /// Puts the configured quotas in force; the buckets that they are of.
    pub(crate) fn attach(&self) -> impl Iterator<Item = Arc<Limiter>> + '_ {
        let consumers = self.by_consumer.iter().map(|(_, limit)| limit);
        let limits = self.by_address.iter().chain(consumers);
        limits.map(|limit| {
            limit.limiter.configure(limit.quota);
            Arc::clone(&limit.limiter)
        })
    }

    /// Takes one from each bucket of `client`.
    pub(crate) fn check_address(&self, client: IpAddr) -> Result<(), Problem> {
        match &*self.by_address {
            [] => Ok(()),
            [limit] => limit.take(limit.address(client).as_bytes()),
            limits => {
                let keys: Vec<_> = limits.iter().map(|limit| limit.address(client)).collect();
                let keys = keys.iter().map(AddressKey::as_bytes);
                take_all(limits.iter().zip(keys).collect())
            }
        }
    }

    /// Takes one from each bucket of the consumer that the request tells.
    pub(crate) fn check_consumer(
        &self,
        headers: &HeaderMap,
        claims: Option<&Value>,
        client: IpAddr,
    ) -> Result<(), Problem> {
        if self.by_consumer.is_empty() {
            return Ok(());
        }
        let keys = self.by_consumer.iter().map(|(key, limit)| {
            consumer(key, headers, claims)
                .unwrap_or_else(|| Cow::Owned(limit.address(client).as_bytes().to_owned()))
        });
        let keys: Vec<Cow<'_, [u8]>> = keys.collect();
        let limits = self.by_consumer.iter().map(|(_, limit)| limit);
        take_all(limits.zip(keys.iter().map(|key| &**key)).collect())
    }
}

/// What tells a consumer apart, if the request has it.
fn consumer<'r>(
    key: &RateLimitKey,
    headers: &'r HeaderMap,
    claims: Option<&'r Value>,
) -> Option<Cow<'r, [u8]>> {
    match key {
        RateLimitKey::Address => None,
        RateLimitKey::Header(name) => {
            let mut values = headers.get_all(name.name()).iter();
            match (values.next(), values.next()) {
                (Some(value), None) => Some(value.as_bytes().into()),
                _ => None,
            }
        }
        RateLimitKey::Claim(name) => match claims?.get(name)? {
            Value::String(text) => Some(text.as_bytes().into()),
            Value::Number(number) => Some(number.to_string().into_bytes().into()),
            _ => None,
        },
    }
}

/// 429, with the exact wait.
fn problem(limited: &Limited) -> Problem {
    // One request never costs more than the burst, so there is always a wait to tell.
    let wait = limited.retry_after.unwrap_or_default();
    let number = |value: u64| HeaderValue::from(value);
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "rate_limited",
        "Too many requests",
        "this client sends more requests than it is allowed",
    )
    .retry_after(wait)
    .header(
        HeaderName::from_static("x-ratelimit-limit"),
        number(limited.burst.into()),
    )
    .header(
        HeaderName::from_static("x-ratelimit-remaining"),
        number(limited.remaining.into()),
    )
    .header(
        HeaderName::from_static("x-ratelimit-reset"),
        number(whole_seconds(limited.reset_after)),
    )
}

#[cfg(test)]
mod tests {
    use resilience_core::clock::{ManualClock, SharedClock};

    use super::*;
    use crate::config::Config;
    use crate::policy::Policies;

    fn limits(settings: &str) -> Limits {
        let text = format!("rate_limit = {{ requests = 1, window = \"1h\", {settings} }}");
        let config = Config::from_toml(&text).unwrap();
        let shared = Shared::new(SharedClock::new(ManualClock::new()));
        Policies::compile(&config, &shared).unwrap().limits.unwrap()
    }

    #[test]
    fn addresses_count_by_their_network() {
        let check = |limits: &Limits, address: &str| {
            let address = address.parse().unwrap();
            limits.check_address(address).is_ok()
        };
        let by_64 = limits("");
        assert!(check(&by_64, "2001:db8:0:1::1"));
        assert!(!check(&by_64, "2001:db8:0:1:ffff::2"));
        assert!(check(&by_64, "2001:db8:0:2::1"));
        assert!(check(&by_64, "192.0.2.1"));
        assert!(!check(&by_64, "::ffff:192.0.2.1"));
        assert!(check(&by_64, "192.0.2.2"));
        let by_48 = limits("ipv6_prefix = 48");
        assert!(check(&by_48, "2001:db8:0:1::1"));
        assert!(!check(&by_48, "2001:db8:0:2::1"));
        assert!(check(&by_48, "2001:db8:1:1::1"));
        let by_128 = limits("ipv6_prefix = 128");
        assert!(check(&by_128, "2001:db8::1"));
        assert!(check(&by_128, "2001:db8::2"));
        assert!(!check(&by_128, "2001:db8::2"));
    }

    #[test]
    fn more_addresses_take_no_more_memory_than_configured() {
        // I3.c2; the table itself is held to a million keys where it is.
        let limits = limits("max_keys = 500");
        for address in 0..20_000_u32 {
            let _ = limits.check_address(std::net::Ipv4Addr::from_bits(address).into());
        }
        let keys = limits.by_address[0].limiter.keys();
        assert!((400..=500).contains(&keys), "{keys}");
    }

    #[test]
    fn no_value_of_a_field_is_the_key_of_an_address() {
        let limits = limits("key = { header = \"x-key\" }");
        let client = IpAddr::from([192, 168, 200, 220]);
        for bytes in [&[192, 168, 200, 220][..], b"\xc0\xa8\xc8\xdc"] {
            let mut headers = HeaderMap::new();
            headers.insert("x-key", HeaderValue::from_bytes(bytes).unwrap());
            let _ = limits.check_consumer(&headers, None, IpAddr::from([192, 0, 2, 1]));
        }
        assert!(
            limits
                .check_consumer(&HeaderMap::new(), None, client)
                .is_ok()
        );
    }
}
