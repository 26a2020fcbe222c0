//! The cluster on the page of metrics.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use ::metrics::gauge;
use resilience_core::{clock::Clock, route::Role};
use resilience_tower::read_write::{Cluster, postgres::Node};

use crate::metrics::Metrics;

/// Shows the nodes of `cluster`, each with so many connections to read, from now on. The names of
/// nodes come from the settings.
pub(super) fn show(cluster: &Cluster<Node>, pool_size: u32, metrics: &Metrics) {
    let cluster = cluster.downgrade();
    metrics.watch(move || {
        let Some(cluster) = cluster() else { return };
        let now = cluster.snapshot();
        gauge!("pool_size").set(pool_size);
        for node in &now.route.nodes {
            let name = node.name.to_string();
            let lag = match node.role {
                Some(Role::Primary) if !node.fenced => Some(Duration::ZERO),
                _ => node.lag,
            };
            // Nobody can tell: that is as bad as any lag.
            let lag = lag.map_or(f64::INFINITY, |lag| lag.as_secs_f64());
            gauge!("replica_lag_seconds", "node" => name.clone()).set(lag);
            gauge!("store_node_up", "node" => name).set(u8::from(node.up));
        }
        for endpoint in &now.balance.endpoints {
            gauge!("pool_in_use", "node" => endpoint.name.to_string()).set(endpoint.in_flight);
        }
    });
}

/// A call that waits for its first connection.
#[derive(Debug)]
pub(super) struct Wait<'a> {
    metrics: &'a Metrics,
    intent: &'static str,
    since: Duration,
    over: AtomicBool,
}

impl<'a> Wait<'a> {
    pub(super) fn begin(metrics: &'a Metrics, intent: &'static str) -> Self {
        Self {
            metrics,
            intent,
            since: metrics.clock().now(),
            over: AtomicBool::new(false),
        }
    }

    /// It has one. Only the first counts.
    pub(super) fn ended(&self) {
        // ORDERING: Relaxed. Attempts of one call follow each other.
        if !self.over.swap(true, Ordering::Relaxed) {
            let time = self.metrics.clock().now().saturating_sub(self.since);
            self.metrics.pool_waited(self.intent, time);
        }
    }
}
