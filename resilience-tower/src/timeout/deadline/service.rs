use std::task::{Context, Poll};

use resilience_core::deadline::Deadlines;
use tokio::time::Instant;
use tower_service::Service;

use super::{Deadline, Error, HasDeadline, InProcess, Propagate, ResponseFuture};

/// A service that answers before the deadline of the request or fails with
/// [`TimeUp`](resilience_core::deadline::TimeUp).
///
/// `poll_ready` asks the inner service and has no time limit: the request is not known yet.
#[derive(Clone, Debug)]
pub struct WithDeadline<S, P = InProcess> {
    inner: S,
    deadlines: Deadlines,
    propagate: P,
}

impl<S, P> WithDeadline<S, P> {
    /// Gives calls to `inner` the time that `deadlines` and the request allow.
    pub fn new(inner: S, deadlines: Deadlines, propagate: P) -> Self {
        Self {
            inner,
            deadlines,
            propagate,
        }
    }

    /// The settings and counts, for changing and reading them.
    pub fn handle(&self) -> &Deadlines {
        &self.deadlines
    }

    /// The limited service.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Gives the limited service back.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, P, Req> Service<Req> for WithDeadline<S, P>
where
    S: Service<Req>,
    P: Propagate<Req>,
    Req: HasDeadline,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    #[inline]
    fn call(&mut self, mut req: Req) -> Self::Future {
        let now = Instant::now();
        let carried = req.deadline().map(|deadline| deadline.left_at(now));
        let received = self.propagate.received(&req);
        let brought = carried.into_iter().chain(received).min();
        let time = match self.deadlines.begin(brought, self.propagate.least()) {
            Ok(time) => time,
            Err(refused) => return ResponseFuture::refused(refused),
        };
        if time.left() != carried
            && let Some(end) = time.left().and_then(|left| now.checked_add(left))
        {
            req.set_deadline(Deadline::at(end));
        }
        let limit = time.limit();
        if let Some(limit) = limit {
            self.propagate.send(&mut req, limit);
        }
        let end = limit.and_then(|limit| now.checked_add(limit));
        let deadlines = self.deadlines.clone();
        ResponseFuture::called(self.inner.call(req), end, time, deadlines)
    }
}
