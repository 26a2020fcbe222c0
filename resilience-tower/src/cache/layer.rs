use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use tower_layer::Layer;
use tower_service::Service;

use super::{Cache, OnTokio, Rules, Spawn, Store};
use crate::coalesce::{KeyFn, KeyOf};

/// Puts a [`Cache`] around a service.
///
/// All services that it makes share the entries; clones of one share the calls under way as well.
#[must_use]
pub struct CacheLayer<Req, K: KeyOf<Req>, R, V> {
    store: Store<K::Key, V>,
    key: K,
    rules: R,
    spawn: Arc<dyn Spawn>,
    // Of the request alone: the layer holds none.
    requests: PhantomData<fn(Req)>,
}

impl<Req, K, F, R, V> CacheLayer<Req, KeyFn<F>, R, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    F: Fn(&Req) -> Option<K>,
{
    /// Calls for which `key` finds the same key have the same answer; a call without a key goes to
    /// the inner service. What is kept, `rules` say ([`ByRule`](super::ByRule)).
    ///
    /// Only calls that read, and a key with all that the answer depends on, the caller included: for
    /// HTTP say [`HttpCacheLayer`](super::http::HttpCacheLayer).
    pub fn new(store: Store<K, V>, key: F, rules: R) -> Self {
        Self::of(store, KeyFn(key), rules)
    }
}

impl<Req, K: KeyOf<Req>, R, V> CacheLayer<Req, K, R, V> {
    /// Keys as `key` says.
    pub fn of(store: Store<K::Key, V>, key: K, rules: R) -> Self {
        Self {
            store,
            key,
            rules,
            spawn: Arc::new(OnTokio),
            requests: PhantomData,
        }
    }

    /// Runs renewals by `spawn`; on the tokio runtime of the caller by default.
    pub fn spawn(mut self, spawn: impl Spawn) -> Self {
        self.spawn = Arc::new(spawn);
        self
    }

    /// The entries: settings, figures, invalidation.
    pub fn handle(&self) -> &Store<K::Key, V> {
        &self.store
    }
}

impl<S, Req, K, R, V> Layer<S> for CacheLayer<Req, K, R, V>
where
    S: Service<Req>,
    K: KeyOf<Req> + Clone,
    R: Rules<S::Response, S::Error, Kept = V> + Clone,
    V: Send + Sync + 'static,
{
    type Service = Cache<S, Req, K, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Cache::new(
            inner,
            self.store.clone(),
            self.key.clone(),
            self.rules.clone(),
            Arc::clone(&self.spawn),
        )
    }
}

impl<Req, K: KeyOf<Req> + Clone, R: Clone, V> Clone for CacheLayer<Req, K, R, V> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            key: self.key.clone(),
            rules: self.rules.clone(),
            spawn: Arc::clone(&self.spawn),
            requests: PhantomData,
        }
    }
}

// By hand: closures have no `Debug`.
impl<Req, K: KeyOf<Req>, R, V> fmt::Debug for CacheLayer<Req, K, R, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
