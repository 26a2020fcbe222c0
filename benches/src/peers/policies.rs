//! The other policies as layers over the service that does nothing, and the peers of each.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use resilience_core::adaptive::{self, AdaptiveLimit};
use resilience_core::balance::{self, Balancer, Endpoint};
use resilience_core::bulkhead;
use resilience_core::cache;
use resilience_core::coalesce;
use resilience_core::hedge::{self, HedgePolicy};
use resilience_core::load_shed;
use resilience_core::retry::{RetryBudget, RetryPolicy};
use resilience_tower::adaptive::AdaptiveLayer;
use resilience_tower::balance::Balance;
use resilience_tower::bulkhead::Bulkhead;
use resilience_tower::cache::{ByRule, CacheLayer, Keep, Store};
use resilience_tower::coalesce::{CoalesceLayer, Coalescing};
use resilience_tower::fallback::FallbackLayer;
use resilience_tower::hedge::{CloneIf, HedgeLayer};
use resilience_tower::load_shed::LoadShedLayer;
use resilience_tower::retry::RetryLayer;
use resilience_tower::stack;
use tower::balance::p2c::Balance as TowerBalance;
use tower::discover::ServiceList;
use tower::limit::ConcurrencyLimit;
use tower::load::{CompleteOnResponse, PeakEwma};
use tower::load_shed::LoadShed as TowerLoadShed;
use tower::retry::budget::{Budget as _, TpsBudget};
use tower::retry::{Policy, Retry};
use tower_layer::Layer;
use tower_resilience_adaptive::{AdaptiveLimiterLayer, Vegas};
use tower_resilience_bulkhead::BulkheadLayer;
use tower_resilience_cache::CacheLayer as TowerResilienceCache;
use tower_resilience_coalesce::CoalesceLayer as TowerResilienceCoalesce;
use tower_resilience_fallback::FallbackLayer as TowerResilienceFallback;
use tower_resilience_hedge::HedgeLayer as TowerResilienceHedge;
use tower_resilience_retry::{RetryBudgetBuilder, RetryLayer as TowerResilienceRetry};
use tower_service::Service;

use super::SLOW_CALL;
use crate::service::Noop;

/// Calls at once that none of the benches reaches.
pub const ROOM: usize = 100;

/// What every peer gives: a service of clones, one for each thread.
pub trait Layered:
    Service<u64, Response = u64, Error: std::fmt::Debug> + Clone + Send + Sync + 'static
{
}

impl<S> Layered for S where
    S: Service<u64, Response = u64, Error: std::fmt::Debug> + Clone + Send + Sync + 'static
{
}

/// Our bulkhead, refusing at once.
#[must_use]
pub fn bulkhead() -> bulkhead::Bulkhead {
    bulkhead::Bulkhead::new(
        bulkhead::Config::builder()
            .limit(ROOM as u32)
            .build()
            .expect("a limit alone is enough"),
    )
}

/// Its layer.
#[must_use]
pub fn bulkhead_layer() -> Bulkhead<Noop> {
    Bulkhead::new(Noop, bulkhead())
}

/// `tower`'s, which waits without an end.
#[must_use]
pub fn concurrency_limit() -> impl Layered {
    ConcurrencyLimit::new(Noop, ROOM)
}

/// `tower-resilience`'s, refusing at once.
#[must_use]
pub fn tower_resilience_bulkhead() -> impl Layered {
    tower_resilience_bulkhead_layer().layer(Noop)
}

/// The same, around any service.
#[must_use]
pub fn tower_resilience_bulkhead_layer() -> BulkheadLayer {
    BulkheadLayer::builder()
        .max_concurrent_calls(ROOM)
        .reject_when_full()
        .build()
        .expect("these settings fit together")
}

/// Our retries under a budget: what an attempt costs that succeeds.
#[must_use]
pub fn retry() -> impl Layered {
    RetryLayer::new(RetryPolicy::default()).layer(Noop)
}

/// `tower`'s, under its budget with the same share.
#[must_use]
pub fn tower_retry() -> impl Layered {
    Retry::new(WithBudget(Arc::default()), Noop)
}

/// `tower-resilience`'s, under its token bucket.
#[must_use]
pub fn tower_resilience_retry() -> impl Layered {
    let budget = RetryBudgetBuilder::new()
        .token_bucket()
        .build()
        .expect("the default settings fit together");
    TowerResilienceRetry::<u64, u64, Infallible>::builder()
        .max_attempts(3)
        .budget(budget)
        .build()
        .layer(Noop)
}

/// Our adaptive limit by Vegas.
#[must_use]
pub fn adaptive() -> impl Layered {
    let config = adaptive::Config::builder()
        .algorithm(adaptive::Algorithm::Vegas)
        .initial_limit(ROOM as u32)
        .min_limit(ROOM as u32)
        .max_limit(ROOM as u32)
        .build()
        .expect("these settings fit together");
    AdaptiveLayer::new(AdaptiveLimit::new(config)).layer(Noop)
}

