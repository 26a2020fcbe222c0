use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::notification::RemovalCause;
use parking_lot::Mutex;
use resilience_core::cache::{Config, ConfigError, Freshness, Stamp};
use resilience_core::clock::{Clock, SharedClock};

use super::counters::{Counters, Snapshot};
use super::index::Index;
use super::jobs::{Jobs, Place};
use super::{Keep, Source};
use crate::coalesce::Coalescing;

/// The entries of a cache; clones are handles on the same ones.
///
/// `V` is what is kept of a result: [`Share::Kept`](crate::coalesce::Share::Kept), such as a
/// `Result<T, E>` or [`http::Kept`](crate::coalesce::http::Kept).
pub struct Store<K, V>(Arc<Inner<K, V>>);

struct Inner<K, V> {
    config: Mutex<Config>,
    clock: SharedClock,
    entries: moka::sync::Cache<K, Arc<Entry<V>>>,
    /// Held by whoever changes entries, so that entries and index agree; readers do not take it.
    index: Mutex<Index<K>>,
    /// Entries that left since the index last heard of it. A lock of its own, for entries leave while
    /// that of the index is held.
    left: Arc<Mutex<Vec<Left<K, V>>>>,
    /// That of the index, for those that join a call.
    generation: AtomicU64,
    ids: AtomicU64,
    coalescing: Coalescing,
    jobs: Jobs,
    counters: Arc<Counters>,
}

type Left<K, V> = (Arc<K>, Arc<Entry<V>>);

/// What is kept of one result.
pub(super) struct Entry<V> {
    pub(super) kept: V,
    pub(super) stamp: Stamp,
    id: u64,
    weight: u32,
    tags: Box<[Arc<str>]>,
    /// When it may be tried to be renewed again, in nanoseconds of the clock.
    next_try: AtomicU64,
}

/// A call under way, which may bring an entry.
pub(super) struct Ticket<K: Hash + Eq + Clone, V> {
    store: Store<K, V>,
    /// In which generation.
    began: u64,
    /// In which order; that of the entry that it brings.
    id: u64,
}

/// What each entry weighs beside what is said of it, for the key, the index and the bookkeeping; the
/// bytes of its tags come on top.
pub const ENTRY: u64 = 256;

/// What the place of a tag takes beside the tag itself.
const PLACE: u64 = 64;

