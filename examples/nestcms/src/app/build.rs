//! From settings to a wired instance.

use std::{sync::Arc, time::Duration};

use resilience_core::{
    clock::SharedClock,
    retry::{Backoff, ConfigError, Jitter},
    route,
};
use webhook_verify::clock::WallClock;

use super::{AppState, Deps, listeners, state::Inner};
use crate::{
    adapters::{
        breakers::Breakers,
        cache::{GuardedCache, MemoryCache, RedisCache},
        http::{
            status::StatusPage,
            webhook::{GuardError, WebhookGuard},
        },
        nats::{JetStream, Nats, NatsError, NatsTasks, Subscription},
        paytabs::{PaytabsClient, PaytabsError},
        postgres::{NodesError, Postgres, PostgresContent, PostgresStore, PostgresUsers},
        slow::SlowStore,
        sqlite::{Database, DatabaseError, SqliteContent, SqliteStore, SqliteTasks},
    },
    auth::{AuthService, LoginError, UserStore, Users},
    content::{self, CacheRules, ContentService, Tiers},
    correlation,
    domain::event::{EventData, Source, ThreatLevel},
    events::{EventBus, listeners::Analytics},
    health::{Dependency, Health},
    metrics::Metrics,
    outbox::{self, Accounting, Consumer, Dispatcher, Local, Receipts, Wake},
    payments::{PaymentService, Ports, Rules},
    ports::{
        Cache, CacheError, ContentStore, EventSink, Inbox, JobQueue, Outbox, PaymentRepository,
        Publisher, TaskQueue,
    },
    settings::{Secret, Settings, TaskSettings},
    tasks::{self, Jobs, TaskService, Workers},
};

