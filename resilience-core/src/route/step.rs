//! What a caller does next.

use std::{fmt, time::Duration};

use super::stats::Why;
use crate::{
    balance::{EndpointId, Pick},
    breaker::Outcome,
};

/// What a caller does next. After all but [`Go`](Self::Go) it asks again, with the same time of
/// arrival.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step<T> {
    /// Call this node.
    Go(Route<T>),
    /// Look at this replica, which should have caught up since the last look: tell
    /// [`Router::observe`](super::Router::observe), and ask again with
    /// [`probed`](super::Request::probed).
    Probe(EndpointId),
    /// Wait so long, look at the replicas, and ask again with [`waited`](super::Request::waited).
    Wait(Duration),
    /// Look at all nodes, the primary at least, and ask again with
    /// [`observed`](super::Request::observed): the token is past what is known.
    Observe,
}

/// A node for one call, which counts as in flight there until this is dropped.
///
/// Tell how it ended, as with a [`Pick`].
#[must_use = "dropping the route ends the call"]
pub struct Route<T> {
    pub(super) pick: Pick<T>,
    pub(super) why: Why,
    pub(super) epoch: u64,
    pub(super) incarnation: u64,
}

impl<T> Route<T> {
    /// What was added with the node.
    pub fn value(&self) -> &T {
        self.pick.value()
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        self.pick.name()
    }

    /// Tells the node apart; for [`Request::excluding`](super::Request::excluding).
    pub fn id(&self) -> EndpointId {
        self.pick.id()
    }

    /// Why it is this node.
    pub const fn why(&self) -> Why {
        self.why
    }

    /// The newest epoch that was known; a commit by this route makes a token of it.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Which run of the node was looked at. A connection to another run must not be used for this
    /// call: it is [`Misrouted`](super::Failure::Misrouted).
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The call succeeded.
    pub fn success(self) {
        self.pick.success();
    }

    /// The call failed, by the node's fault.
    pub fn failure(self) {
        self.pick.failure();
    }

    /// Tells how the call ended.
    pub fn end(self, outcome: Outcome) {
        self.pick.end(outcome);
    }

    /// What is held of the node, for calls whose answer is long.
    pub fn into_pick(self) -> Pick<T> {
        self.pick
    }
}

impl<T> fmt::Debug for Route<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("name", &self.name())
            .field("why", &self.why)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}
