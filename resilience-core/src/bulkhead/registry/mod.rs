//! Bulkheads by key, with a hard cap.

mod builder;
mod inner;

use std::{borrow::Borrow, fmt, hash::Hash, sync::Arc, time::Duration};

pub use self::builder::RegistryBuilder;
use self::inner::Inner;
use super::{Bulkhead, Config, OwnedPermit, Priority, Reason, Refused, Waiter};
use crate::clock::SharedClock;

/// A bulkhead per key, made on first use; clones are handles on the same registry.
///
/// It never holds more than [`max`](RegistryBuilder::max) bulkheads. When a new key comes and it is
/// full, one that nobody uses makes room: one without a call that runs or waits, and without a
/// handle outside (a clone in a layer keeps it for good). It has nothing to remember but its
/// settings and its count of refusals, and starts anew when its key comes back, with the settings of
/// the registry.
///
/// If all are in use a new key gets [`Full`], so a flood of keys lets no more calls in than
/// `max` × the limit of each. The search looks at the next 64 bulkheads in turn and goes on from
/// there the next time, so that it costs the same at any size; with more than 64 bulkheads, [`Full`]
/// means that none of those could go.
///
/// What becomes of its bulkheads is told by each of them, to who [subscribed](Bulkhead::subscribe) to it:
/// there is no subscription to all.
///
/// # Concurrency
///
/// The lookup of a key that is there takes no lock and waits for nobody: it reads one small sorted
/// vector. A lookup that finds nothing, a new bulkhead and an eviction take one lock for a few
/// microseconds; callers that ask for the same new key get the same bulkhead. Functions of the user
/// run outside that lock and may use the registry.
///
/// # Examples
///
/// ```
/// use resilience_core::bulkhead::{Config, Priority, Registry};
///
/// let each = Config::builder().limit(2).build()?;
/// let tenants: Registry<String> = Registry::builder(each).max(500).build();
/// let one = tenants.try_acquire_owned("acme")?;
/// let two = tenants.try_acquire_owned("acme")?;
/// assert!(tenants.try_acquire_owned("acme").is_err());
/// assert!(tenants.try_acquire_owned("another").is_ok());
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

impl<K> Registry<K> {
    /// Starts from the defaults; `config` is for each bulkhead.
    pub fn builder(config: Config) -> RegistryBuilder<K> {
        RegistryBuilder::new(config)
    }

    /// Bulkheads held now; never more than [`max`](Self::max).
    pub fn len(&self) -> usize {
        self.inner.shards().len()
    }

    /// Whether no bulkhead is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most bulkheads it ever holds.
    pub fn max(&self) -> usize {
        self.inner.max()
    }

    /// Bulkheads that made room for another, since the registry was made. For metrics.
    pub fn evicted(&self) -> u64 {
        self.inner.evicted()
    }

    /// Lookups that ended in [`Full`], since the registry was made. For metrics.
    pub fn full(&self) -> u64 {
        self.inner.full()
    }

    /// The settings of bulkheads for which there are no others by key.
    pub fn config(&self) -> Config {
        self.inner.config()
    }

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone. For ways
    /// back to one of its bulkheads see [`Bulkhead::downgrade`].
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + use<K> {
        let weak = Arc::downgrade(&self.inner);
        move || weak.upgrade().map(|inner| Self { inner })
    }

    /// The clock of all bulkheads.
    pub fn clock(&self) -> &SharedClock {
        self.inner.clock()
    }

    /// Calls `visit` with each key and bulkhead, in no order and outside any lock. Bulkheads made
    /// meanwhile may be missed; none is evicted while it is visited.
    pub fn for_each(&self, mut visit: impl FnMut(&K, &Bulkhead)) {
        self.inner.each(|entry| visit(&entry.key, &entry.value));
    }

    /// Gives new settings to all bulkheads, present and future ones; a key that has settings of its
    /// own (by [`RegistryBuilder::config_for`], which is asked anew) gets those. Each bulkhead
    /// changes as [`Bulkhead::set_config`] says. Of two changes at once the later stands for all.
    pub fn set_config(&self, config: Config) {
        self.inner.set_config(config);
    }
}

impl<K: Hash + Eq> Registry<K> {
    /// The bulkhead of `key`, made if it is not there.
    ///
    /// The handle keeps the bulkhead from being evicted. For one call,
    /// [`try_acquire_owned`](Self::try_acquire_owned) and
    /// [`enqueue_within`](Self::enqueue_within) are cheaper.
    ///
    /// # Errors
    ///
    /// [`Full`] if the key is new and no bulkhead can go to make room.
    pub fn get<Q>(&self, key: &Q) -> Result<Bulkhead, Full>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.with(key, Bulkhead::clone)
    }

    /// Runs `f` on the bulkhead of `key`, made if it is not there.
    ///
    /// `f` should be short (take a permit); bulkheads of the same shard cannot go while it runs.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[inline]
    pub fn with<Q, T>(&self, key: &Q, f: impl FnOnce(&Bulkhead) -> T) -> Result<T, Full>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let hash = self.inner.shards().hash(key);
        if let Some(found) = self.inner.shards().find(hash, key) {
            return Ok(f(&found.value));
        }
        self.inner
            .find_or_make(hash, key)
            .map(|bulkhead| f(&bulkhead))
    }

    /// [`Bulkhead::try_acquire_owned`] of the bulkhead of `key`.
    ///
    /// # Errors
    ///
    /// As there; [`Reason::KeysFull`] if the key is new and no bulkhead can go to make room.
    #[inline]
    pub fn try_acquire_owned<Q>(&self, key: &Q) -> Result<OwnedPermit, Refused>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.with(key, Bulkhead::try_acquire_owned)?
    }

    /// [`Bulkhead::enqueue_within`] of the bulkhead of `key`.
    ///
    /// # Errors
    ///
    /// As there; [`Reason::KeysFull`] if the key is new and no bulkhead can go to make room.
    pub fn enqueue_within<Q>(
        &self,
        key: &Q,
        priority: Priority,
        left: Option<Duration>,
    ) -> Result<Waiter, Refused>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.with(key, |bulkhead| bulkhead.enqueue_within(priority, left))?
    }

    /// The bulkhead of `key` if it is there. Does not make one.
    pub fn peek<Q>(&self, key: &Q) -> Option<Bulkhead>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let shards = self.inner.shards();
        let hash = shards.hash(key);
        let find = || Some(shards.find(hash, key)?.value.clone());
        find().or_else(|| {
            // An eviction may be about to put it back.
            let _lock = self.inner.lock();
            find()
        })
    }

    /// Takes the bulkhead of `key` out, whoever uses it; handles on it go on working, and calls that
    /// it admitted are not counted by the next one of this key.
    pub fn remove<Q>(&self, key: &Q) -> Option<Bulkhead>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.inner.shards().hash(key);
        let removed = self.inner.remove(hash, key);
        removed.map(|entry| entry.value.clone())
    }
}

/// No room for a new key: the registry holds its most bulkheads, and all those it looked at are in
/// use.
///
/// The key is still the caller's, who may call without a bulkhead, or refuse.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("registry is full: it holds {max} bulkheads, and all are in use")]
#[non_exhaustive]
pub struct Full {
    /// The most bulkheads the registry holds.
    pub max: usize,
}

impl From<Full> for Refused {
    /// [`Reason::KeysFull`]: without a bulkhead no call runs, and none may.
    fn from(_: Full) -> Self {
        Self {
            reason: Reason::KeysFull,
            limit: 0,
            in_flight: 0,
        }
    }
}
