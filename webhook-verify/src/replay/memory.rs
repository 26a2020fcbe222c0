//! A bounded replay store in memory.

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use super::{ReplayKey, ReplayStore, Reserve, StoreError, StoreFuture, Times, Token};

/// What a full store does with a delivery it has not seen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Refuses it (503), so that nothing remembered is forgotten early.
    #[default]
    Refuse,
    /// Forgets the entry that ends first in its shard; a replay of that one would pass.
    ForgetOldest,
}

/// A bounded store in the memory of this process.
///
/// Sharded by key; each shard holds an equal part of the capacity. Expiry costs O(1) per
/// call: each call drops at most two ended entries of each kind. Keys of one store should
/// share one lifetime; an entry with a shorter one behind a longer one waits for it.
#[derive(Debug)]
pub struct MemoryReplayStore {
    shards: Box<[Mutex<Shard>]>,
    per_shard: usize,
    when_full: WhenFull,
    next_serial: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    entries: Entries,
    // In order of insertion, which is the order of ends while lease and lifetime stay.
    leases: Queue,
    committed: Queue,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    ends: Duration,
    /// Unlike every other entry's, also of the same key; the token of a reservation.
    serial: u64,
    committed: bool,
}

/// Entries by serial number and key. An item whose entry is gone or newer is a leftover.
#[derive(Debug, Default)]
struct Queue(VecDeque<(u64, ReplayKey)>);

type Entries = HashMap<ReplayKey, Entry>;

impl MemoryReplayStore {
    /// A store of at most `capacity` deliveries (at least 1) that refuses when full.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        // Few entries in many shards would refuse long before the capacity is reached.
        let shards = if capacity >= 1024 { 16 } else { 1 };
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            per_shard: (capacity / shards).max(1),
            when_full: WhenFull::Refuse,
            next_serial: AtomicU64::new(1),
        }
    }

    /// What to do when full.
    #[must_use]
    pub const fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Deliveries held, ended ones that were not dropped yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().entries.len())
            .sum()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: &ReplayKey) -> &Mutex<Shard> {
        // Keys are MACs or hashes: any byte is evenly spread.
        &self.shards[usize::from(key[31]) % self.shards.len()]
    }

    fn try_reserve(&self, key: ReplayKey, times: Times) -> Result<Reserve, StoreError> {
        let mut shard = self.shard(&key).lock();
        shard.drop_ended(times.now);
        if let Some(entry) = shard.entries.get(&key) {
            if times.now < entry.ends {
                return Ok(if entry.committed {
                    Reserve::Duplicate
                } else {
                    Reserve::InFlight(entry.ends.saturating_sub(times.now))
                });
            }
        } else if shard.entries.len() >= self.per_shard {
            match self.when_full {
                WhenFull::Refuse => return Err(StoreError::Full),
                WhenFull::ForgetOldest => shard.forget_oldest(),
            }
        }
        let entry = Entry {
            ends: times.now.saturating_add(times.lease),
            serial: self.serial(),
            committed: false,
        };
        shard.insert(key, entry, self.per_shard);
        Ok(Reserve::Reserved(Token(entry.serial)))
    }

    fn serial(&self) -> u64 {
        // ORDERING: Relaxed. Only the number is used; it is unique in any order.
        self.next_serial.fetch_add(1, Ordering::Relaxed)
    }

    fn try_commit(&self, key: ReplayKey, times: Times) -> Result<(), StoreError> {
        let mut shard = self.shard(&key).lock();
        shard.drop_ended(times.now);
        if !shard.entries.contains_key(&key) && shard.entries.len() >= self.per_shard {
            // The lease ended and the room is taken. The handler has run, so the entry that
            // ends first makes way only when the store was told to forget.
            match self.when_full {
                WhenFull::Refuse => return Err(StoreError::Full),
                WhenFull::ForgetOldest => shard.forget_oldest(),
            }
        }
        let entry = Entry {
            ends: times.now.saturating_add(times.lifetime),
            serial: self.serial(),
            committed: true,
        };
        shard.insert(key, entry, self.per_shard);
        Ok(())
    }
}

impl ReplayStore for MemoryReplayStore {
    fn reserve(&self, key: ReplayKey, times: Times) -> StoreFuture<'_, Reserve> {
        StoreFuture::ready(self.try_reserve(key, times))
    }

    fn commit(&self, key: ReplayKey, _: Token, times: Times) -> StoreFuture<'_, ()> {
        StoreFuture::ready(self.try_commit(key, times))
    }

    fn release(&self, key: ReplayKey, token: Token) {
        let mut shard = self.shard(&key).lock();
        if shard
            .entries
            .get(&key)
            .is_some_and(|entry| !entry.committed && entry.serial == token.0)
        {
            shard.entries.remove(&key);
        }
    }
}

impl Shard {
    fn insert(&mut self, key: ReplayKey, entry: Entry, per_shard: usize) {
        self.entries.insert(key, entry);
        let queue = if entry.committed {
            &mut self.committed
        } else {
            &mut self.leases
        };
        queue.push((entry.serial, key), &self.entries, per_shard);
    }

