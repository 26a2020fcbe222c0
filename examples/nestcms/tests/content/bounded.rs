//! A cache that is smaller than what is asked for.

use std::{sync::Arc, time::Duration};

use nestcms::{
    adapters::{
        cache::MemoryCache,
        sqlite::{Database, SqliteContent},
    },
    content::{CacheRules, ContentService, Ports, Tiers},
    domain::content::Project,
    metrics::Metrics,
    ports::See,
    settings::Settings,
};
use resilience_core::{breaker::CircuitBreaker, clock::SharedClock};
use webhook_verify::clock::ManualWallClock;

use crate::flows::support::TempDir;

/// Nothing ends by itself while a test runs.
const LONG: Duration = Duration::from_secs(3600);

/// F4.c3
#[tokio::test]
async fn a_full_cache_lets_entries_go_and_counts_them() {
    let shop = Shop::open(10_000).await;
    let room = 1_000;
    let cms = shop.instance(room * shop.size_of_one().await);
    for n in 0..10_000 {
        cms.read(n).await;
        if n % 100 == 0 {
            assert!(cms.figure("cache_entries{") <= room);
        }
    }
    let (kept, gone) = (cms.figure("cache_entries{"), cms.figure("cache_evictions_"));
    assert!(kept <= room, "{kept}");
    assert_eq!(kept + gone, 10_000);
}

/// F4.c5
#[tokio::test]
async fn a_cache_of_three_quarters_of_the_records_answers_most_reads() {
    let shop = Shop::open(1_000).await;
    let cms = shop.instance(750 * shop.size_of_one().await);
    let reads = 20_000;
    let mut hits = 0;
    for n in zipf(1_000, reads) {
        hits += u32::from(cms.read(n).await);
    }
    let share = f64::from(hits) / f64::from(reads);
    println!("{:.1} % of the reads were hits", share * 100.0);
    assert!(share >= 0.85, "{share}");
}

/// So many of `0..keys`: the second is asked for half as often as the first, the third a third.
fn zipf(keys: u32, count: u32) -> impl Iterator<Item = u32> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=keys)
        .map(|rank| {
            sum += 1.0 / f64::from(rank);
            sum
        })
        .collect();
    let mut state = 1_u32;
    (0..count).map(move |_| {
        // xorshift32 (Marsaglia 2003): the same reads in each run.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let wanted = f64::from(state) / f64::from(u32::MAX) * sum;
        let found = sums.partition_point(|sum| *sum < wanted);
        u32::try_from(found).unwrap_or(0).min(keys - 1)
    })
}

/// A store of so many projects.
struct Shop {
    database: Database,
    _dir: TempDir,
}

impl Shop {
    async fn open(projects: u32) -> Self {
        let dir = TempDir::new();
        let mut settings = Settings::demo().database;
        settings.path = dir.0.join("bounded.db");
        let database = Database::open(&settings, CircuitBreaker::new("database"));
        let database = database.await.unwrap();
        let fill = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $1) \
                    INSERT INTO projects (id, name, owner_id) \
                    SELECT printf('p-%05d', i), 'Project', 'demo' FROM n";
        let filled = sqlx::query(fill).bind(projects).execute(database.write());
        filled.await.unwrap();
        Self {
            database,
            _dir: dir,
        }
    }

    fn instance(&self, near_bytes: u64) -> Instance {
        let clock = SharedClock::std();
        let metrics = Metrics::new("test", clock.clone());
        let tiers = Tiers {
            far: None,
            marks: Arc::new(MemoryCache::new(clock.clone(), 100, LONG)),
            breaker: CircuitBreaker::new("cache"),
            clock,
            metrics: metrics.clone(),
        };
        let ports = Ports {
            store: Arc::new(SqliteContent::new(self.database.clone(), metrics.clone())),
            cache: tiers,
            wall: Arc::new(ManualWallClock::new(1_800_000_000)),
        };
        let rules = CacheRules {
            lifetime: LONG,
            near_lifetime: LONG,
            near_bytes,
        };
        let service = ContentService::new(ports, &rules, LONG);
        Instance { service, metrics }
    }

    /// What a record takes in a cache; all take the same.
    async fn size_of_one(&self) -> u64 {
        let cms = self.instance(1 << 20);
        cms.read(0).await;
        cms.figure("cache_bytes{")
    }
}

struct Instance {
    service: ContentService,
    metrics: Metrics,
}

impl Instance {
    /// Whether the cache had the record of that number.
    async fn read(&self, number: u32) -> bool {
        let id = format!("p-{number:05}");
        let found = self.service.read::<Project>(&id, See::Any).await;
        found.unwrap().hit
    }

    /// The figure whose line begins so.
    fn figure(&self, start: &str) -> u64 {
        let page = self.metrics.render();
        let line = page.lines().find(|line| line.starts_with(start)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}
