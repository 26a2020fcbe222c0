//! Breakers by key, with a hard cap.

mod builder;
mod inner;

use std::{
    borrow::Borrow,
    fmt::{self, Display},
    hash::Hash,
    sync::Arc,
};

pub use self::builder::RegistryBuilder;
use self::inner::Inner;
use super::{
    CircuitBreaker,
    config::Config,
    events::{Subscription, Transition},
    group::{AnyMember, Member},
    mode::Mode,
};

/// A breaker per key, made on first use; clones are handles on the same registry.
///
/// It never holds more than [`max`](RegistryBuilder::max) breakers. When a new key comes and it is
/// full, one that *can go* makes room. A breaker can go when all of this holds:
///
/// - it is closed, and in the mode that the registry gives to a new one;
/// - nobody outside holds a handle on it or an owned permit (a clone in a layer keeps it for good;
///   a [`Subscription`] does not);
/// - it was not looked up for [`idle_after`](RegistryBuilder::idle_after).
///
/// So an open breaker is never reset by a flood of new keys; they get [`Full`] instead, and what
/// that means for the call is the caller's choice. A breaker that went starts anew when its key
/// comes back: closed, with an empty window and the settings of the registry. What was set up on
/// its handle alone (settings, shadow, subscribers) is gone.
///
/// The search looks at the next 64 breakers in turn and goes on from there the next time, so that
/// it costs the same at any size; with more than 64 breakers, [`Full`] means that none of those
/// could go.
///
/// # Concurrency
///
/// The lookup of a key that is there takes no lock and waits for nobody: it reads one small sorted
/// vector. A lookup that finds nothing, a new breaker and an eviction take one lock for a few
/// microseconds; callers that ask for the same new key get the same breaker. Functions of the user
/// run outside that lock and may use the registry.
///
/// # Examples
///
/// ```
/// use resilience_core::breaker::{Config, Registry};
///
/// let hosts: Registry<String> = Registry::builder(Config::default()).max(500).build();
/// let permit = hosts.with("db-7.internal", |breaker| breaker.try_acquire_owned())??;
/// // … call the host …
/// permit.success();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Registry<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for Registry<K> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<K> fmt::Debug for Registry<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("len", &self.len())
            .field("max", &self.max())
            .finish_non_exhaustive()
    }
}

impl<K: Display + 'static> Registry<K> {
    /// Starts from the defaults; a breaker's name is its key as text.
    pub fn builder(config: Config) -> RegistryBuilder<K> {
        Self::builder_with_names(config, K::to_string)
    }
}

impl<K> Registry<K> {
    /// Starts from the defaults; `name` makes a breaker's name from its key.
    ///
    /// Names need not differ. `name` runs outside any lock, and may run twice for one breaker.
    pub fn builder_with_names(
        config: Config,
        name: impl Fn(&K) -> String + Send + Sync + 'static,
    ) -> RegistryBuilder<K> {
        RegistryBuilder::new(config, Box::new(name))
    }

    /// Breakers held now; never more than [`max`](Self::max).
    pub fn len(&self) -> usize {
        self.inner.shards().len()
    }

    /// Whether no breaker is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most breakers it ever holds.
    pub fn max(&self) -> usize {
        self.inner.max()
    }

    /// Breakers that made room for another, since the registry was made. For metrics.
    pub fn evicted(&self) -> u64 {
        self.inner.evicted()
    }

    /// Lookups that ended in [`Full`], since the registry was made. For metrics.
    pub fn full(&self) -> u64 {
        self.inner.full()
    }

    /// The settings of breakers for which there are no others by key.
    pub fn config(&self) -> Config {
        self.inner.wanted().config
    }

    /// The mode in which breakers begin: the last one given to [`set_mode`](Self::set_mode).
    pub fn mode(&self) -> Mode {
        self.inner.wanted().mode
    }

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + use<K> {
        let weak = Arc::downgrade(&self.inner);
        move || weak.upgrade().map(|inner| Self { inner })
    }

