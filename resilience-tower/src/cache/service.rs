use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use resilience_core::cache::Freshness;
use tower_service::Service;

use super::fill::Fill;
use super::future::{Part, Renewal, Waiting, give};
use super::jobs::Spawn;
use super::store::{Entry, Store};
use super::{Error, ResponseFuture, Rules, Source};
use crate::coalesce::KeyOf;
use crate::coalesce::group::Group;
use crate::coalesce::oneshot::Oneshot;

/// A service whose answers are kept for the next calls with the same key.
///
/// Clones share entries and calls under way. `poll_ready` is always ready: an entry is an answer
/// without the inner service. That which is called is a clone, and polled ready first.
pub struct Cache<S, Req, K, R>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    R: Rules<S::Response, S::Error>,
{
    inner: S,
    key_of: K,
    rules: R,
    store: Store<K::Key, R::Kept>,
    spawn: Arc<dyn Spawn>,
    #[allow(clippy::type_complexity)] // Said once.
    group: Arc<Group<K::Key, Fill<S, Req, K, R>, R::Kept>>,
}

impl<S, Req, K, R> Cache<S, Req, K, R>
where
    S: Service<Req>,
    K: KeyOf<Req>,
    R: Rules<S::Response, S::Error>,
{
    /// See [`CacheLayer`](super::CacheLayer).
    pub fn new(
        inner: S,
        store: Store<K::Key, R::Kept>,
        key: K,
        rules: R,
        spawn: Arc<dyn Spawn>,
    ) -> Self {
        Self {
            inner,
            key_of: key,
            rules,
            group: Arc::new(Group::new(store.coalescing().clone())),
            store,
            spawn,
        }
    }

    /// The entries: settings, figures, invalidation.
    pub fn handle(&self) -> &Store<K::Key, R::Kept> {
        &self.store
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

impl<S, Req, K, R> Cache<S, Req, K, R>
where
    S: Service<Req> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Send + 'static,
    Req: Send + 'static,
    K: KeyOf<Req> + Clone + Send + 'static,
    R: Rules<S::Response, S::Error> + Clone + Send + 'static,
{
    fn part(&self, member: Waiting<S, Req, K, R>, key: K::Key, request: Req) -> Part<S, Req, K, R> {
        Part {
            member,
            start: Some((self.inner.clone(), request)),
            key,
            key_of: self.key_of.clone(),
            rules: self.rules.clone(),
            store: self.store.clone(),
        }
    }

    /// Renews `entry` beside, unless that is under way or was tried a moment ago.
    fn renew(&self, entry: &Arc<Entry<R::Kept>>, key: K::Key, generation: u64, request: Req) {
        let Some(place) = self.store.renew(entry) else {
            return;
        };
        let Some(member) = self.group.begin(key.clone(), generation) else {
            return;
        };
        self.store.renewal_began();
        let mut renewal = Renewal {
            part: self.part(member, key, request),
            place,
            entry: Arc::clone(entry),
        };
        // Nothing in it is pinned in place, but its parts do not say so.
        self.spawn
            .spawn(Box::pin(poll_fn(move |cx| renewal.poll(cx))));
    }
}

impl<S, Req, K, R> Service<Req> for Cache<S, Req, K, R>
where
    S: Service<Req> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Send + 'static,
    Req: Send + 'static,
    K: KeyOf<Req> + Clone + Send + 'static,
    R: Rules<S::Response, S::Error> + Clone + Send + 'static,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S, Req, K, R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let (rules, store) = (&self.rules, &self.store);
        let Some(key) = self.key_of.key_of(&request) else {
            let call = Oneshot::new(self.inner.clone(), request);
            return ResponseFuture::bypass(call, rules.clone(), store.clone());
        };
        // Before the look: who sees no entry because it was invalidated joins no older call.
        let generation = store.generation();
        let seen = store.look(&key);
        let source = match &seen {
            Some((entry, Freshness::Fresh)) => {
                return ResponseFuture::known(give(entry, Source::Hit, rules, store));
            }
            Some((entry, Freshness::Negative)) => {
                return ResponseFuture::known(give(entry, Source::Negative, rules, store));
            }
            Some((entry, Freshness::StaleWhileRevalidate)) => {
                self.renew(entry, key, generation, request);
                return ResponseFuture::known(give(entry, Source::Stale, rules, store));
            }
            Some(_) => Source::Revalidated,
            None => Source::Miss,
        };
        match self.group.join(key.clone(), generation) {
            Ok(member) => ResponseFuture::waiting(self.part(member, key, request), source),
            Err(refused) => ResponseFuture::refused(refused, &key, rules, store),
        }
    }
}

impl<S, Req, K, R> Clone for Cache<S, Req, K, R>
where
    S: Service<Req> + Clone,
    K: KeyOf<Req> + Clone,
    R: Rules<S::Response, S::Error> + Clone,
{
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            key_of: self.key_of.clone(),
            rules: self.rules.clone(),
            store: self.store.clone(),
            spawn: Arc::clone(&self.spawn),
            group: Arc::clone(&self.group),
        }
    }
}

// By hand: closures have no `Debug`.
impl<S, Req, K, R> fmt::Debug for Cache<S, Req, K, R>
where
    S: Service<Req> + fmt::Debug,
    K: KeyOf<Req>,
    R: Rules<S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("inner", &self.inner)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
