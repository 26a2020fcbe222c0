//! What counts and must outlive a configuration: breakers, pools, requests in flight, buckets.
//! Keyed by upstream and address, so that a later snapshot finds its state again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use resilience_core::breaker::CircuitBreaker;
use resilience_core::clock::SharedClock;

use crate::config::{Config, UpstreamConfig};
use crate::metrics::Metrics;
use crate::policy::rate_limit::{self, ClientLimiter};
use crate::upstream::pool::{Pool, Settings};
use crate::upstream::{Endpoint, Upstream};

/// State that all snapshots of one gateway share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: SharedClock,
    pub(crate) metrics: Metrics,
    /// Set when the gateway begins to stop.
    draining: AtomicBool,
    endpoints: Mutex<HashMap<(String, String), Arc<Endpoint>>>,
    limiter: Mutex<Option<ClientLimiter>>,
}

impl Shared {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self {
            clock,
            metrics: Metrics::new(),
            draining: AtomicBool::new(false),
            endpoints: Mutex::new(HashMap::new()),
            limiter: Mutex::new(None),
        }
    }

    pub(crate) fn drain(&self) {
        // ORDERING: Release and Acquire, though the flag stands alone: it is no hot path.
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// The limiter of the client addresses; the buckets stay while there is one.
    pub(crate) fn limiter(&self, config: &Config) -> Result<Option<ClientLimiter>, crate::Error> {
        let mut slot = self.limiter.lock();
        let Some(settings) = &config.rate_limit else {
            *slot = None;
            return Ok(None);
        };
        if slot.is_none() {
            let limiter = rate_limit::limiter(settings, &self.clock)
                .map_err(|error| crate::Error::Settings(error.to_string()))?;
            *slot = Some(limiter);
        }
        Ok(slot.clone())
    }

    /// Attaches an upstream to the state its addresses have already, or makes it.
    pub(crate) fn upstream(&self, name: &str, config: &UpstreamConfig) -> Upstream {
        let endpoints = config
            .endpoints
            .iter()
            .map(|url| self.endpoint(name, url.authority(), config))
            .collect();
        Upstream {
            name: name.to_owned(),
            settings: config.clone(),
            endpoints,
            next: AtomicUsize::new(0),
        }
    }

    fn endpoint(&self, upstream: &str, address: &str, config: &UpstreamConfig) -> Arc<Endpoint> {
        let key = (upstream.to_owned(), address.to_owned());
        let mut endpoints = self.endpoints.lock();
        let endpoint = endpoints
            .entry(key)
            .or_insert_with(|| Arc::new(self.new_endpoint(upstream, address, config)));
        Arc::clone(endpoint)
    }

    fn new_endpoint(&self, upstream: &str, address: &str, config: &UpstreamConfig) -> Endpoint {
        let name = format!("{upstream}/{address}");
        let breaker = CircuitBreaker::with_clock(&name, config.breaker.clone(), self.clock.clone());
        let settings = Settings {
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            max_idle: config.max_idle,
        };
        Endpoint {
            upstream: upstream.to_owned(),
            address: address.to_owned(),
            metrics: self.metrics.endpoint(upstream, address, &breaker),
            breaker,
            pool: Arc::new(Pool::new(address.to_owned(), settings, self.clock.clone())),
            in_flight: AtomicU64::new(0),
        }
    }
}