/// `tower-resilience`'s by Vegas.
#[must_use]
pub fn tower_resilience_adaptive() -> impl Layered {
    let vegas = Vegas::builder()
        .initial_limit(ROOM)
        .min_limit(ROOM)
        .max_limit(ROOM)
        .build()
        .expect("these settings fit together");
    AdaptiveLimiterLayer::new(vegas).layer(Noop)
}

/// Our load shedder, by queue delay and calls at once, with nothing to do.
#[must_use]
pub fn load_shed() -> load_shed::LoadShed {
    let config = load_shed::Config::builder().limit(ROOM as u32).build();
    load_shed::LoadShed::new(config.expect("a limit alone is enough"))
}

/// Its layer; all calls are of one class.
#[must_use]
pub fn load_shed_layer() -> impl Layered {
    LoadShedLayer::new(load_shed()).layer(Noop)
}

/// `tower`'s, over a service that is always ready.
#[must_use]
pub fn tower_load_shed() -> impl Layered {
    TowerLoadShed::new(Noop)
}

/// Our balancer over three services that do nothing, by peak EWMA of two choices.
#[must_use]
pub fn balancer() -> Balancer<Noop> {
    let balancer = Balancer::new(balance::Config::default());
    let endpoints = ["a", "b", "c"].map(|name| Endpoint::new(name, Noop));
    balancer.set_endpoints(endpoints).expect("three names");
    balancer
}

/// Its service.
#[must_use]
pub fn balance() -> impl Layered {
    Balance::new(balancer())
}

/// `tower`'s, by peak EWMA as well; it is not `Clone`.
#[must_use]
pub fn tower_balance() -> impl Service<u64, Response = u64> {
    let endpoint = || {
        PeakEwma::new(
            Noop,
            RTT,
            DECAY.as_nanos() as f64,
            CompleteOnResponse::default(),
        )
    };
    TowerBalance::new(ServiceList::new::<u64>([
        endpoint(),
        endpoint(),
        endpoint(),
    ]))
}

/// What `tower`'s documentation begins with.
const RTT: Duration = Duration::from_millis(5);
const DECAY: Duration = Duration::from_secs(10);

/// Our hedge, of every request, with a measured delay.
#[must_use]
pub fn hedge() -> impl Layered {
    let policy = HedgePolicy::new(hedge::Config::default(), RetryBudget::default());
    HedgeLayer::new(policy, CloneIf(|_: &u64| true)).layer(Noop)
}

/// `tower-resilience`'s, with a fixed delay; it has no budget.
#[must_use]
pub fn tower_resilience_hedge() -> impl Layered {
    TowerResilienceHedge::builder()
        .delay(SLOW_CALL)
        .max_hedged_attempts(2)
        .build()
        .layer(Noop)
}

/// Our fallback to a value that is never needed.
#[must_use]
pub fn fallback() -> impl Layered {
    FallbackLayer::value(0).layer(Noop)
}

/// `tower-resilience`'s.
#[must_use]
pub fn tower_resilience_fallback() -> impl Layered {
    TowerResilienceFallback::<u64, u64, Infallible>::value(0).layer(Noop)
}

/// Our shared calls; here each caller is alone.
#[must_use]
pub fn coalesce() -> impl Layered {
    let coalescing = Coalescing::new(coalesce::Config::default());
    CoalesceLayer::new(coalescing, |key: &u64| Some(*key)).layer(Noop)
}

/// `tower-resilience`'s.
#[must_use]
pub fn tower_resilience_coalesce() -> impl Layered {
    TowerResilienceCoalesce::new(|key: &u64| *key).layer(Noop)
}

/// A whole stack of ours: deadline, retry, breaker, bulkhead, attempt timeout.
#[must_use]
pub fn outbound() -> impl Layered {
    stack::outbound("outbound").repeatable().layer(Noop)
}

/// Our cache of one answer.
#[must_use]
pub fn cache() -> impl Layered {
    let rules = ByRule::new(|_: Result<&u64, &Infallible>| Keep::fresh_for(AN_HOUR));
    let store = Store::new(cache::Config::default());
    CacheLayer::new(store, |key: &u64| Some(*key), rules).layer(Noop)
}

/// `tower-resilience`'s, of the least recently used.
#[must_use]
pub fn tower_resilience_cache() -> impl Layered {
    TowerResilienceCache::builder()
        .max_size(ROOM)
        .ttl(AN_HOUR)
        .key_extractor(|key: &u64| *key)
        .build()
        .expect("these settings fit together")
        .layer(Noop)
}

const AN_HOUR: Duration = Duration::from_secs(3_600);

/// As `tower`'s documentation has it: a deposit for a success, a withdrawal for a retry.
#[derive(Clone)]
struct WithBudget(Arc<TpsBudget>);

impl Policy<u64, u64, Infallible> for WithBudget {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<u64, Infallible>) -> Option<Self::Future> {
        match result {
            Ok(_) => {
                self.0.deposit();
                None
            }
            Err(_) => self.0.withdraw().then(|| ready(())),
        }
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}