    /// Calls `visit` with each key and breaker, in no order and outside any lock. Breakers made
    /// meanwhile may be missed; none is evicted while it is visited.
    pub fn for_each(&self, mut visit: impl FnMut(&K, &CircuitBreaker)) {
        self.inner
            .each(|entry| visit(&entry.key, &entry.value.breaker));
    }

    /// Calls `callback` after each change of state of any breaker, present and future ones, until
    /// the subscription is dropped; as [`CircuitBreaker::subscribe`] says. A breaker that is
    /// evicted tells nothing: it was closed and begins closed.
    pub fn subscribe(
        &self,
        callback: impl Fn(&Transition) + Send + Sync + 'static,
    ) -> Subscription {
        self.inner.events().subscribe(callback)
    }

    /// Gives new settings to all breakers, present and future ones; a key that has settings of its
    /// own (by [`RegistryBuilder::config_for`], which is asked anew) gets those. Each breaker
    /// changes as [`CircuitBreaker::set_config`] says. Of two changes at once the later stands for
    /// all.
    pub fn set_config(&self, config: Config) {
        self.inner.set_config(config);
    }

    /// Sets the mode of all breakers, present and future ones. A future one begins in it and tells
    /// no subscriber. Present ones are all told, even if one of them panics.
    pub fn set_mode(&self, mode: Mode) {
        self.inner.set_mode(mode);
    }

    /// [Resets](CircuitBreaker::reset) all breakers: closed, with empty windows, automatic.
    pub fn reset(&self) {
        self.inner.reset();
    }

    pub(super) fn member(&self) -> Arc<AnyMember>
    where
        K: Send + Sync + 'static,
    {
        Arc::clone(&self.inner) as Arc<AnyMember>
    }
}

impl<K: Hash + Eq> Registry<K> {
    /// The breaker of `key`, made if it is not there.
    ///
    /// The handle keeps the breaker from being evicted. For one call, [`with`](Self::with) is
    /// cheaper.
    ///
    /// # Errors
    ///
    /// [`Full`] if the key is new and no breaker can go to make room.
    pub fn get<Q>(&self, key: &Q) -> Result<CircuitBreaker, Full>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.with(key, CircuitBreaker::clone)
    }

    /// Runs `f` on the breaker of `key`, made if it is not there; touches no reference count that
    /// callers share.
    ///
    /// `f` should be short (take a permit); breakers of the same shard cannot go while it runs.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[inline]
    pub fn with<Q, T>(&self, key: &Q, f: impl FnOnce(&CircuitBreaker) -> T) -> Result<T, Full>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let hash = self.inner.shards().hash(key);
        if let Some(found) = self.inner.shards().find(hash, key) {
            self.inner.touch(&found);
            return Ok(f(&found.value.breaker));
        }
        self.inner
            .find_or_make(hash, key)
            .map(|breaker| f(&breaker))
    }

    /// The breaker of `key` if it is there. Does not make one, and does not count as use.
    pub fn peek<Q>(&self, key: &Q) -> Option<CircuitBreaker>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let shards = self.inner.shards();
        let hash = shards.hash(key);
        let find = || Some(shards.find(hash, key)?.value.breaker.clone());
        find().or_else(|| {
            // An eviction may be about to put it back.
            let _lock = self.inner.lock();
            find()
        })
    }

    /// Takes the breaker of `key` out, in whatever state; handles on it go on working.
    pub fn remove<Q>(&self, key: &Q) -> Option<CircuitBreaker>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.inner.shards().hash(key);
        let removed = self.inner.remove(hash, key);
        removed.map(|entry| entry.value.breaker.clone())
    }
}

/// No room for a new key: the registry holds its most breakers, and none of those it looked at can
/// go.
///
/// The key is still the caller's, who may call without a breaker, or refuse.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("registry is full: it holds {max} circuit breakers, and none is closed and idle")]
#[non_exhaustive]
pub struct Full {
    /// The most breakers the registry holds.
    pub max: usize,
}
