//! What counts and must outlive a configuration: breakers, pools, requests in flight, buckets.
//! Keyed by upstream and address, so that a later snapshot finds its state again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;
use parking_lot::Mutex;
use resilience_core::clock::{Clock, SharedClock};

use crate::config::Config;
#[cfg(feature = "cache")]
use crate::config::Switch;
use crate::ids::Ids;
use crate::metrics::Metrics;
use crate::policy::Registry;
#[cfg(feature = "cache")]
use crate::policy::cache::Store;
use crate::policy::rate_limit::Limiter;
use crate::policy::transform::Transform;
#[cfg(feature = "webhook")]
use crate::policy::webhook::Deliveries;
use crate::route::Split;
use crate::upstream::service::Service;
use crate::upstream::upgrade::Tunnels;
use crate::wall::WallClock;

/// State that all snapshots of one gateway share.
pub(crate) struct Shared {
    pub(crate) clock: SharedClock,
    /// The time of day.
    pub(crate) wall: WallClock,
    pub(crate) ids: Ids,
    pub(crate) metrics: Arc<Metrics>,
    /// On the clock.
    started: Duration,
    /// Goes up with every change of settings.
    revision: AtomicU64,
    /// Set when the gateway begins to stop.
    draining: AtomicBool,
    services: Mutex<HashMap<String, Arc<Service>>>,
    /// By the route's label.
    splits: Mutex<HashMap<String, Arc<Split>>>,
    pub(crate) limiters: Registry<Limiter>,
    /// Keys of issuers.
    #[cfg(feature = "jwt")]
    pub(crate) key_sets: Registry<crate::policy::jwt::KeySet>,
    /// What the program itself changes, by the route's label.
    pub(crate) transforms: HashMap<String, Vec<Arc<dyn Transform>>>,
    #[cfg(feature = "webhook")]
    pub(crate) deliveries: Registry<Deliveries>,
    #[cfg(feature = "cache")]
    store: Mutex<Option<Arc<Store>>>,
    /// The way of spans in force.
    #[cfg(feature = "otel")]
    pub(crate) otel: Mutex<Option<Arc<crate::otel::Export>>>,
    pub(crate) tunnels: Tunnels,
    #[cfg(feature = "admin")]
    pub(crate) admin: crate::admin::State,
    /// Requests of which a share is logged.
    turns: AtomicU64,
}

impl Shared {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self {
            started: clock.now(),
            revision: AtomicU64::new(0),
            #[cfg(feature = "admin")]
            admin: crate::admin::State::new(&clock),
            clock,
            wall: WallClock::default(),
            ids: Ids::default(),
            metrics: Arc::new(Metrics::new()),
            draining: AtomicBool::new(false),
            services: Mutex::new(HashMap::new()),
            splits: Mutex::new(HashMap::new()),
            limiters: Registry::default(),
            #[cfg(feature = "jwt")]
            key_sets: Registry::default(),
            transforms: HashMap::new(),
            #[cfg(feature = "webhook")]
            deliveries: Registry::default(),
            #[cfg(feature = "cache")]
            store: Mutex::new(None),
            #[cfg(feature = "otel")]
            otel: Mutex::new(None),
            tunnels: Tunnels::default(),
            turns: AtomicU64::new(0),
        }
    }

    /// Since this was made.
    pub(crate) fn uptime(&self) -> Duration {
        self.clock.now().saturating_sub(self.started)
    }

    /// Tells that settings were changed.
    pub(crate) fn changed(&self) {
        // ORDERING: Release, and Acquire where it is read: who sees the number sees the change.
        self.revision.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Whether this turn is one of a share of all, which are spread evenly.
    pub(crate) fn turn(&self, share: f64) -> bool {
        // ORDERING: Relaxed; a count that publishes nothing.
        let turn = self.turns.fetch_add(1, Ordering::Relaxed) as f64;
        ((turn + 1.0) * share).floor() > (turn * share).floor()
    }

    /// A correlation id for a request that brings none.
    pub(crate) fn new_id(&self) -> HeaderValue {
        self.ids.next(self.wall.now())
    }

    pub(crate) fn drain(&self) {
        // ORDERING: Release and Acquire, though the flag stands alone: it is no hot path.
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Sends the spans that wait, as far as it is done by then.
    #[cfg(feature = "otel")]
    pub(crate) async fn flush_spans(&self, end: tokio::time::Instant) {
        let export = self.otel.lock().clone();
        if let Some(export) = export
            && tokio::time::timeout_at(end, export.flush()).await.is_err()
        {
            tracing::warn!("stopping: spans that were not sent in time are lost");
        }
    }

    /// Where answers are kept, if any route does that; a new one is not kept before
    /// [`attach`](Self::attach).
    #[cfg(feature = "cache")]
    pub(crate) fn store(&self, config: &Config) -> Option<Arc<Store>> {
        let mut routes = config.routes.iter();
        let own = routes.any(|route| matches!(&route.cache, Some(Switch::On(_))));
        if config.cache.is_none() && !own {
            return None;
        }
        let known = self.store.lock().clone();
        Some(known.unwrap_or_else(|| Arc::new(Store::new(&config.cache_store, &self.metrics))))
    }

    /// The one in force.
    #[cfg(feature = "cache")]
    pub(crate) fn current_store(&self) -> Option<Arc<Store>> {
        self.store.lock().clone()
    }

    /// Puts a store in force, with its bounds; what an earlier one has goes with it.
    #[cfg(feature = "cache")]
    pub(crate) fn attach_store(&self, config: &Config, store: Option<&Arc<Store>>) {
        if let Some(store) = store {
            store.configure(&config.cache_store);
        }
        let gone = std::mem::replace(&mut *self.store.lock(), store.cloned());
        // Outside the lock.
        drop(gone);
    }

    /// The service of that name, with all that is known of it; a new one is not kept before
    /// [`attach`](Self::attach).
    pub(crate) fn service(&self, name: &str) -> Arc<Service> {
        let known = self.services.lock().get(name).cloned();
        known.unwrap_or_else(|| Arc::new(Service::new(name, &self.metrics, &self.clock)))
    }

    /// The shares of the route of that label; new ones are kept as services are.
    pub(crate) fn split(&self, label: &str) -> Arc<Split> {
        let known = self.splits.lock().get(label).cloned();
        known.unwrap_or_else(|| Arc::new(Split::new(label, &self.clock)))
    }

    /// Puts `config` in force for the services and splits of a snapshot. Those that are in it no
    /// more are let go, and end with the last request that holds them.
    pub(crate) fn attach(&self, config: &Config, services: &[Arc<Service>], splits: &[Arc<Split>]) {
        let is_on = |name: &str| config.upstreams.get(name).is_some_and(|one| one.enabled);
        for split in splits {
            // Routes without a split may have the same label.
            let mut routes = config.routes.iter().filter(|route| !route.split.is_empty());
            if let Some(route) = routes.find(|route| route.label() == split.name) {
                split.configure(route, is_on);
            }
        }
        let kept = splits.iter();
        let kept = kept.map(|split| (split.name.clone(), Arc::clone(split)));
        *self.splits.lock() = kept.collect();
        for service in services {
            if let Some(upstream) = config.upstreams.get(&service.name) {
                service.configure(config, upstream);
            }
        }
        let next = services.iter();
        let next = next.map(|service| (service.name.clone(), Arc::clone(service)));
        let gone = std::mem::replace(&mut *self.services.lock(), next.collect());
        // Outside the lock.
        drop(gone);
        self.changed();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
