//! A handle on a running gateway, for a status page, an admin API or a test.

use std::sync::Arc;

use resilience_core::breaker::{self, CircuitBreaker};

use crate::server::Inner;

/// Reads a running gateway; clones are cheap and outlive it.
#[derive(Clone, Debug)]
pub struct Handle {
    inner: Arc<Inner>,
}

/// One address of an upstream, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointState {
    /// The upstream's name.
    pub upstream: String,
    /// `host:port`.
    pub address: String,
    /// Its circuit breaker.
    pub breaker: breaker::Snapshot,
    /// Requests sent whose answers have not ended.
    pub in_flight: u64,
    /// Idle connections kept.
    pub idle_connections: usize,
}

impl Handle {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// The breaker of the endpoint at `index` (in the order of the configuration) of `upstream`.
    pub fn breaker(&self, upstream: &str, index: usize) -> Option<CircuitBreaker> {
        let snapshot = self.inner.snapshot.load();
        let endpoints = &snapshot.upstreams.get(upstream)?.endpoints;
        endpoints
            .get(index)
            .map(|endpoint| endpoint.breaker.clone())
    }

    /// All breakers, by upstream and endpoint; their names are `upstream/host:port`.
    pub fn breakers(&self) -> Vec<CircuitBreaker> {
        let snapshot = self.inner.snapshot.load();
        let upstreams = snapshot.upstreams.values();
        upstreams
            .flat_map(|upstream| &upstream.endpoints)
            .map(|endpoint| endpoint.breaker.clone())
            .collect()
    }

    /// All endpoints as they are now.
    pub fn endpoints(&self) -> Vec<EndpointState> {
        let snapshot = self.inner.snapshot.load();
        let upstreams = snapshot.upstreams.values();
        upstreams
            .flat_map(|upstream| &upstream.endpoints)
            .map(|endpoint| EndpointState {
                upstream: endpoint.upstream.clone(),
                address: endpoint.address.clone(),
                breaker: endpoint.breaker.snapshot(),
                in_flight: endpoint.in_flight(),
                idle_connections: endpoint.pool.idle(),
            })
            .collect()
    }

    /// The metrics as `/metrics` shows them.
    pub fn metrics(&self) -> String {
        self.inner.render_metrics()
    }

    /// Whether the gateway has begun to stop.
    pub fn is_stopping(&self) -> bool {
        self.inner.shared.is_draining()
    }
}
