//! Layers over the service that does nothing.

use std::time::Duration;

use axum::body::Body;
use governor::clock::QuantaInstant;
use governor::middleware::{NoOpMiddleware, StateInformationMiddleware};
use resilience_core::rate_limit::RateLimiter;
use resilience_tower::breaker::Breaker;
use resilience_tower::bulkhead::Bulkhead;
use resilience_tower::rate_limit::http::{HttpAnswer, HttpFields};
use resilience_tower::rate_limit::{RateLimit, RateLimitLayer};
use resilience_tower::timeout::Timeout;
use tokio::runtime::{Builder, Runtime};
use tower_governor::governor::{Governor, GovernorConfigBuilder};
use tower_governor::key_extractor::GlobalKeyExtractor;
use tower_layer::Layer;
use tower_resilience_circuitbreaker::{CircuitBreaker as TowerResilience, DefaultClassifier};
use tower_resilience_ratelimiter::RateLimiterLayer;
use tower_resilience_timelimiter::TimeLimiterLayer;
use tower_service::Service;

use super::{NEVER_USED_UP, SLOW_CALL, breaker, policies, rate_limit};
use crate::service::{Noop, NoopHttp};

/// Our breaker's layer on a count window.
#[must_use]
pub fn breaker() -> Breaker<Noop> {
    Breaker::new(Noop, breaker::count())
}

/// `tower-resilience`'s.
#[must_use]
pub fn tower_resilience_breaker() -> TowerResilience<Noop, DefaultClassifier> {
    breaker::tower_resilience()
}

/// Ours: a breaker around a rate limit around a bulkhead around a timeout.
#[must_use]
pub fn stack() -> Breaker<RateLimit<Bulkhead<Timeout<Noop>>>> {
    let timeout = Timeout::new(Noop, SLOW_CALL);
    let bulkhead = Bulkhead::new(timeout, policies::bulkhead());
    let limited = RateLimit::new(bulkhead, rate_limit::direct());
    Breaker::new(limited, breaker::count())
}

/// The same of `tower-resilience`, on its fixed window, the cheapest it has. It refuses at
/// once when it has no permit.
#[must_use]
pub fn tower_resilience_stack()
-> impl Service<u64, Response = u64, Error: std::fmt::Debug> + Clone + Send + Sync + 'static {
    let timeout = TimeLimiterLayer::builder()
        .timeout_duration(SLOW_CALL)
        .build();
    let limit = RateLimiterLayer::builder()
        .limit_for_period(NEVER_USED_UP as usize)
        .timeout_duration(Duration::ZERO)
        .build()
        .expect("these settings fit together");
    let bulkhead = policies::tower_resilience_bulkhead_layer();
    breaker::tower_resilience_layer().layer(limit.layer(bulkhead.layer(timeout.layer(Noop))))
}

/// The layer of ours that answers with a response, and tells each client its limit
/// (`RateLimit`, `RateLimit-Policy`).
#[must_use]
pub fn limited(limiter: RateLimiter) -> RateLimit<NoopHttp, RateLimiter, HttpAnswer> {
    RateLimitLayer::new(limiter).into_response().layer(NoopHttp)
}

/// The same without fields in admitted responses.
#[must_use]
pub fn limited_plain(limiter: RateLimiter) -> RateLimit<NoopHttp, RateLimiter, HttpAnswer> {
    RateLimitLayer::new(limiter)
        .into_response_with(&HttpFields::new().ratelimit(false))
        .expect("the default names are allowed")
        .layer(NoopHttp)
}

/// `tower_governor` with one limit for all (its key is `()`), telling each client its limit
/// (`x-ratelimit-limit`, `x-ratelimit-remaining`): one permit comes back in each `period`.
#[must_use]
pub fn tower_governor(
    period: Duration,
    burst: u32,
) -> Governor<GlobalKeyExtractor, StateInformationMiddleware, NoopHttp, Body> {
    let config = GovernorConfigBuilder::default()
        .period(period)
        .burst_size(burst)
        .key_extractor(GlobalKeyExtractor)
        .use_headers()
        .finish()
        .expect("the period is above zero");
    Governor::new(NoopHttp, &config)
}

/// The same without fields in admitted responses.
#[must_use]
pub fn tower_governor_plain(
    period: Duration,
    burst: u32,
) -> Governor<GlobalKeyExtractor, NoOpMiddleware<QuantaInstant>, NoopHttp, Body> {
    let config = GovernorConfigBuilder::default()
        .period(period)
        .burst_size(burst)
        .key_extractor(GlobalKeyExtractor)
        .finish()
        .expect("the period is above zero");
    Governor::new(NoopHttp, &config)
}

/// A runtime for the timers; nothing runs on it.
#[must_use]
pub fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without input and output needs nothing")
}
