//! A place in line, and what becomes of it.

use std::{fmt, mem, sync::Arc, task::Waker, time::Duration};

use super::{
    Inner, OwnedPermit, Reason, Refused,
    line::{Ended, Id},
};

/// A place in the line of a [`Bulkhead`](super::Bulkhead), or a turn that was given.
///
/// A turn is given when a permit comes back, and held from then on: poll a waiter when it is woken.
///
/// # Cancel safety
///
/// Dropping it gives up the place. A turn that it was given and has not told of goes to the next.
#[must_use = "dropping a waiter gives its place up"]
pub struct Waiter {
    inner: Arc<Inner>,
    state: State,
}

enum State {
    /// Until then at most.
    Waiting(Id, Option<Duration>),
    Admitted(OwnedPermit),
    Refused(Refused),
    /// The permit is the caller's.
    Told,
}

/// What became of a place in line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Turn {
    /// The call may run.
    Admitted(OwnedPermit),
    /// Not yet. When the task is woken, or this time is over (`None`: no deadline), poll again.
    Wait(Option<Duration>),
    /// It may not.
    Refused(Refused),
}

impl Waiter {
    pub(super) fn admitted(inner: Arc<Inner>) -> Self {
        Self {
            inner: Arc::clone(&inner),
            state: State::Admitted(OwnedPermit::new(inner)),
        }
    }

    pub(super) fn waiting(inner: Arc<Inner>, id: Id, deadline: Option<Duration>) -> Self {
        Self {
            inner,
            state: State::Waiting(id, deadline),
        }
    }

    /// Whether the turn has come. If not, `waker` is woken when it has, and forgotten at the next
    /// poll. No timer runs here: the caller is to poll again when the time told is over.
    ///
    /// The permit is given out once; polled again after that it answers [`Turn::Wait`] for ever.
    /// A refusal is answered again and again.
    pub fn poll(&mut self, waker: &Waker) -> Turn {
        if let State::Waiting(id, deadline) = self.state {
            let (ended, now) = self.inner.ask(id, waker);
            self.state = match ended {
                Some(Ended::Turn) => State::Admitted(OwnedPermit::new(Arc::clone(&self.inner))),
                Some(Ended::Deadline) => self.refused(Reason::Deadline),
                Some(Ended::Displaced) => self.refused(Reason::Displaced),
                None => {
                    return Turn::Wait(deadline.map(|deadline| deadline.saturating_sub(now)));
                }
            };
        }
        match mem::replace(&mut self.state, State::Told) {
            State::Admitted(permit) => Turn::Admitted(permit),
            State::Refused(refused) => {
                self.state = State::Refused(refused);
                Turn::Refused(refused)
            }
            State::Waiting(..) | State::Told => Turn::Wait(None),
        }
    }

    fn refused(&self, reason: Reason) -> State {
        State::Refused(self.inner.refuse(reason))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let State::Waiting(id, _) = self.state {
            self.inner.leave(id);
        }
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Waiting(..) => "Waiting",
            State::Admitted(_) => "Admitted",
            State::Refused(_) => "Refused",
            State::Told => "Told",
        };
        f.debug_tuple("Waiter").field(&state).finish()
    }
}
