//! The handle on a cluster.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering, mpsc::Receiver},
    time::Duration,
};

use resilience_core::{
    balance::Endpoint,
    breaker::{CircuitBreaker, Outcome, Subscription},
    retry::RetryBudget,
    route::Router,
};
use tokio::time::{Instant, timeout_at};

use super::{
    Builder, Checkout, Config, ConfigError, Disposition, Error, Event, Lease, Node, Snapshot,
    member::Member,
    search::{Got, Search},
    shared::Shared,
    stats::{NodeFigures, add},
};

/// The nodes of a replicated store, of which each call gets the right one; clones are handles on the
/// same.
///
/// The nodes are looked at until the last handle is dropped. Leases that are out then stay good.
pub struct Cluster<N: Node>(Arc<Owner<N>>);

/// Ends the looks when dropped.
struct Owner<N: Node>(Arc<Shared<N>>);

/// Calls were still in flight when the time for them was up.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{in_flight} calls were still in flight")]
#[non_exhaustive]
pub struct StillRunning {
    /// How many.
    pub in_flight: u64,
}

impl<N: Node> Cluster<N> {
    /// A cluster of these nodes, each with its name: pairs of both, or
    /// [`Endpoint`]s with weights and zones.
    pub fn builder(nodes: impl IntoIterator<Item = impl Into<Endpoint<N>>>) -> Builder<N> {
        Builder::new(nodes.into_iter().map(Into::into).collect())
    }

    pub(super) fn made(shared: Shared<N>, nodes: Vec<Endpoint<N>>) -> Result<Self, ConfigError> {
        let shared = Arc::new(shared);
        shared.set_nodes(nodes)?;
        Ok(Self(Arc::new(Owner(shared))))
    }

    /// A connection to the node that is right for a call.
    ///
    /// # Errors
    ///
    /// [`Error`]; never [`OutcomeUnknown`](Error::OutcomeUnknown).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives back all that it holds. Looks that it asked for are made, for others.
    pub async fn lease(
        &self,
        checkout: &Checkout<N::Position>,
    ) -> Result<Lease<N>, Error<N::Error>> {
        Search::new(self.shared(), checkout).lease().await
    }

    /// Runs a call on the node that is right for it, and once more elsewhere where that is safe.
    ///
    /// How it ended is told by its result, through [`Node::failure`]:
    ///
    /// | the failure | a read | a write | one that may run twice |
    /// |---|---|---|---|
    /// | did not run | elsewhere | where the primary is by then | likewise |
    /// | was sent, without an answer | elsewhere | [`OutcomeUnknown`](Error::OutcomeUnknown) | likewise |
    /// | is about the call | [`Inner`](Error::Inner) | `Inner` | `Inner` |
    ///
    /// It is the call that is run again, so its failure must be true of all that it did. What failed
    /// before it ran is safe only if nothing before it in the call had an effect: several writes are
    /// one transaction, or the call ends after the first. What comes after an effect (another write, a
    /// wait for replicas, a second answer) reports a failure that [`Node::failure`] calls `Lost` or
    /// `Failed`. [`Lease::commit_token`] does.
    ///
    /// A deadline that ends the call says nothing about the node. A lease that is kept longer than the
    /// future of the call counts as in flight no more.
    ///
    /// # Errors
    ///
    /// [`Error`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops that of the call, and gives back all that both hold. Whether a write
    /// ran is then unknown.
    pub async fn run<T, F, R>(
        &self,
        checkout: &Checkout<N::Position>,
        call: F,
    ) -> Result<T, Error<N::Error>>
    where
        F: FnMut(Lease<N>) -> R,
        R: Future<Output = Result<T, N::Error>>,
    {
        let mut search = Search::new(self.shared(), checkout);
        let result = self.attempts(&mut search, checkout, call).await;
        result.map_err(|error| search.ended(error))
    }

    async fn attempts<T, F, R>(
        &self,
        search: &mut Search<'_, N>,
        checkout: &Checkout<N::Position>,
        mut call: F,
    ) -> Result<T, Error<N::Error>>
    where
        F: FnMut(Lease<N>) -> R,
        R: Future<Output = Result<T, N::Error>>,
    {
        let shared = self.shared();
        loop {
            let (lease, guard) = search.lease().await?.split();
            // A lease that was found has one.
            let Some(guard) = guard else {
                return Err(Error::Deadline);
            };
            let (id, member) = (guard.id(), Arc::clone(guard.member()));
            let node = || Arc::clone(&member.name);
            let called = call(lease);
            let result = match search.until() {
                None => called.await,
                Some(until) => match timeout_at(until, called).await {
                    Ok(result) => result,
                    Err(_) if checkout.intent.writes() => {
                        add(&shared.counts.unknown);
                        let (node, source) = (node(), None);
                        return Err(Error::OutcomeUnknown { node, source });
                    }
                    Err(_) => return Err(Error::Deadline),
                },
            };
            let error = match result {
                Ok(value) => {
                    guard.end(Outcome::Success);
                    return Ok(value);
                }
                Err(error) => error,
            };
            let failure = member.node.failure(&error);
            search.goes_on(guard.fail(failure));
            match failure.disposition(checkout.intent, checkout.idempotent) {
                Disposition::RetryElsewhere => {
                    let (node, got) = (node(), Got::Connection);
                    search
                        .elsewhere(id, node, failure, Some(error), got)
                        .await?;
                }
                Disposition::Ambiguous => {
                    add(&shared.counts.unknown);
                    let (node, source) = (node(), Some(error));
                    return Err(Error::OutcomeUnknown { node, source });
                }
                _ => return Err(Error::Inner(error)),
            }
        }
    }