/// Why no instance could be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The nodes of the database.
    #[error(transparent)]
    Nodes(#[from] NodesError),
    /// The provider's client.
    #[error(transparent)]
    Paytabs(#[from] PaytabsError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The message broker.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// The webhook checks.
    #[error(transparent)]
    Webhook(#[from] GuardError),
    /// Login.
    #[error("login: {0}")]
    Auth(#[from] LoginError),
    /// The waits of the outbox.
    #[error("outbox: {0}")]
    Outbox(#[from] ConfigError),
}

pub(super) async fn state(settings: Settings, deps: Deps) -> Result<AppState, BuildError> {
    let Deps {
        clock,
        wall,
        store_delay,
    } = deps;
    let breakers = Breakers::new(&settings, &clock);
    let bus = EventBus::with_queue(Arc::clone(&wall), settings.events.queue);
    let sink: Arc<dyn EventSink> = Arc::new(bus.clone());
    breakers.report_to(&sink, &clock, &wall);

    let metrics = Metrics::new("nestcms", clock.clone());
    let database = Database::open(&settings.database, breakers.database().clone()).await?;
    let database = database.with_metrics(metrics.clone());
    metrics.watch_bus(&bus);
    breakers
        .iter()
        .for_each(|breaker| metrics.watch_breaker(breaker));
    let Caches {
        payments: cache,
        far,
    } = caches(&settings, &clock, &breakers, &metrics)?;
    let paytabs = breakers.paytabs().clone();
    let provider = PaytabsClient::new(&settings.paytabs, &settings.public_url, paytabs)?;
    let postgres = postgres(&settings, &breakers, &metrics, &sink).await?;
    let nats = match settings.nats.servers.is_empty() {
        true => None,
        false => Some(Nats::connect(&settings.nats).await?),
    };
    let stores = Stores::new(&database, postgres.as_ref(), &metrics);
    let wake = Wake::default();
    let rules = outbox_rules(&settings)?;
    let (channel, payers) = listeners::people(&database, postgres.as_ref());
    let letters = Arc::new(listeners::letters(&channel, &payers));
    let consumers: Vec<Arc<dyn Consumer>> =
        vec![Arc::new(Accounting), Arc::new(Receipts::new(letters))];
    let inbox = &stores.inbox;
    let mut subscriptions = Vec::new();
    // The file is of this process, and so are its consumers.
    let publisher: Arc<dyn Publisher> = match nats.clone().filter(|_| postgres.is_some()) {
        None => Arc::new(Local::new(Arc::clone(inbox), consumers, Arc::clone(&wall))),
        Some(nats) => {
            let publisher = JetStream::new(nats.clone(), settings.nats.replicas).await?;
            for consumer in consumers {
                let (nats, inbox, wall) = (nats.clone(), Arc::clone(inbox), Arc::clone(&wall));
                let metrics = metrics.clone();
                let subscription =
                    Subscription::new(nats, consumer, inbox, wall, metrics, rules).await?;
                subscriptions.push(subscription);
            }
            Arc::new(publisher)
        }
    };
    let dispatcher = Dispatcher::new(
        Arc::clone(&stores.outbox),
        publisher,
        Arc::clone(&wall),
        metrics.clone(),
        rules,
        wake.clone(),
    );
    let ports = Ports {
        repository: stores.payments,
        jobs: stores.jobs,
        provider: Arc::new(provider),
        cache: Arc::clone(&cache),
        events: Arc::clone(&sink),
        outbox: wake.clone(),
        wall: Arc::clone(&wall),
    };
    let rules = Rules {
        expires_after: settings.payments.expires_after,
        verification_grace: settings.paytabs.call_timeout + GRACE,
    };
    let payments = PaymentService::new(ports, rules);
    let auth =
        AuthService::over(&settings, stores.users, Arc::clone(&wall), metrics.clone()).await?;
    let tiers = Tiers {
        far,
        marks: Arc::new(MemoryCache::new(clock.clone(), MARKS, MARK_LIFETIME)),
        breaker: breakers.cache().clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
    };
    let store = match store_delay {
        Some(delay) => Arc::new(SlowStore::new(stores.content, delay)),
        None => stores.content,
    };
    let ports = content::Ports {
        store,
        cache: tiers,
        wall: Arc::clone(&wall),
    };
    let rules = CacheRules {
        lifetime: settings.cache.lifetime,
        near_lifetime: settings.cache.near_lifetime,
        near_bytes: settings.cache.near_bytes,
    };
    let content = ContentService::new(ports, &rules, settings.cache.reports);
    let queue = queue(&settings, &database, nats.as_ref(), &wall).await?;
    let tasks = TaskService::new(queue, Arc::clone(&wall));
    let jobs = Arc::new(Jobs::new(content.clone(), channel));
    let rules = task_rules(&settings.tasks);
    let workers = Workers::new(tasks.clone(), jobs, rules, metrics.clone());
    let status = StatusPage::new(
        bus.clone(),
        breakers.iter().cloned().collect(),
        payments.clone(),
        &settings.paytabs.base_url,
    );
    let dependencies = dependencies(&database, postgres.as_ref(), nats.as_ref(), &breakers);
    let health = Health::new(dependencies, clock, sink);
    let state = AppState {
        inner: Arc::new(Inner {
            webhook: WebhookGuard::new(&settings, &wall)?,
            content,
            tasks,
            workers,
            analytics: Analytics::default(),
            settings,
            bus,
            breakers,
            database,
            postgres,
            nats,
            payments,
            auth,
            status,
            health,
            metrics,
            outbox: stores.outbox,
            dispatcher,
            subscriptions,
            wake,
            wall,
        }),
    };
    listeners::wire(&state, cache);
    Ok(state)
}

/// Both are Redis, or payments are kept in memory and nothing is shared.
struct Caches {
    payments: Arc<dyn Cache>,
    /// What the content shares with other instances.
    far: Option<Arc<dyn Cache>>,
}

fn caches(
    settings: &Settings,
    clock: &SharedClock,
    breakers: &Breakers,
    metrics: &Metrics,
) -> Result<Caches, CacheError> {
    let (breaker, metrics) = (breakers.cache().clone(), metrics.clone());
    let cache = &settings.cache;
    let Some(url) = &cache.redis else {
        let memory = MemoryCache::new(clock.clone(), CACHE_CAPACITY, CACHE_LIFETIME);
        let guarded = GuardedCache::new(Arc::new(memory), "memory", breaker, metrics);
        return Ok(Caches {
            payments: Arc::new(guarded),
            far: None,
        });
    };
    let mut redis = RedisCache::new(url.expose(), cache.lifetime, cache.call_timeout)?;
    if !cache.sentinels.is_empty() {
        let sentinels = cache.sentinels.iter().map(Secret::expose).collect();
        redis = redis.with_sentinels(&cache.service, sentinels)?;
    }
    let guarded = GuardedCache::new(Arc::new(redis), "far", breaker, metrics);
    let shared: Arc<dyn Cache> = Arc::new(guarded);
    Ok(Caches {
        payments: Arc::clone(&shared),
        far: Some(shared),
    })
}

/// What stands behind the ports of the store.
struct Stores {
    payments: Arc<dyn PaymentRepository>,
    jobs: Arc<dyn JobQueue>,
    content: Arc<dyn ContentStore>,
    users: Arc<dyn UserStore>,
    outbox: Arc<dyn Outbox>,
    inbox: Arc<dyn Inbox>,
}

impl Stores {
    fn new(database: &Database, postgres: Option<&Postgres>, metrics: &Metrics) -> Self {
        if let Some(postgres) = postgres {
            let store = PostgresStore::new(postgres.clone());
            return Self {
                payments: Arc::new(store.clone()),
                jobs: Arc::new(store.clone()),
                outbox: Arc::new(store.clone()),
                inbox: Arc::new(store),
                content: Arc::new(PostgresContent::new(postgres.clone())),
                users: Arc::new(PostgresUsers::new(postgres.clone())),
            };
        }
        let store = SqliteStore::new(database.clone());
        Self {
            payments: Arc::new(store.clone()),
            jobs: Arc::new(store.clone()),
            outbox: Arc::new(store.clone()),
            inbox: Arc::new(store),
            content: Arc::new(SqliteContent::new(database.clone(), metrics.clone())),
            users: Arc::new(Users::new(database.write().clone())),
        }
    }
}

/// The queue that instances share, or the one of this process.
async fn queue(
    settings: &Settings,
    database: &Database,
    nats: Option<&Nats>,
    wall: &Arc<dyn WallClock>,
) -> Result<Arc<dyn TaskQueue>, NatsError> {
    let TaskSettings {
        visibility, keep, ..
    } = settings.tasks;
    let wall = Arc::clone(wall);
    let Some(nats) = nats.cloned() else {
        let queue = SqliteTasks::new(database.clone(), wall, visibility, keep);
        return Ok(Arc::new(queue));
    };
    let replicas = settings.nats.replicas;
    let queue = NatsTasks::open(nats, wall, visibility, keep, replicas).await?;
    Ok(Arc::new(queue))
}

fn task_rules(settings: &TaskSettings) -> tasks::Rules {
    tasks::Rules {
        least: settings.least_workers,
        most: settings.most_workers,
        share: settings.tasks_per_worker,
        poll: settings.poll,
        visibility: settings.visibility,
        limit: settings.run_limit,
        grace: settings.grace,
        backoff: settings.backoff,
    }
}

fn outbox_rules(settings: &Settings) -> Result<outbox::Rules, BuildError> {
    let outbox = &settings.outbox;
    Ok(outbox::Rules {
        poll: outbox.poll,
        batch: outbox.batch,
        tries: TRIES,
        backoff: Backoff::new(outbox.retry_base, outbox.retry_max)?.jitter(Jitter::Equal),
        lease: outbox.lease,
        keep: outbox.keep,
    })
}

/// The outbox and the dead letters of the settings' database, and nothing else of an instance.
///
/// # Errors
///
/// [`BuildError`] when it cannot be opened.
pub async fn outbox(settings: &Settings) -> Result<Arc<dyn Outbox>, BuildError> {
    let clock = SharedClock::std();
    let breaker = Breakers::new(settings, &clock).database().clone();
    if settings.database.nodes.is_empty() {
        let database = Database::open(&settings.database, breaker).await?;
        return Ok(Arc::new(SqliteStore::new(database)));
    }
    let metrics = Metrics::new("nestcms", clock);
    let postgres = Postgres::open(settings, breaker, metrics).await?;
    Ok(Arc::new(PostgresStore::new(postgres)))
}

/// The cluster of the settings, if they name one. A primary that was replaced and does not know it
/// is told to operators.
async fn postgres(
    settings: &Settings,
    breakers: &Breakers,
    metrics: &Metrics,
    sink: &Arc<dyn EventSink>,
) -> Result<Option<Postgres>, NodesError> {
    if settings.database.nodes.is_empty() {
        return Ok(None);
    }
    let breaker = breakers.database().clone();
    let postgres = Postgres::open(settings, breaker, metrics.clone()).await?;
    let sink = Arc::clone(sink);
    let told = move |event: &route::Event| {
        if event.change != route::Change::Fenced {
            return;
        }
        let data = EventData::SecurityAlert {
            kind: "fenced_primary".to_owned(),
            severity: ThreatLevel::High,
            remote_ip: None,
            subject: event.node.to_string(),
            count: 1,
            window_s: 0,
        };
        sink.emit(Source::HealthService, &correlation::generate(), data);
    };
    postgres.cluster().router().subscribe(told).forget();
    Ok(Some(postgres))
}

/// Without the database nothing works; without one of the others the rest does.
fn dependencies(
    database: &Database,
    postgres: Option<&Postgres>,
    nats: Option<&Nats>,
    breakers: &Breakers,
) -> Vec<Dependency> {
    let ping = {
        let (database, postgres) = (database.clone(), postgres.cloned());
        move || {
            let (database, postgres) = (database.clone(), postgres.clone());
            async move {
                match postgres {
                    Some(postgres) => postgres.ping().await,
                    None => database.ping().await,
                }
            }
        }
    };
    let nats = nats.cloned().map(|nats| {
        Dependency::optional("nats").check(move || {
            let nats = nats.clone();
            async move { nats.ping().await }
        })
    });
    let others = [
        Dependency::required("database")
            .breaker(breakers.database())
            .check(ping),
        Dependency::optional("paytabs").breaker(breakers.paytabs()),
        Dependency::optional("cache").breaker(breakers.cache()),
        Dependency::optional("external").breaker(breakers.external()),
    ];
    others.into_iter().chain(nats).collect()
}

/// Payments shown fast; about 1 KiB each.
const CACHE_CAPACITY: usize = 10_000;
/// How long a cached payment may be out of date at most.
const CACHE_LIFETIME: Duration = Duration::from_secs(60);
/// Keys that were written lately; the oldest make room.
const MARKS: usize = 100_000;
/// Longer than any replica in use is behind.
const MARK_LIFETIME: Duration = Duration::from_secs(300);
/// Of one event: the first, and five more.
const TRIES: usize = 6;
/// What a callback needs beside the call to the provider.
const GRACE: Duration = Duration::from_secs(5);
