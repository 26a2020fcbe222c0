use std::time::Duration;

use tokio::time::Instant;

#[cfg(feature = "timeout")]
use crate::timeout::deadline::{Deadline, HasDeadline};

/// How a request is kept, so that it can be sent again.
pub trait Replay<Req> {
    /// What the inner service takes.
    type Request;
    /// What is kept while an attempt runs.
    type Kept;

    /// The request of the first attempt; and what is kept of it, or nothing when it must not or
    /// cannot be sent again. `again` is false when there will be no second attempt anyway.
    fn first(&self, request: Req, again: bool) -> (Self::Request, Option<Self::Kept>);

    /// The request once more; `None` when it has turned out that it cannot be sent again.
    fn again(&self, kept: &mut Self::Kept) -> Option<Self::Request>;

    /// How long an answer to `request` is of use: a retry whose wait ends then or later is not
    /// begun. `None`, the default: there is no deadline, or none is known.
    fn time_left(&self, request: &Req) -> Option<Duration> {
        let _ = request;
        None
    }

    /// When that is over, on tokio's clock; [`time_left`](Self::time_left) from now on by default.
    /// Whose requests carry a point in time says it here as well, and no clock need be read.
    #[inline]
    fn deadline(&self, request: &Req) -> Option<Instant> {
        // Beyond what the clock can count is no deadline.
        let left = self.time_left(request)?;
        Instant::now().checked_add(left)
    }
}

/// Clones every request: whatever it does, doing it twice must be harmless.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneRequest;

impl<Req: Clone> Replay<Req> for CloneRequest {
    type Request = Req;
    type Kept = Req;

    #[inline]
    fn first(&self, request: Req, again: bool) -> (Req, Option<Req>) {
        let kept = again.then(|| request.clone());
        (request, kept)
    }

    fn again(&self, kept: &mut Req) -> Option<Req> {
        Some(kept.clone())
    }
}

/// What another replay does, by the deadline that requests carry.
///
/// Made by [`RetryLayer::honour_deadline`](super::RetryLayer::honour_deadline).
#[cfg(feature = "timeout")]
#[derive(Clone, Copy, Debug, Default)]
pub struct HonourDeadline<R>(pub(crate) R);

#[cfg(feature = "timeout")]
impl<Req: HasDeadline, R: Replay<Req>> Replay<Req> for HonourDeadline<R> {
    type Request = R::Request;
    type Kept = R::Kept;

    fn first(&self, request: Req, again: bool) -> (R::Request, Option<R::Kept>) {
        self.0.first(request, again)
    }

    fn again(&self, kept: &mut R::Kept) -> Option<R::Request> {
        self.0.again(kept)
    }

    fn time_left(&self, request: &Req) -> Option<Duration> {
        request.deadline().map(Deadline::left)
    }

    fn deadline(&self, request: &Req) -> Option<Instant> {
        request.deadline().map(Deadline::instant)
    }
}
