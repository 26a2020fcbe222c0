//! Limits on the requests of one client: by address, before it is known who it is, and by what
//! tells consumers apart, after.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use metrics::Counter;
use parking_lot::Mutex;
use resilience_core::rate_limit::{KeyedRateLimiter, Limited, Quota};

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

    /// Gives all clients another quota until the configured one changes.
    pub(crate) fn set_quota(&self, quota: Quota) {
        let _configured = self.configured.lock();
        self.buckets.set_quota(quota);
    }

    /// Clients that are remembered.
    pub(crate) fn keys(&self) -> usize {
        self.buckets.len()
    }

    fn take(&self, key: &[u8]) -> Result<(), Problem> {
        match self.buckets.try_acquire(key) {
            Ok(_) => Ok(()),
            Err(limited) => {
                self.rejected.increment(1);
                Err(problem(&limited))
            }
        }
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

impl Limit {
    /// Takes one from the bucket of an address.
    fn take_for(&self, client: IpAddr) -> Result<(), Problem> {
        match client.to_canonical() {
            IpAddr::V4(v4) => self.limiter.take(&v4.octets()),
            IpAddr::V6(v6) => {
                let mask = u128::MAX << (128 - self.ipv6_prefix.clamp(1, 128));
                let network = Ipv6Addr::from_bits(v6.to_bits() & mask);
                self.limiter.take(&network.octets())
            }
        }
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
        for limit in &*self.by_address {
            limit.take_for(client)?;
        }
        Ok(())
    }

    /// Takes one from each bucket of the consumer that `request` tells.
    pub(crate) fn check_consumer(
        &self,
        headers: &HeaderMap,
        client: IpAddr,
    ) -> Result<(), Problem> {
        for (key, limit) in &*self.by_consumer {
            let value = match key {
                RateLimitKey::Header(name) => headers.get(name.name()).map(HeaderValue::as_bytes),
                RateLimitKey::Claim(_) | RateLimitKey::Address => None,
            };
            match value {
                Some(value) => limit.limiter.take(value)?,
                None => limit.take_for(client)?,
            }
        }
        Ok(())
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
