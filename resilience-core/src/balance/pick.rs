//! What a call holds of the endpoint it was given.

use std::{fmt, sync::Arc, thread};

use super::{endpoint::Node, state::EndpointId};
use crate::breaker::Outcome;

/// An endpoint for one call, which counts as in flight there until this is dropped.
///
/// Tell how the call ended by [`success`](Self::success), [`failure`](Self::failure),
/// [`end`](Self::end) or [`record`](Self::record); the latency is the time from the pick to that,
/// or to [`answered`](Self::answered). A pick that is dropped
/// without was given up: it says nothing about the endpoint, except that the call would have
/// taken longer than that, if this is longer than calls usually take. Dropped by a panic it is a
/// failure.
#[must_use = "dropping the pick ends the call"]
pub struct Pick<T> {
    node: Arc<Node<T>>,
    began: u64,
    /// Nanoseconds until the answer.
    took: Option<u64>,
    phase: Phase,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Phase {
    /// Without an answer, and without an outcome.
    Waiting,
    /// With an answer, and without an outcome.
    Answered,
    /// With an outcome.
    Told,
    /// With an outcome, and about to be dropped: still counted as without an answer.
    Ending,
}

impl<T> Pick<T> {
    #[inline]
    pub(super) fn new(node: &Arc<Node<T>>, began: u64) -> Self {
        node.state.enter();
        Self {
            node: Arc::clone(node),
            began,
            took: None,
            phase: Phase::Waiting,
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
    pub fn success(self) {
        self.end(Outcome::Success);
    }

    /// The call failed.
    #[inline]
    pub fn failure(self) {
        self.end(Outcome::Failure);
    }

    /// Tells how the call ended, and ends it.
    #[inline]
    pub fn end(mut self, outcome: Outcome) {
        match self.phase {
            Phase::Waiting => self.tell(outcome, Phase::Ending),
            Phase::Answered => self.tell(outcome, Phase::Told),
            Phase::Told | Phase::Ending => {}
        }
    }

    /// The answer has begun to come: the latency is the time until now, whenever the call ends.
    #[inline]
    pub fn answered(&mut self) {
        if self.phase == Phase::Waiting {
            let now = self.node.referee.now();
            self.took = Some(now.saturating_sub(self.began));
            self.node.state.answer();
            self.phase = Phase::Answered;
        }
    }

    /// Tells how the call ended, and goes on counting it as in flight: an answer is known by its
    /// head, and takes the endpoint's time until the end of its body. Only the first outcome
    /// counts. An [`Overloaded`](Outcome::Overloaded) is a failure, an
    /// [`Ignored`](Outcome::Ignored) is as a call that was given up.
    #[inline]
    pub fn record(&mut self, outcome: Outcome) {
        match self.phase {
            Phase::Waiting => {
                self.tell(outcome, Phase::Told);
                self.node.state.answer();
            }
            Phase::Answered => self.tell(outcome, Phase::Told),
            Phase::Told | Phase::Ending => {}
        }
    }

    /// The call is not made, as the endpoint was not ready for it: nothing is told of it.
    pub fn pass_over(mut self) -> PassedOver<T> {
        if self.phase == Phase::Waiting {
            self.phase = Phase::Ending;
        }
        PassedOver(Arc::clone(&self.node))
    }

    #[inline]
    fn tell(&mut self, outcome: Outcome, phase: Phase) {
        self.phase = phase;
        let node = &*self.node;
        node.referee
            .report(&node.state, self.began, self.took, outcome);
    }
}

impl<T> Drop for Pick<T> {
    #[inline]
    fn drop(&mut self) {
        let outcome = || match thread::panicking() {
            true => Outcome::Failure,
            false => Outcome::Ignored,
        };
        match self.phase {
            Phase::Waiting => self.tell(outcome(), Phase::Ending),
            Phase::Answered => self.tell(outcome(), Phase::Told),
            Phase::Told | Phase::Ending => {}
        }
        self.node.state.leave(self.phase == Phase::Told);
    }
}

/// An endpoint that was picked and not called, as it was not ready; made by [`Pick::pass_over`].
///
/// It counts for nothing until it is picked again.
pub struct PassedOver<T>(Arc<Node<T>>);

impl<T> PassedOver<T> {
    /// The endpoint is ready now, and is called after all. The latency is the time from now on.
    pub fn pick(self) -> Pick<T> {
        let now = self.0.referee.now();
        Pick::new(&self.0, now)
    }

    /// What was added with the endpoint.
    pub fn value(&self) -> &T {
        &self.0.value
    }

    /// Tells the endpoint apart.
    pub fn id(&self) -> EndpointId {
        self.0.state.id
    }
}

impl<T> fmt::Debug for PassedOver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PassedOver").field(&self.0.name).finish()
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
