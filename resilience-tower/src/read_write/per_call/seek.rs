//! One call on its way: the node that it is given, at once or after a search.

use std::{pin::Pin, time::Duration};

use resilience_core::{balance::EndpointId, breaker::Rejected, route::Step};
use tokio::time::Instant;

use super::Endpoint;
use crate::read_write::{
    Checkout, Cluster, Disposition, Error, Failure, Refusal, Why,
    lease::{Guard, Place},
    search::{Next, Search},
    shared::Running,
    stats::add,
};

/// What a call keeps between its attempts.
pub(super) struct Seek<N: Endpoint> {
    pub(super) cluster: Cluster<N>,
    pub(super) checkout: Checkout<N::Position>,
    pub(super) attempts: u32,
    /// Those that count against attempts and budget.
    paid: u32,
    arrived: Duration,
    until: Option<Instant>,
    tried: Vec<EndpointId>,
    /// That of the call, while no guard and no search has it.
    running: Option<Running<N>>,
}

/// A node for an attempt.
pub(super) type Found<N> = (Guard<N>, Place);

/// Where a search begins.
pub(super) enum Start<N: Endpoint> {
    Anew,
    /// The router was asked.
    Asked(Next<N>),
    /// This node is looked at first.
    Looked(EndpointId),
    /// The breaker of the node refused the call.
    Rejected(Rejected),
}

/// A search that goes on while the task sleeps.
pub(super) type Seeking<N> =
    Pin<Box<dyn Future<Output = (Seek<N>, Result<Found<N>, Refusal>)> + Send>>;

impl<N: Endpoint> Seek<N> {
    pub(super) fn new(cluster: Cluster<N>, checkout: Checkout<N::Position>) -> Self {
        let shared = cluster.shared();
        shared.budget.deposit();
        let left = checkout.deadline;
        Self {
            arrived: shared.router.now(),
            until: left.and_then(|left| Instant::now().checked_add(left)),
            cluster,
            checkout,
            attempts: 1,
            paid: 1,
            tried: Vec::new(),
            running: None,
        }
    }

    pub(super) const fn until(&self) -> Option<Instant> {
        self.until
    }

    /// A node, if the router knows one without a search; else where the search begins.
    pub(super) fn at_once(&mut self) -> Result<Found<N>, Start<N>> {
        let shared = self.cluster.shared();
        let checkout = &self.checkout;
        if checkout.preferred.is_some() || (checkout.intent.writes() && shared.buffer.is_open()) {
            return Err(Start::Anew);
        }
        // From here to the end of the call, also between its attempts.
        let running = Running::begin(shared);
        let request = checkout.request(self.arrived, &self.tried, None);
        let route = match shared.router.route(&request) {
            Ok(Step::Go(route)) => route,
            asked => {
                self.running = Some(running);
                return Err(Start::Asked(asked));
            }
        };
        let place = Place::of(&route, checkout.intent, checkout.idempotent);
        match route.value().breaker.try_acquire_owned() {
            Ok(permit) => Ok((Guard::new(route, permit, running), place)),
            Err(rejected) => {
                add(&shared.counts.rejected);
                let id = route.id();
                route.into_pick().pass_over();
                self.tried.push(id);
                self.running = Some(running);
                Err(Start::Rejected(rejected))
            }
        }
    }

    /// A node, after whatever must be waited for.
    pub(super) fn later(mut self, start: Start<N>) -> Seeking<N> {
        Box::pin(async move {
            let found = self.search(start).await;
            (self, found.map_err(refused))
        })
    }

    async fn search(&mut self, start: Start<N>) -> Result<Found<N>, Error<N::Error>> {
        let (asked, looked, rejected) = match start {
            Start::Anew => (None, None, None),
            Start::Asked(asked) => (Some(asked), None, None),
            Start::Looked(id) => (None, Some(id), None),
            Start::Rejected(rejected) if self.checkout.needs_primary() => {
                return Err(Error::Breaker(rejected));
            }
            Start::Rejected(rejected) => (None, None, Some(rejected)),
        };
        let mut search = Search::resumed(
            self.cluster.shared(),
            &self.checkout,
            self.arrived,
            self.until,
            std::mem::take(&mut self.tried),
            rejected,
            self.running.take(),
        );
        if let Some(id) = looked {
            search.look_at(id).await?;
        }
        let found = search.guard(asked).await;
        self.tried = search.into_tried();
        found
    }

    /// Where the search for another attempt begins, after one that failed on a node.
    pub(super) fn go_on(
        &mut self,
        id: EndpointId,
        failure: Failure,
        running: Running<N>,
    ) -> Option<Start<N>> {
        let shared = self.cluster.shared();
        // A read that was not sent costs nobody anything, and is sent nowhere twice.
        if self.checkout.needs_primary() || failure != Failure::NotSent {
            if self.paid >= shared.max_attempts {
                return None;
            }
            if shared.budget.try_withdraw().is_err() {
                add(&shared.counts.budget_spent);
                return None;
            }
            self.paid += 1;
        }
        self.attempts += 1;
        self.running = Some(running);
        add(&shared.counts.retries);
        if self.checkout.needs_primary() {
            // Who is the primary by now, the node itself tells best.
            return Some(Start::Looked(id));
        }
        self.tried.push(id);
        Some(Start::Anew)
    }

    pub(super) const fn disposition(&self, failure: Failure) -> Disposition {
        let checkout = &self.checkout;
        failure.disposition(checkout.intent, checkout.idempotent)
    }

    pub(super) const fn writes(&self) -> bool {
        self.checkout.intent.writes()
    }

    pub(super) fn cluster_id(&self) -> u64 {
        // A node was found, so one has answered.
        self.cluster.shared().router.cluster().unwrap_or_default()
    }

    /// Whether a node will do still, after a wait for it.
    pub(super) fn is_current(&self, place: Place) -> bool {
        let shared = self.cluster.shared();
        let on_primary = !matches!(place.why(), Why::Fresh | Why::LastResort);
        let fresh = on_primary || !self.checkout.ages() || {
            let request = self.checkout.request(self.arrived, &self.tried, None);
            shared.router.is_fresh(place.node(), &request)
        };
        fresh && place.is_current(shared)
    }

    /// The node was fenced, ejected, drained or too old before it was called. The router knows: this
    /// ends.
    pub(super) fn elsewhere(mut self, id: EndpointId, running: Running<N>) -> Seeking<N> {
        self.running = Some(running);
        add(&self.cluster.shared().counts.outdated);
        if !self.checkout.needs_primary() {
            self.tried.push(id);
        }
        self.later(Start::Anew)
    }

    /// A write was sent, and nobody knows whether it ran.
    pub(super) fn unknown(&self) {
        add(&self.cluster.shared().counts.unknown);
    }
}

/// A search connects to nobody, so that no error of a node is within.
fn refused<E>(error: Error<E>) -> Refusal {
    error.refusal().unwrap_or(Refusal::Deadline)
}

/// As the error of a service.
pub(super) fn as_error<E>(refusal: Refusal) -> Error<E> {
    match refusal {
        Refusal::NoRoute(no_route) => Error::NoRoute(no_route),
        Refusal::Breaker(rejected) => Error::Breaker(rejected),
        Refusal::BufferFull { retry_after } => Error::BufferFull { retry_after },
        Refusal::Unreachable { node, failure } => Error::Unreachable {
            node,
            failure,
            source: None,
        },
        Refusal::Deadline => Error::Deadline,
        Refusal::OutcomeUnknown { node } => Error::OutcomeUnknown { node, source: None },
    }
}