    fn drop_ended(&mut self, now: Duration) {
        // Two of each: what one call adds and one of the backlog.
        for _ in 0..2 {
            self.leases.drop_front(&mut self.entries, now);
            self.committed.drop_front(&mut self.entries, now);
        }
    }

    fn forget_oldest(&mut self) {
        for queue in [&mut self.committed, &mut self.leases] {
            while let Some((serial, key)) = queue.0.pop_front() {
                if is_current(&self.entries, serial, &key) {
                    self.entries.remove(&key);
                    return;
                }
            }
        }
    }
}

impl Queue {
    /// Adds an item. Leftovers behind one long reservation would pile up, so they are swept
    /// when they are as many as the entries may be; that is O(1) per call on average.
    fn push(&mut self, item: (u64, ReplayKey), entries: &Entries, per_shard: usize) {
        if self.0.len() >= per_shard.saturating_mul(2) {
            self.0
                .retain(|(serial, key)| is_current(entries, *serial, key));
        }
        self.0.push_back(item);
    }

    /// Drops the front item when it is a leftover, or has ended (with its entry).
    fn drop_front(&mut self, entries: &mut Entries, now: Duration) {
        let Some((serial, key)) = self.0.front().copied() else {
            return;
        };
        if is_current(entries, serial, &key) {
            if entries.get(&key).is_some_and(|entry| now < entry.ends) {
                return;
            }
            entries.remove(&key);
        }
        self.0.pop_front();
    }
}

fn is_current(entries: &Entries, serial: u64, key: &ReplayKey) -> bool {
    entries.get(key).is_some_and(|entry| entry.serial == serial)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Times {
        Times {
            now: Duration::from_secs(seconds),
            lease: Duration::from_secs(10),
            lifetime: Duration::from_secs(100),
        }
    }

    fn reserve(store: &MemoryReplayStore, key: u8, seconds: u64) -> Result<Reserve, StoreError> {
        store.reserve([key; 32], at(seconds)).now()
    }

    fn token(answer: Result<Reserve, StoreError>) -> Token {
        match answer {
            Ok(Reserve::Reserved(token)) => token,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_is_free_then_in_flight_then_a_duplicate_then_free() {
        let store = MemoryReplayStore::new(8);
        let first = token(reserve(&store, 1, 0));
        assert_eq!(
            reserve(&store, 1, 4),
            Ok(Reserve::InFlight(Duration::from_secs(6)))
        );
        store.commit([1; 32], first, at(5)).now().unwrap();
        assert_eq!(reserve(&store, 1, 104), Ok(Reserve::Duplicate));
        token(reserve(&store, 1, 105));
    }

    #[test]
    fn a_late_release_does_not_end_a_newer_reservation() {
        let store = MemoryReplayStore::new(8);
        let old = token(reserve(&store, 1, 0));
        let new = token(reserve(&store, 1, 10));
        store.release([1; 32], old);
        assert!(matches!(reserve(&store, 1, 11), Ok(Reserve::InFlight(_))));
        store.release([1; 32], new);
        token(reserve(&store, 1, 11));
    }

    #[test]
    fn a_full_store_refuses_new_keys_and_forgets_nothing() {
        let store = MemoryReplayStore::new(2);
        for key in [1, 2] {
            let held = token(reserve(&store, key, 0));
            store.commit([key; 32], held, at(0)).now().unwrap();
        }
        assert_eq!(reserve(&store, 3, 1), Err(StoreError::Full));
        assert_eq!(reserve(&store, 1, 1), Ok(Reserve::Duplicate));
        token(reserve(&store, 3, 100));
        assert!(store.len() <= 2);
    }

    #[test]
    fn forget_oldest_stays_below_the_cap() {
        let store = MemoryReplayStore::new(4).when_full(WhenFull::ForgetOldest);
        for key in 0..=255 {
            let held = token(reserve(&store, key, 0));
            store.commit([key; 32], held, at(0)).now().unwrap();
            assert!(store.len() <= 4);
        }
        assert_eq!(reserve(&store, 255, 1), Ok(Reserve::Duplicate));
    }

    #[test]
    fn failing_handlers_beside_a_hanging_one_do_not_grow_the_store() {
        let store = MemoryReplayStore::new(8);
        let _hanging = token(reserve(&store, 0, 0));
        for _ in 0..10_000 {
            let held = token(reserve(&store, 1, 1));
            store.release([1; 32], held);
        }
        let shard = store.shards[0].lock();
        assert!(shard.leases.0.len() <= 16 + 1 && shard.committed.0.is_empty());
        assert_eq!(shard.entries.len(), 1);
    }

    #[test]
    fn a_commit_after_the_lease_holds_against_the_release_of_the_next_handler() {
        let store = MemoryReplayStore::new(8);
        let slow = token(reserve(&store, 1, 0));
        let next = token(reserve(&store, 1, 10));
        store.commit([1; 32], slow, at(11)).now().unwrap();
        store.release([1; 32], next);
        assert_eq!(reserve(&store, 1, 50), Ok(Reserve::Duplicate));
    }
}
