use std::fmt;
use std::task::{Context, Poll};

use resilience_core::load_shed::{self, Class};
use tower_service::Service;

use super::{ClassOf, Error, ResponseFuture};

/// A service that sheds calls by class while there is overload.
///
/// Clones share the load shedder. `poll_ready` asks the inner service alone and takes nothing: a
/// clone that is ready and never called does not count as a call.
#[derive(Clone)]
pub struct LoadShed<S, C = Class> {
    inner: S,
    shed: load_shed::LoadShed,
    class: C,
}

impl<S, C> LoadShed<S, C> {
    /// Sheds calls to `inner` by `shed`, each by its `class`.
    pub fn new(inner: S, shed: load_shed::LoadShed, class: C) -> Self {
        Self { inner, shed, class }
    }

    /// The load shedder, for its figures, events and settings.
    pub fn handle(&self) -> &load_shed::LoadShed {
        &self.shed
    }

    /// The guarded service.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Gives the guarded service back.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, C, Req> Service<Req> for LoadShed<S, C>
where
    S: Service<Req>,
    C: ClassOf<Req>,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let class = self.class.class_of(&req);
        // Should `inner.call` panic, the unwinding gives the permit back.
        match self.shed.try_acquire_owned(class) {
            Ok(permit) => ResponseFuture::called(self.inner.call(req), permit),
            Err(shed) => ResponseFuture::shed(shed),
        }
    }
}

// By hand: closures have no `Debug`.
impl<S: fmt::Debug, C> fmt::Debug for LoadShed<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadShed")
            .field("inner", &self.inner)
            .field("shed", &self.shed)
            .finish_non_exhaustive()
    }
}
