//! The map of a registry by key: read without a lock, copied on change.
//!
//! Entries are spread by hash over shards; a shard is a sorted vector behind an [`ArcSwap`]. A
//! reader borrows the vector and searches it; a writer puts a changed copy in its place. All
//! writers hold the registry's lock, which is what a [`Hand`] borrowed mutably stands for.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash, RandomState},
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::{ArcSwap, Guard};

use crate::primitive::fence;

/// Entries per shard, on average, in a full registry: a copy stays small.
const PER_SHARD: usize = 16;
/// Shards at most; beyond 65 536 keys they grow instead.
const MAX_SHARDS: usize = 4096;
/// Entries looked at to find one that can go.
pub(crate) const LOOKS: usize = 64;

#[derive(Debug)]
pub(crate) struct Entry<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
}

#[derive(Debug)]
pub(crate) struct Slot<K, V> {
    hash: u64,
    pub(crate) entry: Arc<Entry<K, V>>,
}

// By hand: a derive would ask for `K: Clone` and `V: Clone`.
impl<K, V> Clone for Slot<K, V> {
    fn clone(&self) -> Self {
        Self {
            hash: self.hash,
            entry: Arc::clone(&self.entry),
        }
    }
}

/// Sorted by hash.
pub(crate) type Shard<K, V> = Vec<Slot<K, V>>;

/// Where the search for an entry that can go stands.
///
/// It is a hash and not a place: places shift with each entry that comes and goes, and a search
/// that stood at a place would come back to the same few entries and never to the last ones.
#[derive(Debug, Default)]
pub(crate) struct Hand {
    shard: usize,
    /// The entries of the shard below it have been looked at.
    from: u64,
}

/// A borrowed entry.
pub(crate) struct Found<K, V> {
    shard: Guard<Arc<Shard<K, V>>>,
    place: usize,
}

impl<K, V> Deref for Found<K, V> {
    type Target = Entry<K, V>;

    #[inline]
    fn deref(&self) -> &Entry<K, V> {
        // PANIC-FREE: found there, in a vector that never changes.
        &self.shard[self.place].entry
    }
}

#[derive(Debug)]
pub(crate) struct Shards<K, V> {
    shards: Box<[ArcSwap<Shard<K, V>>]>,
    hasher: RandomState,
    len: AtomicUsize,
}

impl<K, V> Shards<K, V> {
    pub(crate) fn new(max: usize) -> Self {
        let count = (max / PER_SHARD).clamp(1, MAX_SHARDS).next_power_of_two();
        Self {
            shards: (0..count).map(|_| ArcSwap::default()).collect(),
            hasher: RandomState::new(),
            len: AtomicUsize::new(0),
        }
    }

    pub(crate) fn len(&self) -> usize {
        // ORDERING: Relaxed, as all accesses of `len`. Writers change it under the lock; other
        // readers are told a number that was right a moment ago.
        self.len.load(Ordering::Relaxed)
    }

    pub(crate) fn hash(&self, key: &(impl Hash + ?Sized)) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The index of a hash's shard. The low bits choose it, the whole hash sorts within it.
    fn index(&self, hash: u64) -> usize {
        // The number of shards is a power of two.
        hash as usize & (self.shards.len() - 1)
    }

