use std::fmt;
use std::task::{Context, Poll};

use resilience_core::bulkhead::{self, Priority};
use tower_service::Service;

use super::Error;
use super::future::{ResponseFuture, WaitFuture};

/// A service that runs at most so many calls at once, and refuses others.
///
/// Clones share the limit. `poll_ready` asks the inner service alone and takes nothing: a clone that
/// is ready and never called holds no place.
#[derive(Clone, Debug)]
pub struct Bulkhead<S> {
    inner: S,
    bulkhead: bulkhead::Bulkhead,
}

impl<S> Bulkhead<S> {
    /// Limits the calls to `inner` by `bulkhead`.
    pub fn new(inner: S, bulkhead: bulkhead::Bulkhead) -> Self {
        Self { inner, bulkhead }
    }

    /// The limit, for reading its figures or changing it.
    pub fn handle(&self) -> &bulkhead::Bulkhead {
        &self.bulkhead
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

impl<S: Service<Req>, Req> Service<Req> for Bulkhead<S> {
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
        match self.bulkhead.try_acquire_owned() {
            Ok(permit) => ResponseFuture::called(self.inner.call(req), permit),
            Err(refused) => ResponseFuture::refused(refused),
        }
    }
}

/// A service that runs at most so many calls at once; others wait in line.
///
/// Clones stand in the same line. `poll_ready` is always ready; see the [module](super) for why.
#[derive(Clone)]
pub struct Wait<S, P = SamePriority> {
    inner: S,
    bulkhead: bulkhead::Bulkhead,
    priority: P,
}

/// Who goes first.
pub trait PriorityOf<Req> {
    /// The priority of `request`.
    fn priority_of(&self, request: &Req) -> Priority;
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

impl<S, P> Wait<S, P> {
    /// Limits the calls to `inner` by `bulkhead`; those above it wait by their `priority`.
    pub fn new(inner: S, bulkhead: bulkhead::Bulkhead, priority: P) -> Self {
        Self {
            inner,
            bulkhead,
            priority,
        }
    }

    /// The limit, for reading its figures or changing it.
    pub fn handle(&self) -> &bulkhead::Bulkhead {
        &self.bulkhead
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

impl<S, P, Req> Service<Req> for Wait<S, P>
where
    S: Service<Req> + Clone,
    P: PriorityOf<Req>,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = WaitFuture<S, Req>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let priority = self.priority.priority_of(&req);
        // The place is taken here and not by the first poll, so that first come is first called.
        match self.bulkhead.enqueue(priority, None) {
            Ok(waiter) => WaitFuture::waiting(waiter, self.inner.clone(), req),
            Err(refused) => WaitFuture::refused(refused),
        }
    }
}

// By hand: closures have no `Debug`.
impl<S: fmt::Debug, P> fmt::Debug for Wait<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("inner", &self.inner)
            .field("bulkhead", &self.bulkhead)
            .finish_non_exhaustive()
    }
}
