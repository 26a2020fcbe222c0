//! What goes with a request through the stack, and with its answer.

use std::time::Duration;

use tokio::time::Instant;

use crate::retry::Replay;
use crate::timeout::deadline::{Deadline, HasDeadline, Propagate};

/// A request on its way through the stack.
///
/// Deadline and number of the attempt are beside the request, and not in it: so any request can have
/// them, and none needs an allocation for its extensions.
#[derive(Debug)]
pub struct Envelope<Req> {
    pub(super) request: Req,
    /// 0 before the first attempt.
    pub(super) attempt: u32,
    pub(super) deadline: Option<Deadline>,
    /// How long this attempt may take, once that is known.
    pub(super) limit: Option<Duration>,
}

impl<Req> Envelope<Req> {
    pub(super) const fn new(request: Req) -> Self {
        Self {
            request,
            attempt: 0,
            deadline: None,
            limit: None,
        }
    }
}

impl<Req> HasDeadline for Envelope<Req> {
    #[inline]
    fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    #[inline]
    fn set_deadline(&mut self, deadline: Deadline) {
        self.deadline = Some(deadline);
    }
}

/// An answer on its way back.
#[derive(Debug)]
pub struct Answered<T> {
    pub(super) response: T,
    /// The number of the attempt that it answers.
    pub(super) attempt: u32,
}

/// Takes what the caller leaves; the time of the call in all is told to nobody.
#[derive(Clone, Debug)]
pub struct FromCaller<P>(pub(super) P);

impl<Req, P: Propagate<Req>> Propagate<Envelope<Req>> for FromCaller<P> {
    #[inline]
    fn received(&self, envelope: &Envelope<Req>) -> Option<Duration> {
        self.0.received(&envelope.request)
    }

    #[inline]
    fn send(&self, _: &mut Envelope<Req>, _: Duration) {}
}

/// Notes how long the attempt may take, for the innermost service to tell.
#[derive(Clone, Debug)]
pub struct ToUpstream<P>(pub(super) P);

impl<Req, P: Propagate<Req>> Propagate<Envelope<Req>> for ToUpstream<P> {
    #[inline]
    fn received(&self, envelope: &Envelope<Req>) -> Option<Duration> {
        // Else it is known: the layer of the whole call has taken it.
        let unknown = envelope.deadline.is_none();
        unknown
            .then(|| self.0.received(&envelope.request))
            .flatten()
    }

    #[inline]
    fn send(&self, envelope: &mut Envelope<Req>, left: Duration) {
        envelope.limit = Some(left);
    }

    fn least(&self) -> Duration {
        self.0.least()
    }
}

/// Keeps the envelope of an attempt for those beside it, which have the same number.
#[derive(Clone, Debug)]
pub struct Beside<R>(pub(super) R);

impl<Req, R: Replay<Req>> Replay<Envelope<Req>> for Beside<R> {
    type Request = Envelope<R::Request>;
    type Kept = Kept<R::Kept>;

    #[inline]
    fn first(
        &self,
        envelope: Envelope<Req>,
        again: bool,
    ) -> (Envelope<R::Request>, Option<Kept<R::Kept>>) {
        let Envelope {
            request,
            attempt,
            deadline,
            limit,
        } = envelope;
        let (request, kept) = self.0.first(request, again);
        let kept = kept.map(|kept| Kept {
            kept,
            attempt,
            deadline,
        });
        let first = Envelope {
            request,
            attempt,
            deadline,
            limit,
        };
        (first, kept)
    }

    fn again(&self, kept: &mut Kept<R::Kept>) -> Option<Envelope<R::Request>> {
        let request = self.0.again(&mut kept.kept)?;
        Some(Envelope {
            request,
            attempt: kept.attempt,
            deadline: kept.deadline,
            limit: None,
        })
    }

    fn time_left(&self, envelope: &Envelope<Req>) -> Option<Duration> {
        match envelope.deadline {
            Some(deadline) => Some(deadline.left()),
            None => self.0.time_left(&envelope.request),
        }
    }

    #[inline]
    fn deadline(&self, envelope: &Envelope<Req>) -> Option<Instant> {
        match envelope.deadline {
            Some(deadline) => Some(deadline.instant()),
            None => self.0.deadline(&envelope.request),
        }
    }
}

/// Keeps the envelope with what another replay keeps of the request.
#[derive(Clone, Debug)]
pub struct InEnvelope<R>(pub(super) R);

/// What is kept of a request, and of its envelope.
#[derive(Debug)]
pub struct Kept<K> {
    kept: K,
    attempt: u32,
    deadline: Option<Deadline>,
}

impl<Req, R: Replay<Req>> Replay<Envelope<Req>> for InEnvelope<R> {
    type Request = Envelope<R::Request>;
    type Kept = Kept<R::Kept>;

    #[inline]
    fn first(
        &self,
        envelope: Envelope<Req>,
        again: bool,
    ) -> (Envelope<R::Request>, Option<Kept<R::Kept>>) {
        let deadline = envelope.deadline;
        let (request, kept) = self.0.first(envelope.request, again);
        let kept = kept.map(|kept| Kept {
            kept,
            attempt: 1,
            deadline,
        });
        let first = Envelope {
            request,
            attempt: 1,
            deadline,
            limit: envelope.limit,
        };
        (first, kept)
    }

    fn again(&self, kept: &mut Kept<R::Kept>) -> Option<Envelope<R::Request>> {
        let request = self.0.again(&mut kept.kept)?;
        kept.attempt += 1;
        Some(Envelope {
            request,
            attempt: kept.attempt,
            deadline: kept.deadline,
            limit: None,
        })
    }

    fn time_left(&self, envelope: &Envelope<Req>) -> Option<Duration> {
        match envelope.deadline {
            Some(deadline) => Some(deadline.left()),
            None => self.0.time_left(&envelope.request),
        }
    }

    #[inline]
    fn deadline(&self, envelope: &Envelope<Req>) -> Option<Instant> {
        match envelope.deadline {
            Some(deadline) => Some(deadline.instant()),
            None => self.0.deadline(&envelope.request),
        }
    }
}
