//! A connection to the node that a call was given.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use resilience_core::{
    balance::EndpointId,
    breaker::{Outcome, OwnedPermit},
    route::Route,
};

use super::{
    Disposition, Failure, Intent, Node, Token, Why,
    member::Member,
    shared::{Running, Shared},
};

/// A connection to a node, for one call or one transaction; it counts as in flight there until this
/// is dropped.
///
/// Say how it ended by [`succeeded`](Self::succeeded) or [`failed`](Self::failed), which the balancer
/// and the breaker of the node learn. Dropped without, it was given up, and says nothing about the
/// node; in a panic it is a failure.
///
/// In a call of [`Cluster::run`](super::Cluster::run) it is the result of the call that says how it
/// ended, and nothing else.
#[must_use = "dropping the lease ends the call"]
pub struct Lease<N: Node> {
    // Given back before the node counts as free.
    connection: N::Connection,
    guard: Option<Guard<N>>,
    member: Arc<Member<N>>,
    shared: Arc<Shared<N>>,
    at: Place,
}

/// Where a lease is, and why.
#[derive(Clone, Copy)]
pub(super) struct Place {
    node: EndpointId,
    incarnation: u64,
    why: Why,
    pub(super) intent: Intent,
    pub(super) idempotent: bool,
}

/// What a call holds of its node.
pub(super) struct Guard<N: Node> {
    route: Route<Arc<Member<N>>>,
    permit: OwnedPermit,
    running: Running<N>,
}

impl<N: Node> Lease<N> {
    pub(super) fn new(connection: N::Connection, guard: Guard<N>, at: Place) -> Self {
        Self {
            connection,
            member: Arc::clone(guard.member()),
            shared: Arc::clone(guard.running.shared()),
            guard: Some(guard),
            at,
        }
    }

    /// The name of the node.
    pub fn node(&self) -> &str {
        &self.member.name
    }

    /// Why it is this node.
    pub const fn why(&self) -> Why {
        self.at.why
    }

    /// Whether the node is still what it was when the lease was given: the same run of it, up, of the
    /// newest epoch, not draining, and the primary for a call that needs it. A lease that is no longer
    /// so should end soon; a transaction on it may fail, and a write on it may be lost.
    pub fn is_current(&self) -> bool {
        self.at.is_current(&self.shared)
    }

    /// The token of the last commit on this connection, for reads that must see it.
    ///
    /// # Errors
    ///
    /// The node did not answer. The commit holds: do not run the call again for want of its token.
    ///
    /// # Cancel safety
    ///
    /// As that of the adapter.
    pub async fn commit_token(&mut self) -> Result<Token<N::Position>, N::Error> {
        let node = &self.member.node;
        let (epoch, position) = node.position(&mut self.connection).await?;
        Ok(Token {
            // A lease was given, so a node has answered.
            cluster: self.shared.router.cluster().unwrap_or_default(),
            epoch,
            position,
        })
    }

    /// The call succeeded.
    pub fn succeeded(self) {
        let Self {
            connection, guard, ..
        } = self;
        drop(connection);
        if let Some(guard) = guard {
            guard.end(Outcome::Success);
        }
    }

    /// The call failed; what to do about it.
    ///
    /// | the failure | the balancer and the breaker learn | the cluster is looked at |
    /// |---|---|---|
    /// | `NotSent`, `Refused`, `Lost` | a failure | at once |
    /// | `Misrouted` | nothing | at once |
    /// | `Failed` | a success: the node answered | no |
    pub fn failed(self, error: &N::Error) -> Disposition {
        let failure = self.member.node.failure(error);
        let Self {
            connection,
            guard,
            shared,
            at,
            ..
        } = self;
        drop(connection);
        if let Some(guard) = guard {
            drop(guard.fail(failure));
        } else if failure.re_observe() {
            shared.hurry();
        }
        failure.disposition(at.intent, at.idempotent)
    }

    /// The lease without what it holds of the node, and that.
    pub(super) fn split(mut self) -> (Self, Option<Guard<N>>) {
        let guard = self.guard.take();
        (self, guard)
    }
}

impl Place {
    pub(super) fn of<T>(route: &Route<T>, intent: Intent, idempotent: bool) -> Self {
        Self {
            node: route.id(),
            incarnation: route.incarnation(),
            why: route.why(),
            intent,
            idempotent,
        }
    }

    pub(super) const fn node(&self) -> EndpointId {
        self.node
    }

    pub(super) const fn why(&self) -> Why {
        self.why
    }

    pub(super) const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub(super) fn is_current<N: Node>(&self, shared: &Shared<N>) -> bool {
        let router = &shared.router;
        router.is_current(self.node, self.incarnation, self.why)
    }
}

impl<N: Node> Guard<N> {
    pub(super) fn new(
        route: Route<Arc<Member<N>>>,
        permit: OwnedPermit,
        running: Running<N>,
    ) -> Self {
        Self {
            route,
            permit,
            running,
        }
    }

    pub(super) fn member(&self) -> &Arc<Member<N>> {
        self.route.value()
    }

    pub(super) fn id(&self) -> EndpointId {
        self.route.id()
    }

    pub(super) fn end(self, outcome: Outcome) {
        drop(self.record(outcome));
    }

    /// The attempt failed; the cluster is looked at if it may not be what it was. The call goes on
    /// with what is given back, or ends.
    pub(super) fn fail(self, failure: Failure) -> Running<N> {
        if failure.re_observe() {
            self.running.shared().hurry();
        }
        self.record(match failure {
            Failure::Failed => Outcome::Success,
            Failure::Misrouted => Outcome::Ignored,
            _ => Outcome::Failure,
        })
    }

    /// The call is not made: nothing is told of the node.
    pub(super) fn pass_over(self) -> Running<N> {
        self.permit.ignore();
        self.route.into_pick().pass_over();
        self.running
    }

    fn record(self, outcome: Outcome) -> Running<N> {
        self.permit.record(outcome);
        self.route.end(outcome);
        self.running
    }
}

impl<N: Node> Deref for Lease<N> {
    type Target = N::Connection;

    fn deref(&self) -> &N::Connection {
        &self.connection
    }
}

impl<N: Node> DerefMut for Lease<N> {
    fn deref_mut(&mut self) -> &mut N::Connection {
        &mut self.connection
    }
}

impl<N: Node> fmt::Debug for Lease<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("node", &self.node())
            .field("why", &self.why())
            .finish_non_exhaustive()
    }
}