impl<K, V> Store<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// An empty cache on the default clock.
    pub fn new(config: Config) -> Self {
        Self::with_clock(config, SharedClock::default())
    }

    /// An empty cache on a clock of one's own, by which entries age.
    pub fn with_clock(config: Config, clock: impl Into<SharedClock>) -> Self {
        let clock = clock.into();
        let left: Arc<Mutex<Vec<Left<K, V>>>> = Arc::default();
        let counters: Arc<Counters> = Arc::default();
        let (sink, count) = (Arc::clone(&left), Arc::clone(&counters));
        let listener = move |key: Arc<K>, entry: Arc<Entry<V>>, cause: RemovalCause| {
            if cause == RemovalCause::Size {
                count.evicted();
            }
            if !entry.tags.is_empty() {
                sink.lock().push((key, entry));
            }
        };
        let entries = moka::sync::Cache::builder()
            .max_capacity(config.max_weight())
            .weigher(|_, entry: &Arc<Entry<V>>| entry.weight)
            .eviction_listener(listener)
            .build();
        Self(Arc::new(Inner {
            coalescing: Coalescing::with_clock(config.coalesce(), clock.clone()),
            config: Mutex::new(config),
            clock,
            entries,
            index: Mutex::default(),
            left,
            generation: AtomicU64::new(0),
            ids: AtomicU64::new(0),
            jobs: Jobs::default(),
            counters,
        }))
    }

    /// Removes the entry of `key`. A call that began before is not kept when it ends, and nobody
    /// joins it any more.
    pub fn invalidate(&self, key: &K) {
        let mut index = self.0.index.lock();
        let generation = index.invalidate_key(key);
        self.0.set_generation(generation);
        self.0.entries.invalidate(key);
        self.0.settle(&mut index);
    }

    /// Removes all entries with this tag, and says how many there were. What a call brings that began
    /// before is not kept if it has the tag; nobody joins a call that began before.
    ///
    /// Takes time in proportion to the entries of the tag, in which no entry is made.
    pub fn invalidate_tag(&self, tag: &str) -> usize {
        let mut index = self.0.index.lock();
        let (generation, keys) = index.invalidate_tag(tag);
        self.0.set_generation(generation);
        for key in &keys {
            self.0.entries.invalidate(key);
        }
        self.0.settle(&mut index);
        keys.len()
    }

    /// Removes all entries. Calls that began before are not kept when they end, and nobody joins
    /// them any more.
    pub fn invalidate_all(&self) {
        let mut index = self.0.index.lock();
        let generation = index.invalidate_all();
        self.0.set_generation(generation);
        // One by one: the underlying cache would compare times of its own clock.
        for (key, _) in &self.0.entries {
            self.0.entries.invalidate(&*key);
        }
        self.0.settle(&mut index);
    }

    /// The figures of now.
    pub fn snapshot(&self) -> Snapshot {
        let index = self.0.index.lock();
        self.0.entries.run_pending_tasks();
        let (tags, tag_places) = index.size();
        let remembered = index.remembered();
        drop(index);
        Snapshot {
            entries: self.0.entries.entry_count(),
            weight: self.0.entries.weighted_size(),
            tags,
            tag_places,
            remembered,
            renewing: self.0.jobs.running(),
            ..self.0.counters.snapshot()
        }
    }

    /// The entry of `key`, and what it is good for now.
    pub(super) fn look(&self, key: &K) -> Option<(Arc<Entry<V>>, Freshness)> {
        let entry = self.0.entries.get(key)?;
        let freshness = entry.stamp.at(self.now());
        Some((entry, freshness))
    }

    /// A call begins that may bring an entry.
    pub(super) fn begin(&self) -> Ticket<K, V> {
        let (began, id) = {
            let mut index = self.0.index.lock();
            let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
            (index.begin(), id)
        };
        Ticket {
            store: self.clone(),
            began,
            id,
        }
    }

    /// Keeps what a call brought, unless it was invalidated since the call began.
    pub(super) fn put(&self, ticket: &Ticket<K, V>, key: &K, kept: V, weight: u64, keep: Keep) {
        let (config, now) = (self.config(), self.now());
        let Keep {
            terms, mut tags, ..
        } = keep;
        tags.sort_unstable();
        tags.dedup();
        let of_tags = tags.iter().map(|tag| tag.len() as u64 + PLACE).sum();
        let weight = weight.saturating_add(of_tags).saturating_add(ENTRY);
        let fits = weight <= config.max_weight() && tags.len() <= config.max_tags() as usize;
        let (Some(terms), Some(weight)) = (terms, u32::try_from(weight).ok().filter(|_| fits))
        else {
            return self.not_kept(ticket, key);
        };
        let tags = tags.into_boxed_slice();
        let entry = Entry {
            kept,
            stamp: Stamp::new(terms, &config, now),
            id: ticket.id,
            weight,
            tags,
            next_try: AtomicU64::new(0),
        };
        let mut index = self.0.index.lock();
        let current = index.is_current(ticket.began, key, &entry.tags);
        if !current || self.0.has_newer(ticket.id, key) {
            self.0.counters.not_kept();
            return;
        }
        index.add(key, entry.id, &entry.tags);
        self.0.entries.insert(key.clone(), Arc::new(entry));
        self.0.settle(&mut index);
    }

    /// Removes the entry of `key`, which a newer result that is not kept has overtaken.
    pub(super) fn not_kept(&self, ticket: &Ticket<K, V>, key: &K) {
        self.0.counters.not_kept();
        let mut index = self.0.index.lock();
        if !self.0.has_newer(ticket.id, key) {
            self.0.entries.invalidate(key);
            self.0.settle(&mut index);
        }
    }

    /// An entry of `key` that may stand in for an upstream that failed.
    pub(super) fn stand_in(&self, key: &K) -> Option<Arc<Entry<V>>> {
        let entry = self.0.entries.get(key)?;
        entry.stamp.stands_in(self.now()).then_some(entry)
    }
}

