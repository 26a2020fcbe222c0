//! The services behind the gateway: endpoints, who gets the next request, one attempt.

pub(crate) mod call;
pub(crate) mod forward;
pub(crate) mod pool;
pub(crate) mod upload;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use resilience_core::breaker::CircuitBreaker;

use crate::config::UpstreamConfig;
use crate::metrics::EndpointMetrics;
use crate::upstream::pool::Pool;

/// One address of an upstream.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) upstream: String,
    /// `host:port`.
    pub(crate) address: String,
    pub(crate) breaker: CircuitBreaker,
    pub(crate) pool: Arc<Pool>,
    pub(crate) metrics: EndpointMetrics,
    pub(super) in_flight: AtomicU64,
}

/// A service behind the gateway, as one snapshot sees it.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) name: String,
    pub(crate) settings: UpstreamConfig,
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    pub(super) next: AtomicUsize,
}

impl Upstream {
    /// All endpoints once, beginning with the one whose turn it is.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        // ORDERING: Relaxed; only the count matters.
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.endpoints.len();
        (0..count).map(move |step| &self.endpoints[(first % count + step) % count])
    }
}

impl Endpoint {
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a call until the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> InFlight {
        // ORDERING: Relaxed; a gauge that publishes nothing else.
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }
}

/// One call counted in flight.
#[derive(Debug)]
#[must_use]
pub(crate) struct InFlight(Arc<Endpoint>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
