use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use ::http::{Request, Response};
use bytes::Bytes;
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{Head, HttpRules};
use crate::cache::{Cache, Keep, OnTokio, Spawn, Store};
use crate::coalesce::http::{
    Buffer, HttpKey, HttpShare, Key, Limits, Refuse, SharedBody, Size, Unanswered, problem,
};
use crate::coalesce::{Share, ShareAll, ShareAnswers};
use crate::refusal::IntoResponseLayer;

/// Puts a [`Cache`] for HTTP around a service; see the [module](super).
///
/// `B` is the body of the requests.
#[must_use]
pub struct HttpCacheLayer<B, F, V, H = ShareAll> {
    store: Store<Key, V>,
    key: HttpKey,
    rule: F,
    limits: Limits,
    spawn: Arc<dyn Spawn>,
    kinds: PhantomData<fn(B, H)>,
}

impl<B, F, V> HttpCacheLayer<B, F, V>
where
    F: Fn(&Head<'_>) -> Keep,
{
    /// Requests with the same `key` have the same response, for as long as `rule` says.
    pub fn new(store: Store<Key, V>, key: HttpKey, rule: F) -> Self {
        Self {
            store,
            key,
            rule,
            limits: Limits::default(),
            spawn: Arc::new(OnTokio),
            kinds: PhantomData,
        }
    }
}

impl<B, F, V, H> HttpCacheLayer<B, F, V, H> {
    /// Reads bodies within `limits`.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Runs renewals by `spawn`; on the tokio runtime of the caller by default.
    pub fn spawn(mut self, spawn: impl Spawn) -> Self {
        self.spawn = Arc::new(spawn);
        self
    }

    /// Shares responses only, for errors that are not `Clone`: when the shared call has none, one
    /// caller gets the error, and each of the others makes a call of its own.
    pub fn share_answers_only(self) -> HttpCacheLayer<B, F, V, ShareAnswers> {
        HttpCacheLayer {
            store: self.store,
            key: self.key,
            rule: self.rule,
            limits: self.limits,
            spawn: self.spawn,
            kinds: PhantomData,
        }
    }

    /// The entries: settings, figures, invalidation.
    pub fn handle(&self) -> &Store<Key, V> {
        &self.store
    }

    /// Answers by [`problem`] what has no answer: the service's error is the inner service's alone.
    pub fn into_response(self) -> IntoResponseLayer<Self, Refuse> {
        self.into_response_with(problem)
    }

    /// Answers by a function of one's own, which is cloned once per call.
    pub fn into_response_with<G>(self, refuse: G) -> IntoResponseLayer<Self, G>
    where
        G: Fn(&Unanswered) -> Response<Bytes> + Clone,
    {
        IntoResponseLayer::new(self, refuse)
    }
}

impl<S, B, R, F, V, H> Layer<S> for HttpCacheLayer<B, F, V, H>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: Body,
    R: Body<Data = Bytes>,
    F: Fn(&Head<'_>) -> Keep + Clone,
    V: Size + Send + Sync + 'static,
    H: Clone,
    HttpShare<H>: Share<Response<SharedBody<R>>, S::Error, Kept = V>,
{
    type Service = Cache<Buffer<S>, Request<B>, HttpKey, HttpRules<F, H>>;

    fn layer(&self, inner: S) -> Self::Service {
        let rules = HttpRules::new(self.key.clone(), self.rule.clone());
        let inner = Buffer::new(inner, self.limits);
        let (store, key) = (self.store.clone(), self.key.clone());
        Cache::new(inner, store, key, rules, Arc::clone(&self.spawn))
    }
}

impl<B, F: Clone, V, H> Clone for HttpCacheLayer<B, F, V, H> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            key: self.key.clone(),
            rule: self.rule.clone(),
            limits: self.limits,
            spawn: Arc::clone(&self.spawn),
            kinds: PhantomData,
        }
    }
}

// By hand: closures have no `Debug`.
impl<B, F, V, H> fmt::Debug for HttpCacheLayer<B, F, V, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCacheLayer")
            .field("store", &self.store)
            .field("key", &self.key)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
