//! What handles, leases and tasks share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use resilience_core::{
    balance::Endpoint,
    breaker::{self, CircuitBreaker},
    clock::SharedClock,
    retry::RetryBudget,
    route::Router,
};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    task::AbortHandle,
};

use super::{ConfigError, Node, buffer::Buffer, member::Member, poll::poll, stats::Counts};

/// A cluster, without what ends the looks.
pub(super) struct Shared<N: Node> {
    pub(super) router: Router<N::Position, Arc<Member<N>>>,
    pub(super) members: Mutex<Vec<Watched<N>>>,
    /// Changes at the end of each look.
    pub(super) changes: watch::Sender<()>,
    pub(super) buffer: Buffer,
    pub(super) budget: RetryBudget,
    pub(super) counts: Counts,
    pub(super) connect_timeout: Duration,
    pub(super) write_wait: Duration,
    pub(super) read_wait: Duration,
    pub(super) max_attempts: u32,
    pub(super) observe_timeout: Option<Duration>,
    pub(super) breaker: breaker::Config,
    pub(super) clock: SharedClock,
    pub(super) runtime: Handle,
    pub(super) calls: AtomicU64,
    pub(super) draining: AtomicBool,
    pub(super) idle: Notify,
}

/// A node, and the task that looks at it.
pub(super) struct Watched<N> {
    pub(super) member: Arc<Member<N>>,
    task: AbortHandle,
}

impl<N: Node> Shared<N> {
    pub(super) fn set_nodes(self: &Arc<Self>, nodes: Vec<Endpoint<N>>) -> Result<(), ConfigError> {
        let mut made = Vec::with_capacity(nodes.len());
        let endpoints = nodes.into_iter().map(|endpoint| {
            let name = Arc::clone(endpoint.name());
            let breaker = self.breaker_of(&name);
            let breaker = breaker.unwrap_or_else(|| self.new_breaker(&name));
            endpoint.map(|node| {
                let (member, ended) = Member::new(name, node, breaker);
                made.push((Arc::clone(&member), ended));
                member
            })
        });
        let endpoints: Vec<_> = endpoints.collect();
        let mut before = Vec::new();
        // Those that are watched are those that the router has, whoever else sets nodes now; and
        // what subscribers do, or an adapter when it is dropped, is done outside the locks.
        self.router.set_nodes_with(endpoints, || {
            let mut members = self.members.lock();
            members.iter().for_each(|watched| watched.task.abort());
            let watched = made.drain(..).map(|(member, ended)| {
                let task = poll(Arc::clone(self), Arc::clone(&member), ended);
                let task = self.runtime.spawn(task).abort_handle();
                Watched { member, task }
            });
            before = std::mem::replace(&mut *members, watched.collect());
        })?;
        drop(before);
        self.noticed();
        Ok(())
    }

    /// The nodes, to be asked outside the lock.
    pub(super) fn members(&self) -> Vec<Arc<Member<N>>> {
        let members = self.members.lock();
        let members = members.iter().map(|watched| Arc::clone(&watched.member));
        members.collect()
    }

    /// The circuit breaker of a node, if there is one of that name.
    pub(super) fn breaker_of(&self, node: &str) -> Option<CircuitBreaker> {
        let members = self.members.lock();
        let mut members = members.iter().map(|watched| &watched.member);
        let member = members.find(|member| &*member.name == node)?;
        Some(member.breaker.clone())
    }

    fn new_breaker(&self, name: &str) -> CircuitBreaker {
        CircuitBreaker::with_clock(name, self.breaker.clone(), self.clock.clone())
    }

    /// A look has ended, or the nodes are others.
    pub(super) fn noticed(&self) {
        self.changes.send_replace(());
        if self.router.writable().is_ok() {
            self.buffer.wake();
        }
    }

    /// No node is looked at any more.
    pub(super) fn stop(&self) {
        let members = self.members.lock();
        members.iter().for_each(|watched| watched.task.abort());
    }

    /// A call is refused from now on; whether one runs is for [`Running`] to tell.
    pub(super) fn drain(&self) {
        self.router.drain();
        // ORDERING: SeqCst, as in `Running::begin`. Either that sees this, and with it what was
        // stored before it, or the call is counted by who reads `calls` after this.
        self.draining.store(true, Ordering::SeqCst);
        self.changes.send_replace(());
        self.buffer.wake();
    }

    /// All nodes are looked at at once.
    pub(super) fn hurry(&self) {
        let members = self.members.lock();
        for watched in &*members {
            watched.member.looks.hurry();
        }
    }

    /// All nodes are looked at at once that were not since `at`.
    pub(super) fn hurry_since(&self, at: Duration) {
        let members = self.members.lock();
        for watched in &*members {
            watched.member.looks.hurry_since(at);
        }
    }

    /// Each node was looked at.
    pub(super) fn has_begun(&self) -> bool {
        let members = self.members.lock();
        let mut looks = members.iter().map(|watched| &watched.member.looks);
        looks.all(|looks| looks.first().is_over())
    }

    /// How long a look may take: a quarter of the time for which it counts, unless said otherwise.
    pub(super) fn observe_timeout(&self) -> Duration {
        let config = self.router.config();
        let longest = config.observation_ttl();
        self.observe_timeout
            .map_or(longest / 4, |timeout| timeout.min(longest))
    }
}

/// A call, from the search for its node on.
pub(super) struct Running<N: Node>(Arc<Shared<N>>);

impl<N: Node> Running<N> {
    pub(super) fn begin(shared: &Arc<Shared<N>>) -> Self {
        // ORDERING: SeqCst, as in `drain`.
        shared.calls.fetch_add(1, Ordering::SeqCst);
        // Read for its order alone: the router refuses.
        let _ = shared.draining.load(Ordering::SeqCst);
        Self(Arc::clone(shared))
    }

    pub(super) const fn shared(&self) -> &Arc<Shared<N>> {
        &self.0
    }
}

impl<N: Node> Drop for Running<N> {
    fn drop(&mut self) {
        let last = self.0.calls.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.0.draining.load(Ordering::SeqCst) {
            self.0.idle.notify_waiters();
        }
    }
}