impl<K, V> Store<K, V> {
    /// The settings in force.
    pub fn config(&self) -> Config {
        *self.0.config.lock()
    }

    /// Changes the settings, for all handles at once.
    ///
    /// | setting | what becomes of entries and calls |
    /// |---|---|
    /// | `max_weight` | cannot change |
    /// | `stale_while_revalidate`, `stale_if_error` | entries keep what held when they came |
    /// | `revalidation_pause` | from the next failure on |
    /// | `max_revalidations` | those that run go on |
    /// | `max_tags` | from the next entry on |
    /// | `coalesce` | as [`Coalescing::set_config`] |
    ///
    /// # Errors
    ///
    /// `max_weight` is another; nothing is changed then.
    pub fn set_config(&self, config: Config) -> Result<(), ConfigError> {
        let mut current = self.0.config.lock();
        current.may_become(&config)?;
        *current = config;
        self.0.coalescing.set_config(config.coalesce());
        Ok(())
    }

    /// Settings and figures of the calls that share an answer.
    pub fn coalescing(&self) -> &Coalescing {
        &self.0.coalescing
    }

    /// A way back to this handle that keeps nothing alive: `None` once all handles are gone.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + Send + Sync + use<K, V>
    where
        K: Send + Sync + Hash + Eq + 'static,
        V: Send + Sync + 'static,
    {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map(Self)
    }

    pub(super) fn now(&self) -> Duration {
        self.0.clock.now()
    }

    /// The number of invalidations: a call that began before the last one is not joined.
    pub(super) fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    pub(super) fn count(&self, source: Source) {
        self.0.counters.count(source);
    }

    /// A place for a renewal, if one of `entry` may begin now.
    pub(super) fn renew(&self, entry: &Entry<V>) -> Option<Place> {
        let (config, now) = (self.config(), self.now());
        if entry.next_try.load(Ordering::Relaxed) > nanos(now) {
            return None;
        }
        let coalesce = config.coalesce();
        let too_old = |began| coalesce.is_too_old(began, now);
        self.0.jobs.begin(now, config.max_revalidations(), too_old)
    }

    pub(super) fn renewal_began(&self) {
        self.0.counters.renewal();
    }

    /// A renewal of `entry` failed: it is not tried again before.
    pub(super) fn renewal_failed(&self, entry: &Entry<V>, next_try: Duration) {
        // ORDERING: Relaxed. Who does not see it tries once more.
        entry.next_try.store(nanos(next_try), Ordering::Relaxed);
        self.0.counters.renewal_failed();
    }
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static, V: Send + Sync + 'static> Inner<K, V> {
    /// Whether the entry of `key` is of a call that began later.
    fn has_newer(&self, id: u64, key: &K) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.id > id)
    }

    /// Evicts what is above the weight, and tells the index who left.
    fn settle(&self, index: &mut Index<K>) {
        self.entries.run_pending_tasks();
        let left = std::mem::take(&mut *self.left.lock());
        for (key, entry) in left {
            index.remove(&key, entry.id, &entry.tags);
        }
    }

    /// ORDERING: Release, with Acquire in [`Store::generation`]. Who sees the generation of an
    /// invalidation joins no call that began before; under the lock of the index.
    fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
    }
}

impl<K: Hash + Eq + Clone, V> Drop for Ticket<K, V> {
    fn drop(&mut self) {
        self.store.0.index.lock().end(self.began);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl<K, V> Clone for Store<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> fmt::Debug for Store<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("figures", &self.0.counters.snapshot())
            .finish_non_exhaustive()
    }
}