    /// The entry of `key`, if there is one. While the answer lives, the entry cannot be evicted.
    #[inline]
    pub(crate) fn find<Q>(&self, hash: u64, key: &Q) -> Option<Found<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        // PANIC-FREE: `index` is below the number of shards.
        let shard = self.shards[self.index(hash)].load();
        let place = place(&shard, hash, key)?;
        Some(Found { shard, place })
    }

    /// How many shards there are.
    pub(crate) fn count(&self) -> usize {
        self.shards.len()
    }

    /// Shard `index` as it is now; while it is held, no entry of it can be evicted. Under the lock,
    /// for an eviction takes entries out that it may put back.
    pub(crate) fn shard(&self, index: usize, _: &mut Hand) -> Arc<Shard<K, V>> {
        self.shards[index].load_full()
    }

    /// Adds an entry whose key is not there yet.
    pub(crate) fn insert(&self, hash: u64, entry: Entry<K, V>, _: &mut Hand) {
        let entry = Arc::new(entry);
        let shard = &self.shards[self.index(hash)];
        let old = shard.load();
        let at = old.partition_point(|slot| slot.hash < hash);
        let mut copy = Vec::with_capacity(old.len() + 1);
        copy.extend_from_slice(&old[..at]);
        copy.push(Slot { hash, entry });
        copy.extend_from_slice(&old[at..]);
        drop(old);
        shard.store(Arc::new(copy));
        self.len.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the entry of `key` out, whoever uses it.
    pub(crate) fn remove<Q>(&self, hash: u64, key: &Q, _: &mut Hand) -> Option<Arc<Entry<K, V>>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let shard = &self.shards[self.index(hash)];
        let old = shard.load();
        let place = place(&old, hash, key)?;
        let entry = Arc::clone(&old[place].entry);
        let copy = without(&old, place);
        drop(old);
        shard.store(Arc::new(copy));
        self.len.fetch_sub(1, Ordering::Relaxed);
        Some(entry)
    }

    /// Takes out one of the next few entries that `can_go`, which is asked again when nobody can
    /// be about to use it any more. The answer is best dropped outside the lock.
    pub(crate) fn evict(
        &self,
        hand: &mut Hand,
        can_go: impl Fn(&Entry<K, V>) -> bool,
    ) -> Option<Arc<Entry<K, V>>> {
        let (mut looks, mut laps) = (LOOKS.min(self.len()), self.shards.len().min(LOOKS));
        while looks > 0 {
            hand.shard &= self.shards.len() - 1;
            let cell = &self.shards[hand.shard];
            let shard = cell.load_full();
            let place = shard.partition_point(|slot| slot.hash < hand.from);
            let Some(slot) = shard.get(place) else {
                if laps == 0 {
                    return None;
                }
                laps -= 1;
                (hand.shard, hand.from) = (hand.shard + 1, 0);
                continue;
            };
            looks -= 1;
            // Of two entries with one hash the second is never looked at: 1 in 2^64.
            match slot.hash.checked_add(1) {
                Some(next) => hand.from = next,
                None => (hand.shard, hand.from) = (hand.shard + 1, 0),
            }
            if can_go(&slot.entry) {
                let copy = without(&shard, place);
                drop(shard);
                if let Some(entry) = take(cell, copy, place, &can_go) {
                    self.len.fetch_sub(1, Ordering::Relaxed);
                    return Some(entry);
                }
            }
        }
        None
    }
}

/// Puts `copy` in the place of the shard, unless the entry at `place` is still used by someone.
///
/// A reader that came before the exchange may be about to clone the entry's value, and it may
/// read this vector or an older one. So the entry is out of reach first; then it is looked whether
/// a vector that has it is still read, and whether a reader that has gone took a handle along; if
/// so, all is put back. Nobody can have missed the entry: who does not find it waits for the lock,
/// and looks again.
fn take<K, V>(
    cell: &ArcSwap<Shard<K, V>>,
    copy: Shard<K, V>,
    place: usize,
    can_go: impl Fn(&Entry<K, V>) -> bool,
) -> Option<Arc<Entry<K, V>>> {
    let mut old = cell.swap(Arc::new(copy));
    // ORDERING: the exchange has turned each reader's debt into a count of the vector it reads, and
    // such a vector is a count of the entry. `get_mut` reads the counts with Acquire. Readers who
    // had gone by then released before; the fence pairs with that, so that `can_go` sees the
    // handles they cloned.
    fence();
    let unread = |shard: &mut Arc<Shard<K, V>>| {
        let slot = Arc::get_mut(shard)?.get_mut(place)?;
        Arc::get_mut(&mut slot.entry).map(|entry| can_go(entry))
    };
    if unread(&mut old) != Some(true) {
        cell.store(old);
        return None;
    }
    // The other entries of the vector must not count as used until it is dropped elsewhere.
    Arc::into_inner(old).map(|mut shard| shard.swap_remove(place).entry)
}

fn without<K, V>(shard: &Shard<K, V>, place: usize) -> Shard<K, V> {
    let mut copy = Vec::with_capacity(shard.len().saturating_sub(1));
    copy.extend_from_slice(&shard[..place]);
    copy.extend_from_slice(&shard[place + 1..]);
    copy
}