    /// Takes no more calls, for good, and waits for those that run, but not longer than `within`.
    /// Writes that wait for a primary are refused. The nodes are looked at on.
    ///
    /// # Errors
    ///
    /// [`StillRunning`]: so many were left then. They run on.
    ///
    /// # Cancel safety
    ///
    /// Calls are refused from the first poll on, also when the future is dropped.
    pub async fn drain(&self, within: Duration) -> Result<(), StillRunning> {
        let shared = self.shared();
        shared.drain();
        let until = Instant::now().checked_add(within);
        loop {
            let mut idle = std::pin::pin!(shared.idle.notified());
            idle.as_mut().enable();
            let in_flight = shared.calls.load(Ordering::SeqCst);
            if in_flight == 0 {
                return Ok(());
            }
            let over = match until {
                Some(until) => timeout_at(until, idle).await.is_err(),
                None => {
                    idle.await;
                    false
                }
            };
            if over {
                let in_flight = shared.calls.load(Ordering::SeqCst);
                return match in_flight {
                    0 => Ok(()),
                    _ => Err(StillRunning { in_flight }),
                };
            }
        }
    }

    /// Replaces the nodes. Those that are known by name keep what is known of them, their breaker
    /// included; all are looked at anew.
    ///
    /// While a node that is new has not been looked at (for `observe_timeout` at most), nobody knows
    /// whether it is the primary: writes wait in line, and subscribers hear of no primary.
    ///
    /// # Errors
    ///
    /// More than 32 nodes, a name that comes twice, a weight above 1000; nothing is changed then.
    pub fn set_nodes(
        &self,
        nodes: impl IntoIterator<Item = impl Into<Endpoint<N>>>,
    ) -> Result<(), ConfigError> {
        let nodes = nodes.into_iter().map(Into::into).collect();
        self.shared().set_nodes(nodes)
    }

    /// Gives a node no new calls, or calls again; whether it is there. A primary that drains takes no
    /// writes, and nobody does.
    pub fn set_draining(&self, node: &str, draining: bool) -> bool {
        let known = self.shared().router.set_draining(node, draining);
        self.shared().noticed();
        known
    }

    /// Changes the settings, for all handles at once; see
    /// [`Router::set_config`].
    pub fn set_config(&self, config: Config) {
        self.shared().router.set_config(config);
        // The looks go on by the new interval.
        self.shared().hurry();
    }

    /// The settings in force.
    pub fn config(&self) -> Config {
        self.shared().router.config()
    }

    /// The nodes as the strategy sees them, for its settings and events. Its set of endpoints is that
    /// of [`set_nodes`](Self::set_nodes); do not change it here.
    pub fn router(&self) -> &Router<N::Position, impl Send + Sync + use<N>> {
        &self.shared().router
    }

    /// Calls `callback` for every event until the subscription is dropped; see
    /// [`Router::subscribe`].
    pub fn subscribe(&self, callback: impl Fn(&Event) + Send + Sync + 'static) -> Subscription {
        self.shared().router.subscribe(callback)
    }

    /// Events through a channel of so many places (1 at least); see [`Router::subscribe_channel`].
    pub fn subscribe_channel(&self, capacity: usize) -> (Subscription, Receiver<Event>) {
        self.shared().router.subscribe_channel(capacity)
    }

    /// The circuit breaker of a node, to watch it or to set its mode; `None` if there is no node of
    /// that name.
    pub fn breaker(&self, node: &str) -> Option<CircuitBreaker> {
        self.shared().breaker_of(node)
    }

    /// The budget of the retries.
    pub fn retry_budget(&self) -> &RetryBudget {
        &self.shared().budget
    }

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + Send + Sync + use<N> {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map(Self)
    }

    /// The figures of now.
    pub fn snapshot(&self) -> Snapshot<N::Position> {
        let shared = self.shared();
        let figures = |member: &Arc<Member<N>>| {
            let (looks, looks_failed) = member.looks.counts();
            NodeFigures {
                name: Arc::clone(&member.name),
                breaker: member.breaker.snapshot(),
                looks,
                looks_failed,
            }
        };
        let nodes = shared.members().iter().map(figures).collect();
        let in_flight = shared.calls.load(Ordering::Relaxed);
        let waiting_writes = shared.buffer.waiting();
        let (route, balance) = (
            shared.router.snapshot(),
            shared.router.balancer().snapshot(),
        );
        shared
            .counts
            .snapshot(route, balance, nodes, in_flight, waiting_writes)
    }

    pub(super) fn shared(&self) -> &Arc<Shared<N>> {
        &self.0.0
    }
}

impl<N: Node> Drop for Owner<N> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl<N: Node> Clone for Cluster<N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<N: Node> fmt::Debug for Cluster<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("router", &self.shared().router)
            .finish_non_exhaustive()
    }
}
