use std::fmt;
use std::task::{Context, Poll};

use resilience_core::bulkhead;
use tower_service::Service;

use super::future::{ResponseFuture, WaitFuture};
use super::{Error, Permits, PriorityOf, SamePriority};

/// A service that runs at most so many calls at once, and refuses others.
///
/// Clones share the limit. `poll_ready` asks the inner service alone and takes nothing: a clone that
/// is ready and never called holds no place.
#[derive(Clone, Debug)]
pub struct Bulkhead<S, B = bulkhead::Bulkhead> {
    inner: S,
    permits: B,
}

impl<S> Bulkhead<S> {
    /// The limit, for reading its figures or changing it.
    pub fn handle(&self) -> &bulkhead::Bulkhead {
        &self.permits
    }
}

impl<S, B> Bulkhead<S, B> {
    /// Limits the calls to `inner` by `permits`: a bulkhead, or bulkheads by key.
    pub fn new(inner: S, permits: B) -> Self {
        Self { inner, permits }
    }

    /// Where the permits come from.
    pub fn permits(&self) -> &B {
        &self.permits
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

impl<S: Service<Req>, B: Permits<Req>, Req> Service<Req> for Bulkhead<S, B> {
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        // Should `inner.call` panic, the unwinding gives the permit back.
        match self.permits.try_acquire(&req) {
            Ok(permit) => ResponseFuture::called(self.inner.call(req), permit),
            Err(refused) => ResponseFuture::refused(refused),
        }
    }
}

/// A service that runs at most so many calls at once; others wait in line.
///
/// Clones stand in the same line. `poll_ready` is always ready; see the [module](super) for why.
#[derive(Clone)]
pub struct Wait<S, P = SamePriority, B = bulkhead::Bulkhead> {
    inner: S,
    permits: B,
    priority: P,
}

impl<S, P> Wait<S, P> {
    /// The limit, for reading its figures or changing it.
    pub fn handle(&self) -> &bulkhead::Bulkhead {
        &self.permits
    }
}

impl<S, P, B> Wait<S, P, B> {
    /// Limits the calls to `inner` by `permits` (a bulkhead, or bulkheads by key); those above it
    /// wait by their `priority`.
    pub fn new(inner: S, permits: B, priority: P) -> Self {
        Self {
            inner,
            permits,
            priority,
        }
    }

    /// Where the permits come from.
    pub fn permits(&self) -> &B {
        &self.permits
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

impl<S, P, B, Req> Service<Req> for Wait<S, P, B>
where
    S: Service<Req> + Clone,
    P: PriorityOf<Req>,
    B: Permits<Req>,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = WaitFuture<S, Req>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let priority = self.priority.priority_of(&req);
        let left = self.priority.time_left(&req);
        // The place is taken here and not by the first poll, so that first come is first called.
        match self.permits.enqueue(&req, priority, left) {
            Ok(Some(waiter)) => WaitFuture::waiting(waiter, self.inner.clone(), req),
            Ok(None) => WaitFuture::unlimited(self.inner.clone(), req),
            Err(refused) => WaitFuture::refused(refused),
        }
    }
}

// By hand: closures have no `Debug`.
impl<S: fmt::Debug, P, B: fmt::Debug> fmt::Debug for Wait<S, P, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("inner", &self.inner)
            .field("permits", &self.permits)
            .finish_non_exhaustive()
    }
}
