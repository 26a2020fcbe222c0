//! A limit per key, with a hard cap on keys.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use super::{
    Admitted, Limited, cell,
    quota::{Quota, capped},
};
use crate::clock::SharedClock;

/// Shards at most; each has its own lock.
const SHARDS: usize = 64;
/// Keys looked at to find one to evict.
const LOOKS: usize = 8;

/// A rate limit per key; clones are handles on the same one.
///
/// Never holds more than `max_keys` keys. A new key that finds its shard full takes the place of
/// another: of the next 8 in turn, the first that has its whole burst back (it loses nothing), else
/// the one nearest to it. A key evicted before it recovered starts with its whole burst when it
/// comes back: with too few keys the limiter **fails open** for those, never for keys it holds. Size
/// `max_keys` above the keys seen while a bucket fills. No sweep and no timer; an eviction costs the
/// same at any size. Keys are spread over up to 64 shards that share the cap equally.
#[derive(Debug)]
pub struct KeyedRateLimiter<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for KeyedRateLimiter<K> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

#[derive(Debug)]
struct Inner<K> {
    quota: Quota,
    clock: SharedClock,
    hasher: RandomState,
    shards: Box<[CachePadded<Mutex<Shard<K>>>]>,
}

#[derive(Debug)]
struct Shard<K> {
    places: HashMap<K, usize>,
    slots: Vec<Slot<K>>,
    max: usize,
    hand: usize,
}

#[derive(Debug)]
struct Slot<K> {
    key: K,
    tat: u64,
}

impl<K: Hash + Eq + Clone> KeyedRateLimiter<K> {
    /// A limiter for at most `max_keys` keys (at least 1), on the operating system's clock.
    pub fn new(quota: Quota, max_keys: usize) -> Self {
        Self::with_clock(quota, max_keys, SharedClock::std())
    }

    /// A limiter for at most `max_keys` keys (at least 1), on a clock of one's own.
    pub fn with_clock(quota: Quota, max_keys: usize, clock: impl Into<SharedClock>) -> Self {
        let max_keys = max_keys.max(1);
        // Few keys share one shard, so that uneven spreading does not evict early.
        let count = (max_keys / 64).clamp(1, SHARDS);
        let shard = |index| {
            let max = max_keys / count + usize::from(index < max_keys % count);
            CachePadded::new(Mutex::new(Shard {
                places: HashMap::new(),
                slots: Vec::new(),
                max,
                hand: 0,
            }))
        };
        Self {
            inner: Arc::new(Inner {
                quota,
                clock: clock.into(),
                hasher: RandomState::new(),
                shards: (0..count).map(shard).collect(),
            }),
        }
    }

    /// The quota of each key.
    pub fn quota(&self) -> Quota {
        self.inner.quota
    }

    /// Keys held now.
    pub fn len(&self) -> usize {
        let shards = self.inner.shards.iter();
        shards.map(|shard| shard.lock().slots.len()).sum()
    }

    /// Whether no key is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Admits one call of `key` now or refuses it, at once.
    ///
    /// # Errors
    ///
    /// [`Limited`], with the exact wait.
    pub fn try_acquire(&self, key: &K) -> Result<Admitted, Limited> {
        self.try_acquire_n(key, 1)
    }

    /// Admits a call of `key` of cost `n` now or refuses it, all or nothing.
    ///
    /// # Errors
    ///
    /// [`Limited`], with the exact wait.
    pub fn try_acquire_n(&self, key: &K, n: u32) -> Result<Admitted, Limited> {
        let inner = &*self.inner;
        let now = capped(inner.clock.nanos());
        let hash = inner.hasher.hash_one(key);
        // PANIC-FREE: there is at least one shard, and the remainder is below their number.
        let index = (hash >> 32) as usize % inner.shards.len();
        let mut shard = inner.shards[index].lock();
        if let Some(slot) = shard.find(key) {
            slot.tat = cell::decide(slot.tat, n, now, &inner.quota)?;
            return Ok(cell::admitted(slot.tat, now, &inner.quota));
        }
        // A refused or free call of an unknown key is not worth a place.
        let tat = cell::decide(0, n, now, &inner.quota)?;
        if tat > now {
            shard.insert(key, tat, now);
        }
        Ok(cell::admitted(tat, now, &inner.quota))
    }
}

impl<K: Hash + Eq + Clone> Shard<K> {
    fn find(&mut self, key: &K) -> Option<&mut Slot<K>> {
        let place = *self.places.get(key)?;
        self.slots.get_mut(place)
    }

    fn insert(&mut self, key: &K, tat: u64, now: u64) {
        let slot = Slot {
            key: key.clone(),
            tat,
        };
        let place = self.slots.len();
        if place < self.max {
            self.slots.push(slot);
            self.places.insert(key.clone(), place);
            return;
        }
        let place = self.victim(now);
        // PANIC-FREE: `victim` answers a place below the number of slots, which is `max` ≥ 1.
        let old = std::mem::replace(&mut self.slots[place], slot);
        self.places.remove(&old.key);
        self.places.insert(key.clone(), place);
    }

    /// The first recovered key of the next few in turn, else the one nearest to it.
    fn victim(&mut self, now: u64) -> usize {
        let len = self.slots.len();
        let mut best = self.hand % len;
        for _ in 0..LOOKS.min(len) {
            let place = self.hand % len;
            self.hand = (place + 1) % len;
            if self.slots[place].tat < self.slots[best].tat {
                best = place;
            }
            if self.slots[place].tat <= now {
                return place;
            }
        }
        best
    }
}
