//! What a cluster counts, beside what its router does.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use resilience_core::{balance, breaker, route};

/// The figures of a cluster at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot<P> {
    /// What is known of the nodes, and where calls went and why.
    pub route: route::Snapshot<P>,
    /// Calls in flight, latencies and ejections of the nodes.
    pub balance: balance::Snapshot,
    /// Breakers of the nodes, and looks at them, in the order in which the nodes were told.
    pub nodes: Vec<NodeFigures>,
    /// Calls, from the search for their node to the end of their lease.
    pub in_flight: u64,
    /// Writes that wait for a primary.
    pub waiting_writes: usize,
    /// Writes that waited for one.
    pub buffered: u64,
    /// Writes that were refused, as too many wait.
    pub buffer_full: u64,
    /// Nodes that were passed over, or refused to a call, by their breaker.
    pub rejected: u64,
    /// Connections that were given back, as their node was fenced, ejected or drained meanwhile.
    pub outdated: u64,
    /// Further attempts.
    pub retries: u64,
    /// Further attempts that the budget refused.
    pub budget_spent: u64,
    /// Writes of which nobody knows whether they ran.
    pub outcome_unknown: u64,
}

/// The breaker of a node, and the looks at it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeFigures {
    /// Its name.
    pub name: Arc<str>,
    /// Its breaker.
    pub breaker: breaker::Snapshot,
    /// Looks that began.
    pub looks: u64,
    /// Looks without an answer.
    pub looks_failed: u64,
}

/// Counters that calls share.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) buffered: AtomicU64,
    pub(super) buffer_full: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) outdated: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) budget_spent: AtomicU64,
    pub(super) unknown: AtomicU64,
}

// ORDERING: Relaxed throughout. Statistics.
pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counts {
    pub(super) fn snapshot<P>(
        &self,
        route: route::Snapshot<P>,
        balance: balance::Snapshot,
        nodes: Vec<NodeFigures>,
        in_flight: u64,
        waiting_writes: usize,
    ) -> Snapshot<P> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            route,
            balance,
            nodes,
            in_flight,
            waiting_writes,
            buffered: read(&self.buffered),
            buffer_full: read(&self.buffer_full),
            rejected: read(&self.rejected),
            outdated: read(&self.outdated),
            retries: read(&self.retries),
            budget_spent: read(&self.budget_spent),
            outcome_unknown: read(&self.unknown),
        }
    }
}
