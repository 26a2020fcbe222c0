use std::task::{Context, Poll};
use std::time::Duration;

use tower_service::Service;

use super::{Error, ResponseFuture};

/// A service that answers within a given time or fails with
/// [`Elapsed`](super::Elapsed).
///
/// `poll_ready` asks the inner service and has no time limit.
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    inner: S,
    after: Duration,
}

impl<S> Timeout<S> {
    /// Gives each call to `inner` the time `after`; see
    /// [`TimeoutLayer::new`](super::TimeoutLayer::new).
    pub fn new(inner: S, after: Duration) -> Self {
        Self { inner, after }
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

impl<S, Req> Service<Req> for Timeout<S>
where
    S: Service<Req>,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        ResponseFuture::new(self.inner.call(req), self.after)
    }
}
