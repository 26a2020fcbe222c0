use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use resilience_core::coalesce::Refused;
use tower_service::Service;

use super::group::Group;
use super::oneshot::Oneshot;
use super::{Coalescing, Error, KeyOf, ResponseFuture, Share};

/// A service whose calls for the same key share one call of the inner service.
///
/// Clones share the calls under way. `poll_ready` is always ready: who only waits for another's
/// answer needs no readiness of the inner service. That which is called is a clone, and polled ready
/// first.
pub struct Coalesce<S, Req, K, H>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    H: Share<S::Response, S::Error>,
{
    inner: S,
    key: K,
    share: H,
    handle: Coalescing,
    #[allow(clippy::type_complexity)] // Said once.
    group: Arc<Group<K::Key, Oneshot<S, Req>, H::Kept>>,
}

impl<S, Req, K, H> Coalesce<S, Req, K, H>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    H: Share<S::Response, S::Error>,
{
    /// See [`CoalesceLayer`](super::CoalesceLayer).
    pub fn new(inner: S, handle: Coalescing, key: K, share: H) -> Self {
        Self {
            inner,
            key,
            share,
            group: Arc::new(Group::new(handle.clone())),
            handle,
        }
    }

    /// Settings and figures.
    pub fn handle(&self) -> &Coalescing {
        &self.handle
    }

    /// The service that is called.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Gives the service that is called back.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, Req, K, H> Service<Req> for Coalesce<S, Req, K, H>
where
    S: Service<Req> + Clone,
    K: KeyOf<Req> + Clone,
    H: Share<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S, Req, K, H>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let joined: Result<_, Refused> = match self.key.key_of(&request) {
            Some(key) => self.group.join(key, 0).map(Some),
            None => Ok(None),
        };
        match joined {
            Ok(Some(member)) => {
                let (key, share) = (self.key.clone(), self.share.clone());
                ResponseFuture::member(member, self.inner.clone(), request, key, share)
            }
            Ok(None) => ResponseFuture::alone(self.inner.clone(), request),
            Err(refused) => ResponseFuture::refused(refused),
        }
    }
}

impl<S, Req, K, H> Clone for Coalesce<S, Req, K, H>
where
    S: Service<Req> + Clone,
    K: KeyOf<Req> + Clone,
    H: Share<S::Response, S::Error> + Clone,
{
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            key: self.key.clone(),
            share: self.share.clone(),
            handle: self.handle.clone(),
            group: Arc::clone(&self.group),
        }
    }
}

// By hand: closures have no `Debug`.
impl<S, Req, K, H> fmt::Debug for Coalesce<S, Req, K, H>
where
    S: Service<Req> + fmt::Debug,
    K: KeyOf<Req>,
    H: Share<S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coalesce")
            .field("inner", &self.inner)
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
