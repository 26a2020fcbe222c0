use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;

use tower_layer::Layer;
use tower_service::Service;

use super::{Coalesce, Coalescing, KeyFn, KeyOf, Share, ShareAll, ShareAnswers};

/// Puts a [`Coalesce`] around a service.
///
/// Each service that it makes has calls of its own; its clones share them. Settings and figures are
/// those of the handle.
#[must_use]
pub struct CoalesceLayer<Req, K, H = ShareAll> {
    handle: Coalescing,
    key: K,
    share: H,
    // Of the request alone: the layer holds none.
    requests: PhantomData<fn(Req)>,
}

impl<Req, K, F> CoalesceLayer<Req, KeyFn<F>>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    F: Fn(&Req) -> Option<K>,
{
    /// Calls for which `key` finds the same key share one answer, which is cloned, or one error. A
    /// call without a key has its own.
    ///
    /// Only calls that read, and a key with all that the answer depends on, the caller included: for
    /// HTTP say [`http`](super::http::HttpCoalesceLayer).
    pub fn new(handle: Coalescing, key: F) -> Self {
        Self::of(handle, KeyFn(key), ShareAll)
    }
}

impl<Req, K, H> CoalesceLayer<Req, K, H> {
    /// Keys and answers as `key` and `share` say.
    pub fn of(handle: Coalescing, key: K, share: H) -> Self {
        Self {
            handle,
            key,
            share,
            requests: PhantomData,
        }
    }

    /// Shares answers only: when the shared call fails, one caller gets the error, and each of the
    /// others makes a call of its own. An upstream that fails then gets all of them at once.
    pub fn share_answers_only(self) -> CoalesceLayer<Req, K, ShareAnswers> {
        CoalesceLayer::of(self.handle, self.key, ShareAnswers)
    }

    /// Settings and figures.
    pub fn handle(&self) -> &Coalescing {
        &self.handle
    }
}

impl<S, Req, K, H> Layer<S> for CoalesceLayer<Req, K, H>
where
    S: Service<Req>,
    K: KeyOf<Req> + Clone,
    H: Share<S::Response, S::Error> + Clone,
{
    type Service = Coalesce<S, Req, K, H>;

    fn layer(&self, inner: S) -> Self::Service {
        Coalesce::new(
            inner,
            self.handle.clone(),
            self.key.clone(),
            self.share.clone(),
        )
    }
}

impl<Req, K: Clone, H: Clone> Clone for CoalesceLayer<Req, K, H> {
    fn clone(&self) -> Self {
        Self::of(self.handle.clone(), self.key.clone(), self.share.clone())
    }
}

// By hand: closures have no `Debug`.
impl<Req, K, H> fmt::Debug for CoalesceLayer<Req, K, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoalesceLayer")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
