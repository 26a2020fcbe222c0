use std::time::Duration;

use resilience_core::bulkhead::Priority;

#[cfg(feature = "timeout")]
use crate::timeout::deadline::{Deadline, HasDeadline};

/// Who goes first, and how long it can wait.
pub trait PriorityOf<Req> {
    /// The priority of `request`.
    fn priority_of(&self, request: &Req) -> Priority;

    /// How long an answer to `request` is of use: its turn must come before that, and without any
    /// time left it is refused at once. `None`, the default: there is no deadline, or none is known;
    /// the settings of the bulkhead bound the wait.
    fn time_left(&self, request: &Req) -> Option<Duration> {
        let _ = request;
        None
    }
}

/// All calls have the same priority, [`Priority::Normal`]: first come, first served.
#[derive(Clone, Copy, Debug, Default)]
pub struct SamePriority;

impl<Req> PriorityOf<Req> for SamePriority {
    fn priority_of(&self, _: &Req) -> Priority {
        Priority::Normal
    }
}

impl<Req, F: Fn(&Req) -> Priority> PriorityOf<Req> for F {
    fn priority_of(&self, request: &Req) -> Priority {
        self(request)
    }
}

/// Another's priorities, and waits by the deadline that requests carry.
///
/// Made by [`WaitLayer::honour_deadline`](super::WaitLayer::honour_deadline).
#[cfg(feature = "timeout")]
#[derive(Clone, Copy, Debug, Default)]
pub struct HonourDeadline<P>(pub(crate) P);

#[cfg(feature = "timeout")]
impl<Req: HasDeadline, P: PriorityOf<Req>> PriorityOf<Req> for HonourDeadline<P> {
    fn priority_of(&self, request: &Req) -> Priority {
        self.0.priority_of(request)
    }

    fn time_left(&self, request: &Req) -> Option<Duration> {
        request.deadline().map(Deadline::left)
    }
}