fn place<K, V, Q>(shard: &Shard<K, V>, hash: u64, key: &Q) -> Option<usize>
where
    K: Borrow<Q>,
    Q: Eq + ?Sized,
{
    let from = shard.partition_point(|slot| slot.hash < hash);
    let same = shard[from..].iter().take_while(|slot| slot.hash == hash);
    same.enumerate()
        .find(|(_, slot)| slot.entry.key.borrow() == key)
        .map(|(ahead, _)| from + ahead)
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn one_entry() -> (Shards<u32, Arc<str>>, Hand, u64) {
        let (shards, mut hand) = (Shards::new(1), Hand::default());
        let entry = Entry {
            key: 1,
            value: Arc::from("one"),
        };
        let hash = shards.hash(&1);
        shards.insert(hash, entry, &mut hand);
        (shards, hand, hash)
    }

    #[test]
    fn an_entry_that_a_reader_took_up_after_the_first_look_is_put_back() {
        let (shards, mut hand, hash) = one_entry();
        let taken = Cell::new(None);
        let can_go = |entry: &Entry<u32, Arc<str>>| {
            let alone = Arc::strong_count(&entry.value) == 1;
            // A reader comes and goes between the two looks.
            if alone {
                taken.set(shards.find(hash, &1).map(|found| found.value.clone()));
            }
            alone
        };
        assert!(shards.evict(&mut hand, can_go).is_none());
        assert!(taken.take().is_some());
        assert!(shards.find(hash, &1).is_some());
        assert_eq!(shards.len(), 1);
    }

    #[test]
    fn an_entry_that_is_being_read_is_put_back() {
        let (shards, mut hand, hash) = one_entry();
        let reading = shards.find(hash, &1);
        assert!(shards.evict(&mut hand, |_| true).is_none());
        assert!(shards.find(hash, &1).is_some());
        drop(reading);
        assert!(shards.evict(&mut hand, |_| true).is_some());
        assert!(shards.find(hash, &1).is_none());
        assert_eq!(shards.len(), 0);
    }

    // Regression: the readers of the present vector were counted, and not those of one before.
    #[test]
    fn an_entry_that_is_being_read_in_an_older_vector_is_put_back() {
        let (shards, mut hand, hash) = one_entry();
        let reading = shards.find(hash, &1);
        let entry = Entry {
            key: 2,
            value: Arc::from("two"),
        };
        shards.insert(shards.hash(&2), entry, &mut hand);
        for _ in 0..2 {
            assert!(shards.evict(&mut hand, |entry| entry.key == 1).is_none());
        }
        drop(reading);
        assert!(shards.evict(&mut hand, |entry| entry.key == 1).is_some());
    }

    #[test]
    fn what_an_eviction_leaves_behind_keeps_no_other_entry_from_going() {
        let (shards, mut hand) = (Shards::<u32, Arc<str>>::new(3), Hand::default());
        for key in 0..3_u32 {
            let entry = Entry {
                key,
                value: Arc::from("three"),
            };
            shards.insert(shards.hash(&key), entry, &mut hand);
        }
        let evicted: Vec<_> = (0..3).map(|_| shards.evict(&mut hand, |_| true)).collect();
        assert!(evicted.iter().all(Option::is_some));
    }

    // Regression: the search stood at a place, from which the entry that went moved the others up,
    // so that new entries with smaller hashes were evicted again and again, and the last never.
    #[test]
    fn no_entry_is_passed_over_while_others_come_and_go() {
        let (shards, mut hand) = (Shards::<u32, ()>::new(4), Hand::default());
        let put = |hash: u64, key: u32, hand: &mut Hand| {
            shards.insert(hash, Entry { key, value: () }, hand);
        };
        for (hash, key) in [(100, 0), (200, 0), (300, 0), (u64::MAX, 1)] {
            put(hash, key, &mut hand);
        }
        for new in 0..4_u64 {
            assert!(shards.evict(&mut hand, |_| true).is_some());
            put(new, 0, &mut hand);
        }
        assert!(shards.find(u64::MAX, &1).is_none());
    }

    #[test]
    fn the_hand_looks_at_so_many_entries_and_goes_on_from_there() {
        let (shards, mut hand) = (Shards::<u32, Arc<str>>::new(1_000), Hand::default());
        for key in 0..1_000_u32 {
            let entry = Entry {
                key,
                value: Arc::from("many"),
            };
            shards.insert(shards.hash(&key), entry, &mut hand);
        }
        let looked = Cell::new(0);
        let count = |_: &Entry<u32, Arc<str>>| {
            looked.set(looked.get() + 1);
            false
        };
        assert!(shards.evict(&mut hand, count).is_none());
        assert_eq!(looked.get(), LOOKS);
        // Wherever the one is that can go, so many searches find it.
        let searches = (0..1_000).take_while(|_| {
            let found = shards.evict(&mut hand, |entry| entry.key == 777);
            found.is_none()
        });
        assert!(searches.count() <= 1_000 / LOOKS + 1);
        assert!(shards.find(shards.hash(&777), &777).is_none());
    }
}
