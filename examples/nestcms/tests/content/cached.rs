//! Two instances, one store, and a cache between them that may be down.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use nestcms::{
    adapters::cache::MemoryCache,
    content::{CacheRules, ContentService, Ports, Tiers},
    domain::content::{Content, Pipeline, Project, Record},
    metrics::Metrics,
    ports::{Cache, CacheError, ContentStore, Kept, Pipelines, Repository, See, StoreError},
};
use resilience_core::{breaker::CircuitBreaker, clock::ManualClock};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use webhook_verify::clock::ManualWallClock;

use super::contract::{project, sqlite};
use crate::flows::support::TempDir;

const FAR: Duration = Duration::from_secs(60);
const NEAR: Duration = Duration::from_secs(2);

/// F3.c3
#[tokio::test]
async fn a_write_that_the_cache_does_not_hear_of_is_hidden_for_a_bounded_time_only() {
    let stage = Stage::new().await;
    let (here, there) = (stage.instance(), stage.instance());
    assert_eq!(stage.name(&here).await, ("Project".to_owned(), false));
    assert_eq!(stage.name(&there).await, ("Project".to_owned(), true));
    stage.far.down.store(true, Ordering::SeqCst);
    stage.rename(&here, "Renamed").await;
    assert_eq!(here.waiting_invalidations(), 1);
    // Who wrote it sees it at once, and the others at the latest when both tiers have forgotten.
    assert_eq!(stage.name(&here).await, ("Renamed".to_owned(), false));
    stage.far.down.store(false, Ordering::SeqCst);
    assert_eq!(stage.name(&there).await.0, "Project");
    stage.clock.advance(NEAR);
    assert_eq!(stage.name(&there).await, ("Project".to_owned(), true));
    stage.clock.advance(FAR);
    assert_eq!(stage.name(&there).await.0, "Renamed");
}

/// F3.c3
#[tokio::test]
async fn an_invalidation_that_failed_is_tried_again() {
    let stage = Stage::new().await;
    let (here, there) = (stage.instance(), stage.instance());
    stage.name(&here).await;
    stage.far.down.store(true, Ordering::SeqCst);
    stage.rename(&here, "Renamed").await;
    assert_eq!(here.retry_invalidations().await, 0);
    assert_eq!(here.waiting_invalidations(), 1);
    stage.far.down.store(false, Ordering::SeqCst);
    // Until it is heard of, this instance does not believe what the far tier has.
    assert_eq!(stage.name(&here).await, ("Renamed".to_owned(), false));
    assert_eq!(here.retry_invalidations().await, 1);
    assert_eq!(here.waiting_invalidations(), 0);
    assert_eq!(stage.name(&there).await, ("Renamed".to_owned(), false));
}

#[tokio::test]
async fn a_write_here_is_seen_there() {
    let stage = Stage::new().await;
    let (here, there) = (stage.instance(), stage.instance());
    stage.name(&here).await;
    stage.rename(&here, "Renamed").await;
    assert_eq!(stage.name(&there).await, ("Renamed".to_owned(), false));
    // What that one read, this one has too.
    assert_eq!(stage.name(&here).await, ("Renamed".to_owned(), true));
}

/// A fill that read before a write and comes after it is kept in no tier.
#[tokio::test]
async fn a_late_fill_does_not_bring_the_old_value_back() {
    let stage = Stage::new().await;
    let (here, there) = (stage.instance(), stage.instance());
    stage.store.hold.store(true, Ordering::SeqCst);
    let late = tokio::spawn({
        let here = here.clone();
        async move { here.read::<Project>("p", See::Any).await.unwrap() }
    });
    // It has read the old row, and has not answered yet.
    drop(stage.store.has_read.acquire().await.unwrap());
    stage.store.hold.store(false, Ordering::SeqCst);
    stage.rename(&there, "Renamed by another").await;
    stage.rename(&here, "Renamed").await;
    stage.store.release.add_permits(1);
    let late = late.await.unwrap();
    assert_eq!(late.value.content.name, "Project");
    assert_eq!(stage.name(&here).await.0, "Renamed");
    stage.clock.advance(NEAR);
    assert_eq!(stage.name(&there).await.0, "Renamed");
}

/// One store, one far tier, one clock.
struct Stage {
    store: Arc<Held>,
    far: Arc<Flaky>,
    clock: ManualClock,
    _dir: TempDir,
}

