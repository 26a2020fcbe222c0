//! The limit per client address.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderName, HeaderValue, StatusCode};
use resilience_core::clock::SharedClock;
use resilience_core::rate_limit::{KeyedRateLimiter, Limited, Quota, QuotaError};

use crate::config::RateLimitConfig;
use crate::problem::{Problem, whole_seconds};

/// Whom a request is counted for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct ClientKey(IpAddr);

impl ClientKey {
    /// One IPv6 subscriber has a /64 at least, and could take a new address per request.
    pub(crate) fn new(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            v4 => v4,
        })
    }
}

pub(crate) type ClientLimiter = KeyedRateLimiter<ClientKey>;

/// The quota that the settings mean.
pub(crate) fn quota(config: &RateLimitConfig) -> Result<Quota, QuotaError> {
    let burst = config.burst.unwrap_or(config.requests);
    Quota::new(config.requests.get(), config.window)?.burst(burst.get())
}

pub(crate) fn limiter(
    config: &RateLimitConfig,
    clock: &SharedClock,
) -> Result<ClientLimiter, QuotaError> {
    let quota = quota(config)?;
    Ok(KeyedRateLimiter::with_clock(
        quota,
        config.max_clients,
        clock.clone(),
    ))
}

/// 429, with the exact wait.
pub(crate) fn problem(limited: &Limited) -> Problem {
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

/// The limit per client address as a step of the pipeline; clones share the buckets.
#[derive(Clone, Debug)]
pub(crate) struct ClientLimit(pub(crate) ClientLimiter);

impl ClientLimit {
    /// Takes one from the bucket of `client`.
    pub(crate) fn check(&self, client: IpAddr) -> Result<(), Problem> {
        match self.0.try_acquire(&ClientKey::new(client)) {
            Ok(_) => Ok(()),
            Err(limited) => Err(problem(&limited)),
        }
    }
}
