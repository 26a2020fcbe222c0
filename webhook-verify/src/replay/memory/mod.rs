//! A bounded replay store in memory.

mod table;

use std::hash::RandomState;

use parking_lot::Mutex;

use self::table::{MAX_SLOTS, Table};
use super::{ReplayKey, ReplayStore, Reserve, StoreFuture, Times, Token};

/// What a full store does with a delivery it has not seen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Refuses it (503), so that nothing remembered is forgotten early.
    #[default]
    Refuse,
    /// Forgets the committed delivery of its shard that ends first; a replay of that one
    /// would pass. A delivery that is being handled is never forgotten: full of those, the
    /// store refuses.
    ForgetOldest,
}

/// A bounded store in the memory of this process.
///
/// Sharded by key: one shard for every 4096 deliveries of capacity up to 64 shards, then
/// larger ones, of 65 535 deliveries at most, each with an equal part of the capacity.
/// Chance fills one shard before the others, so a store of many shards begins to refuse when
/// it is full to 95 to 98 %.
///
/// Memory: 56 bytes per delivery of capacity and 1 KiB per shard. The address space is taken
/// when the store is made, the memory itself (where the system gives it page by page) when
/// it is first used; nothing is allocated later, and no call pays for a table that grows.
///
/// Each call costs O(1), expiry included: it drops at most two ended deliveries of each
/// class of lifetimes. Verifiers with different lifetimes can share a store; a delivery is
/// dropped at the latest by the calls that follow twice its time and a second.
///
/// After a step of the wall clock back, deliveries last longer by that step; after one
/// forward, shorter, as the timestamps of the deliveries themselves do.
///
/// # Concurrency
/// One short lock per shard, never held across an await. Of any number of threads that
/// reserve one key at once, one gets it.
pub struct MemoryReplayStore {
    shards: Box<[Mutex<Table>]>,
    when_full: WhenFull,
    hasher: RandomState,
}

/// A slot of a shard's table and its part of a bucket.
const BYTES_PER_DELIVERY: usize = 56;

/// Far more than threads that could meet.
const ENOUGH_SHARDS: usize = 64;
/// Small shards fill unevenly: of 16 shards, the fullest one is full when the store is at
/// 81 % with 64 deliveries each, and at 97 % with 4096 (medians of a simulation).
const LEAST_PER_SHARD: usize = 4096;

impl MemoryReplayStore {
    /// A store of at most `capacity` deliveries (at least 1) that refuses when full.
    ///
    /// # Panics
    /// When the address space cannot hold 56 bytes for each delivery.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let count = (capacity / LEAST_PER_SHARD)
            .clamp(1, ENOUGH_SHARDS)
            .max(capacity.div_ceil(MAX_SLOTS));
        let hasher = RandomState::new();
        let shards = (0..count).map(|shard| {
            // The first ones take what does not divide.
            let slots = capacity / count + usize::from(shard < capacity % count);
            Mutex::new(Table::new(slots.max(1), hasher.clone()))
        });
        Self {
            shards: shards.collect(),
            when_full: WhenFull::Refuse,
            hasher,
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
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn hash(&self, key: &ReplayKey) -> u64 {
        table::hash(&self.hasher, key)
    }

    fn shard(&self, hash: u64) -> &Mutex<Table> {
        // PANIC-FREE: the product's upper half is below the count.
        &self.shards[(((hash >> 32) * self.shards.len() as u64) >> 32) as usize]
    }

    const fn forgets(&self) -> bool {
        matches!(self.when_full, WhenFull::ForgetOldest)
    }
}

impl ReplayStore for MemoryReplayStore {
    fn reserve(&self, key: ReplayKey, times: Times) -> StoreFuture<'_, Reserve> {
        let hash = self.hash(&key);
        let mut shard = self.shard(hash).lock();
        StoreFuture::ready(shard.reserve((hash, key), times, self.forgets()))
    }

    fn commit(&self, key: ReplayKey, _: Token, times: Times) -> StoreFuture<'_, ()> {
        let hash = self.hash(&key);
        let mut shard = self.shard(hash).lock();
        StoreFuture::ready(shard.commit((hash, key), times, self.forgets()))
    }

    fn release(&self, key: ReplayKey, token: Token) {
        let hash = self.hash(&key);
        self.shard(hash).lock().release((hash, key), token);
    }
}

impl std::fmt::Debug for MemoryReplayStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryReplayStore")
            .field("shards", &self.shards.len())
            .field("when_full", &self.when_full)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::replay::StoreError;

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
    fn a_reservation_is_never_forgotten() {
        let store = MemoryReplayStore::new(2).when_full(WhenFull::ForgetOldest);
        token(reserve(&store, 1, 0));
        token(reserve(&store, 2, 0));
        assert_eq!(reserve(&store, 3, 1), Err(StoreError::Full));
        assert!(matches!(reserve(&store, 1, 1), Ok(Reserve::InFlight(_))));
    }

    #[test]
    fn a_short_lifetime_does_not_wait_behind_a_long_one() {
        let store = MemoryReplayStore::new(2);
        let of = |lifetime| Times {
            lifetime: Duration::from_secs(lifetime),
            ..at(0)
        };
        for (key, lifetime) in [(1, 86_400), (2, 600)] {
            let held = token(reserve(&store, key, 0));
            let times = of(lifetime);
            store.commit([key; 32], held, times).now().unwrap();
        }
        assert_eq!(reserve(&store, 3, 599), Err(StoreError::Full));
        token(reserve(&store, 3, 600));
    }

    #[test]
    fn nothing_ends_before_its_last_nanosecond() {
        let store = MemoryReplayStore::new(8);
        let times = Times {
            now: Duration::from_nanos(1),
            ..at(0)
        };
        token(store.reserve([1; 32], times).now());
        let last = Times {
            now: Duration::from_secs(10),
            ..at(0)
        };
        let left = store.reserve([1; 32], last).now();
        assert!(matches!(left, Ok(Reserve::InFlight(left)) if !left.is_zero()));
    }

    #[test]
    fn times_at_the_end_of_the_range_do_not_overflow() {
        let store = MemoryReplayStore::new(8);
        let far = Times {
            now: Duration::MAX,
            lease: Duration::MAX,
            lifetime: Duration::MAX,
        };
        let held = token(store.reserve([1; 32], far).now());
        store.commit([1; 32], held, far).now().unwrap();
        let held = token(
            store
                .reserve(
                    [2; 32],
                    Times {
                        now: Duration::ZERO,
                        ..far
                    },
                )
                .now(),
        );
        store.commit([2; 32], held, far).now().unwrap();
        assert_eq!(reserve(&store, 2, 1 << 40), Ok(Reserve::Duplicate));
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
