//! What a call holds of the endpoint it was given.

use std::{fmt, sync::Arc, thread};

use super::{endpoint::Node, state::EndpointId};
use crate::breaker::Outcome;

/// An endpoint for one call, which counts as in flight there until this is dropped.
///
/// Tell how the call ended by [`success`](Self::success), [`failure`](Self::failure) or
/// [`record`](Self::record); the latency is the time from the pick to that. A pick that is dropped
/// without was given up: it says nothing about the endpoint, except that the call would have
/// taken longer than that, if this is longer than calls usually take. Dropped by a panic it is a
/// failure.
#[must_use = "dropping the pick ends the call"]
pub struct Pick<T> {
    node: Arc<Node<T>>,
    began: u64,
    open: bool,
}

impl<T> Pick<T> {
    #[inline]
    pub(super) fn new(node: &Arc<Node<T>>, began: u64) -> Self {
        node.state.enter();
        Self {
            node: Arc::clone(node),
            began,
            open: true,
        }
    }

    /// What was added with the endpoint.
    pub fn value(&self) -> &T {
        &self.node.value
    }

    /// The endpoint's name.
    pub fn name(&self) -> &str {
        &self.node.name
    }

    /// Tells the endpoint apart; for [`Criteria::excluding`](super::Criteria::excluding).
    pub fn id(&self) -> EndpointId {
        self.node.state.id
    }

    /// The call succeeded.
    #[inline]
    pub fn success(mut self) {
        self.record(Outcome::Success);
    }

    /// The call failed.
    #[inline]
    pub fn failure(mut self) {
        self.record(Outcome::Failure);
    }

    /// Tells how the call ended, and goes on counting it as in flight: an answer is known by its
    /// head, and takes the endpoint's time until the end of its body. Only the first outcome
    /// counts. An [`Overloaded`](Outcome::Overloaded) is a failure, an
    /// [`Ignored`](Outcome::Ignored) is as a call that was given up.
    #[inline]
    pub fn record(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.open, false) {
            let node = &*self.node;
            node.referee.report(&node.state, self.began, outcome);
        }
    }
}

impl<T> Drop for Pick<T> {
    #[inline]
    fn drop(&mut self) {
        if self.open {
            self.record(if thread::panicking() {
                Outcome::Failure
            } else {
                Outcome::Ignored
            });
        }
        self.node.state.leave();
    }
}

impl<T> fmt::Debug for Pick<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pick")
            .field("name", &self.name())
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}