impl Stage {
    async fn new() -> Self {
        let (dir, store) = sqlite().await;
        let clock = ManualClock::new();
        store.insert(&project("p", "demo")).await.unwrap();
        Self {
            store: Arc::new(Held {
                inner: Box::new(store),
                hold: AtomicBool::new(false),
                has_read: Semaphore::new(0),
                release: Semaphore::new(0),
            }),
            far: Arc::new(Flaky {
                inner: MemoryCache::new(clock.clone().into(), 100, FAR),
                down: AtomicBool::new(false),
            }),
            clock,
            _dir: dir,
        }
    }

    fn instance(&self) -> ContentService {
        let clock = &self.clock;
        let tiers = Tiers {
            far: Some(self.far.clone()),
            marks: Arc::new(MemoryCache::new(clock.clone().into(), 100, FAR)),
            breaker: CircuitBreaker::new("cache"),
            clock: clock.clone().into(),
            metrics: Metrics::new("test", clock.clone().into()),
        };
        let ports = Ports {
            store: self.store.clone(),
            cache: tiers,
            wall: Arc::new(ManualWallClock::new(1_800_000_000)),
        };
        let rules = CacheRules {
            lifetime: FAR,
            near_lifetime: NEAR,
            near_bytes: 1 << 20,
        };
        ContentService::new(ports, &rules, FAR)
    }

    /// The name of the project, and whether a cache had it.
    async fn name(&self, instance: &ContentService) -> (String, bool) {
        let found = instance.read::<Project>("p", See::Any).await.unwrap();
        (found.value.content.name, found.hit)
    }

    async fn rename(&self, instance: &ContentService, name: &str) {
        let mut project = project("p", "demo").content;
        project.name = name.to_owned();
        instance.update("p", project, None).await.unwrap();
    }
}

/// A far tier with a switch.
#[derive(Debug)]
struct Flaky {
    inner: MemoryCache,
    down: AtomicBool,
}

impl Flaky {
    fn is_up(&self) -> Result<(), CacheError> {
        match self.down.load(Ordering::SeqCst) {
            false => Ok(()),
            true => Err(CacheError {
                reason: "switched off".to_owned(),
            }),
        }
    }
}

impl Cache for Flaky {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>, CacheError>> {
        Box::pin(async move {
            self.is_up()?;
            self.inner.get(key).await
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        version: i64,
        value: String,
    ) -> BoxFuture<'a, Result<(), CacheError>> {
        Box::pin(async move {
            self.is_up()?;
            self.inner.put(key, version, value).await
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), CacheError>> {
        Box::pin(async move {
            self.is_up()?;
            self.inner.remove(key).await
        })
    }
}

/// A store whose reads are held back after they have read, while `hold` is set.
#[derive(Debug)]
struct Held {
    inner: Box<dyn ContentStore>,
    hold: AtomicBool,
    has_read: Semaphore,
    release: Semaphore,
}

impl<T: Content> Repository<T> for Held
where
    dyn ContentStore: Repository<T>,
{
    fn find<'a>(
        &'a self,
        id: &'a str,
        see: &'a See,
    ) -> BoxFuture<'a, Result<Option<Record<T>>, StoreError>> {
        Box::pin(async move {
            let found = Repository::<T>::find(&*self.inner, id, see).await;
            if self.hold.load(Ordering::SeqCst) {
                self.has_read.add_permits(1);
                self.release.acquire().await.unwrap().forget();
            }
            found
        })
    }

    fn list<'a>(
        &'a self,
        fields: &'a [(&'static str, String)],
        limit: u32,
        see: &'a See,
    ) -> BoxFuture<'a, Result<Vec<Record<T>>, StoreError>> {
        Repository::<T>::list(&*self.inner, fields, limit, see)
    }

    fn insert<'a>(&'a self, record: &'a Record<T>) -> BoxFuture<'a, Result<Kept<T>, StoreError>> {
        self.inner.insert(record)
    }

    fn update<'a>(&'a self, record: &'a Record<T>) -> BoxFuture<'a, Result<Kept<T>, StoreError>> {
        self.inner.update(record)
    }
}

impl Pipelines for Held {
    fn run(
        &self,
        pipeline: Pipeline,
    ) -> BoxFuture<'_, Result<Vec<Map<String, Value>>, StoreError>> {
        self.inner.run(pipeline)
    }
}
