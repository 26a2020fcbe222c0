//! Two instances on one Redis that is killed and comes back.

use std::{sync::Arc, time::Duration};

use engines::redis::{Cluster, Config, SERVICE, Sentinel};
use nestcms::{
    adapters::cache::{GuardedCache, MemoryCache, RedisCache},
    content::{CacheRules, ContentService, Ports, Tiers},
    domain::content::Project,
    metrics::Metrics,
    ports::{Cache, ContentStore, Repository, See},
};
use resilience_core::{breaker::CircuitBreaker, clock::SharedClock};
use webhook_verify::clock::ManualWallClock;

use super::contract::{project, sqlite};
use crate::flows::support::eventually;

/// Nothing ends by itself while a test runs.
const LONG: Duration = Duration::from_secs(3600);

/// F3.c3, and what a cache in Redis must do.
#[tokio::test]
async fn a_redis_that_is_killed_costs_hits_and_no_answers() {
    let engine = Cluster::start(Config::lone()).await.unwrap();
    let redis = engine.node(0);
    let cache = RedisCache::new(&redis.url(), LONG, Duration::from_secs(20)).unwrap();
    newer_values_stay(&cache).await;
    let (_dir, store) = sqlite().await;
    store.insert(&project("p", "demo")).await.unwrap();
    let store: Arc<dyn ContentStore> = Arc::new(store);
    let (here, there) = (instance(&store, &cache), instance(&store, &cache));
    assert_eq!(name(&here).await, ("Project".to_owned(), false));
    assert_eq!(name(&there).await, ("Project".to_owned(), true));
    rename(&here, "first").await;
    assert_eq!(name(&here).await, ("first".to_owned(), false));

    redis.kill().await.unwrap();
    rename(&here, "second").await;
    assert_eq!(here.waiting_invalidations(), 1);
    assert_eq!(name(&here).await, ("second".to_owned(), false));
    redis.start().await.unwrap();
    assert_eq!(here.retry_invalidations().await, 1);
    let late = instance(&store, &cache);
    assert_eq!(name(&late).await, ("second".to_owned(), false));
    assert_eq!(
        name(&instance(&store, &cache)).await,
        ("second".to_owned(), true)
    );
}

/// F4.c4
#[tokio::test]
async fn the_cache_follows_the_sentinels_to_another_redis() {
    let config = Config::default().with_replicas(1).with_sentinels(1);
    let engine = Cluster::start(config).await.unwrap();
    let old = engine.node(0);
    let sentinels: Vec<_> = engine.sentinels().iter().map(Sentinel::url).collect();
    let sentinels = sentinels.iter().map(String::as_str).collect();
    let cache = RedisCache::new(&old.url(), LONG, Duration::from_secs(20)).unwrap();
    let cache = cache.with_sentinels(SERVICE, sentinels).unwrap();
    newer_values_stay(&cache).await;
    let (_dir, store) = sqlite().await;
    store.insert(&project("p", "demo")).await.unwrap();
    let store: Arc<dyn ContentStore> = Arc::new(store);
    let here = instance(&store, &cache);
    assert_eq!(name(&here).await, ("Project".to_owned(), false));

    old.kill().await.unwrap();
    rename(&here, "first").await;
    assert_eq!(here.waiting_invalidations(), 1);
    assert_eq!(name(&here).await, ("first".to_owned(), false));
    engine.wait_failover_from(old).await.unwrap();
    eventually("the cache answers again", async || {
        here.retry_invalidations().await == 1
    })
    .await;
    let late = instance(&store, &cache);
    assert_eq!(name(&late).await, ("first".to_owned(), false));
    assert_eq!(
        name(&instance(&store, &cache)).await,
        ("first".to_owned(), true)
    );
}

async fn newer_values_stay(cache: &RedisCache) {
    assert_eq!(cache.get("k").await.unwrap(), None);
    cache.put("k", 2, "new".to_owned()).await.unwrap();
    cache.put("k", 1, "old".to_owned()).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some("new"));
    cache.put("k", 2, "same".to_owned()).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some("same"));
    cache.remove("k").await.unwrap();
    assert_eq!(cache.get("k").await.unwrap(), None);
}

fn instance(store: &Arc<dyn ContentStore>, cache: &RedisCache) -> ContentService {
    let (clock, breaker) = (SharedClock::std(), CircuitBreaker::new("cache"));
    let metrics = Metrics::new("test", clock.clone());
    let redis = Arc::new(cache.clone());
    let far = GuardedCache::new(redis, "far", breaker.clone(), metrics.clone());
    let tiers = Tiers {
        far: Some(Arc::new(far)),
        marks: Arc::new(MemoryCache::new(clock.clone(), 100, LONG)),
        breaker,
        clock,
        metrics,
    };
    let ports = Ports {
        store: Arc::clone(store),
        cache: tiers,
        wall: Arc::new(ManualWallClock::new(1_800_000_000)),
    };
    let rules = CacheRules {
        lifetime: LONG,
        near_lifetime: LONG,
        near_bytes: 1 << 20,
    };
    ContentService::new(ports, &rules, LONG)
}

async fn name(instance: &ContentService) -> (String, bool) {
    let found = instance.read::<Project>("p", See::Any).await.unwrap();
    (found.value.content.name, found.hit)
}

async fn rename(instance: &ContentService, name: &str) {
    let mut project = project("p", "demo").content;
    project.name = name.to_owned();
    instance.update("p", project, None).await.unwrap();
}
