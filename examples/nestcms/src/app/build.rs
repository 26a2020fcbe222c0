//! From settings to a wired instance.

use std::{sync::Arc, time::Duration};

use super::{AppState, Deps, listeners, state::Inner};
use crate::{
    adapters::{
        breakers::Breakers,
        cache::{GuardedCache, MemoryCache},
        http::{
            status::StatusPage,
            webhook::{GuardError, WebhookGuard},
        },
        paytabs::{PaytabsClient, PaytabsError},
        sqlite::{ContentStore, Database, DatabaseError, SqliteStore},
    },
    auth::{AuthService, LoginError},
    events::{EventBus, listeners::Analytics},
    health::{Dependency, Health},
    metrics::Metrics,
    payments::{PaymentService, Ports, Rules},
    ports::{Cache, EventSink},
    settings::Settings,
};

/// Why no instance could be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The provider's client.
    #[error(transparent)]
    Paytabs(#[from] PaytabsError),
    /// The webhook checks.
    #[error(transparent)]
    Webhook(#[from] GuardError),
    /// Login.
    #[error("login: {0}")]
    Auth(#[from] LoginError),
}

pub(super) async fn state(settings: Settings, deps: Deps) -> Result<AppState, BuildError> {
    let Deps { clock, wall } = deps;
    let breakers = Breakers::new(&settings, &clock);
    let bus = EventBus::with_queue(Arc::clone(&wall), settings.events.queue);
    let sink: Arc<dyn EventSink> = Arc::new(bus.clone());
    breakers.report_to(&sink, &clock, &wall);

    let database = Database::open(&settings.database, breakers.database().clone()).await?;
    let memory = Arc::new(MemoryCache::new(
        clock.clone(),
        CACHE_CAPACITY,
        CACHE_LIFETIME,
    ));
    let metrics = Metrics::new("nestcms", clock.clone());
    metrics.watch_bus(&bus);
    breakers
        .iter()
        .for_each(|breaker| metrics.watch_breaker(breaker));
    let guarded = GuardedCache::new(memory, breakers.cache().clone(), metrics.clone());
    let cache: Arc<dyn Cache> = Arc::new(guarded);
    let paytabs = breakers.paytabs().clone();
    let provider = PaytabsClient::new(&settings.paytabs, &settings.public_url, paytabs)?;
    let store = SqliteStore::new(database.clone());
    let ports = Ports {
        repository: Arc::new(store.clone()),
        jobs: Arc::new(store),
        provider: Arc::new(provider),
        cache: Arc::clone(&cache),
        events: Arc::clone(&sink),
        wall: Arc::clone(&wall),
    };
    let rules = Rules {
        expires_after: settings.payments.expires_after,
        verification_grace: settings.paytabs.call_timeout + GRACE,
    };
    let payments = PaymentService::new(ports, rules);
    let auth = AuthService::new(
        &settings,
        database.write().clone(),
        Arc::clone(&wall),
        metrics.clone(),
    )
    .await?;
    let status = StatusPage::new(
        bus.clone(),
        breakers.iter().cloned().collect(),
        payments.clone(),
        &settings.paytabs.base_url,
    );
    let health = Health::new(dependencies(&database, &breakers), clock, sink);
    let state = AppState {
        inner: Arc::new(Inner {
            webhook: WebhookGuard::new(&settings, &wall)?,
            content: ContentStore::new(database.clone()),
            analytics: Analytics::default(),
            settings,
            bus,
            breakers,
            database,
            payments,
            auth,
            status,
            health,
            metrics,
        }),
    };
    listeners::wire(&state, cache);
    Ok(state)
}

/// Without the database nothing works; without PayTabs or the cache the rest does.
fn dependencies(database: &Database, breakers: &Breakers) -> Vec<Dependency> {
    let ping = {
        let database = database.clone();
        move || {
            let database = database.clone();
            async move { database.ping().await }
        }
    };
    vec![
        Dependency::required("database")
            .breaker(breakers.database())
            .check(ping),
        Dependency::optional("paytabs").breaker(breakers.paytabs()),
        Dependency::optional("cache").breaker(breakers.cache()),
        Dependency::optional("external").breaker(breakers.external()),
    ]
}

/// Payments shown fast; about 1 KiB each.
const CACHE_CAPACITY: usize = 10_000;
/// How long a cached payment may be out of date at most.
const CACHE_LIFETIME: Duration = Duration::from_secs(60);
/// What a callback needs beside the call to the provider.
const GRACE: Duration = Duration::from_secs(5);
