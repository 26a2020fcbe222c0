//! The table: buckets of four places, each one cache line; two of them may hold a key.

use std::fmt;

use crossbeam_utils::CachePadded;

use super::{
    super::{Admitted, Limited, cell},
    fills::{Fills, Terms},
    lock::{Guard, Lock},
    slot::{Slot, tag},
};
use crate::primitive::{AtomicU64, Ordering};

/// Places in a bucket: a cache line. Fewer under the model checker, to keep its models small.
pub(super) const WAYS: usize = if cfg!(resilience_loom) { 1 } else { 4 };
/// Shards at most; each has its own lock.
const SHARDS: usize = 64;
/// Buckets in a shard, if there are several: so many that the keys spread evenly.
const SHARD_BUCKETS: usize = 1024;
/// Keys at most: 268 million, in 5.7 GB.
const MOST_KEYS: usize = 1 << 28;

#[repr(align(64))]
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) slots: [Slot; WAYS],
}

impl Bucket {
    /// All places are looked at, without a branch for each: which one it is cannot be predicted.
    #[inline]
    fn find(&self, is_it: impl Fn(&Slot) -> bool) -> Option<&Slot> {
        let found = (0..WAYS).fold(0_usize, |found, way| {
            found | usize::from(is_it(&self.slots[way])) << way
        });
        self.slots.get(found.trailing_zeros() as usize)
    }
}

/// What the lock of a shard guards, beside the ids of its places.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// The bucket that is swept next.
    pub(super) hand: usize,
    /// The latest time at which an evicted key was full. A key that is not held starts with its
    /// whole burst at this time, so that a clock that steps back gives it no credit.
    pub(super) full_at: u64,
    pub(super) evicted_recovered: u64,
    pub(super) evicted_early: u64,
}

pub(super) struct Table {
    pub(super) buckets: Box<[Bucket]>,
    shards: Box<[CachePadded<Lock<Shard>>]>,
    /// Buckets of a shard; even.
    pub(super) per_shard: usize,
    pub(super) fills: Fills,
    /// Places taken or about to be.
    pub(super) keys: CachePadded<AtomicU64>,
    pub(super) max_keys: u64,
}

/// Where a key may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Home {
    tag: u64,
    pub(super) shard: usize,
    first: usize,
}

impl Table {
    pub(super) fn new(max_keys: usize) -> Self {
        let max_keys = max_keys.clamp(1, MOST_KEYS);
        Self::with_buckets(max_keys, buckets(max_keys))
    }

    pub(super) fn with_buckets(max_keys: usize, buckets: usize) -> Self {
        let shards = (buckets / SHARD_BUCKETS).clamp(1, SHARDS);
        // A power of two, as `home` asks for.
        let shards = 1 << shards.ilog2();
        let per_shard = buckets.div_ceil(shards).next_multiple_of(2);
        let bucket = |_| Bucket {
            slots: std::array::from_fn(|_| Slot::new()),
        };
        let shard = |_| CachePadded::new(Lock::new(Shard::default()));
        Self {
            buckets: (0..shards * per_shard).map(bucket).collect(),
            shards: (0..shards).map(shard).collect(),
            per_shard,
            fills: Fills::new(),
            keys: CachePadded::new(AtomicU64::new(0)),
            max_keys: max_keys as u64,
        }
    }

    /// Decides a call of the key with this hash.
    #[inline]
    pub(super) fn take(
        &self,
        hash: u64,
        n: u32,
        now: u64,
        terms: &Terms,
    ) -> Result<Admitted, Limited> {
        let home = self.home(hash);
        let id = home.tag | terms.code;
        // Not `None` as well as not found: the slow path looks again, under the lock.
        let hit = self
            .find(&home, |slot| slot.holds(id))
            .and_then(|slot| slot.take(id, n, now, &terms.quota));
        match hit {
            Some(answer) => answer,
            None => self.take_slowly(&home, n, now, terms),
        }
    }

    #[cold]
    #[inline(never)]
    fn take_slowly(
        &self,
        home: &Home,
        n: u32,
        now: u64,
        terms: &Terms,
    ) -> Result<Admitted, Limited> {
        let mut shard = self.lock(home);
        let id = home.tag | terms.code;
        if let Some(slot) = self.held(home) {
            slot.convert(now, terms, &self.fills);
            // Under the lock nothing is frozen, so there is an answer.
            if let Some(answer) = slot.take(id, n, now, &terms.quota) {
                return answer;
            }
        }
        let time = cell::decide(shard.full_at, n, now, &terms.quota)?;
        // A call that is refused, or free, is not worth a place.
        if n > 0 {
            self.store(&mut shard, home, id, time, now);
        }
        Ok(cell::admitted(time, now, &terms.quota))
    }

    /// Gives filling time back to a key, if it is held.
    pub(super) fn give_back(&self, hash: u64, nanos: u64, now: u64, terms: &Terms) {
        let home = self.home(hash);
        let id = home.tag | terms.code;
        let found = self.find(&home, |slot| slot.holds(id));
        if found.is_some_and(|slot| slot.give_back(id, nanos, now).is_some()) {
            return;
        }
        let _shard = self.lock(&home);
        if let Some(slot) = self.held(&home) {
            slot.convert(now, terms, &self.fills);
            slot.give_back(id, nanos, now);
        }
    }

    /// When the bucket of a key is full again.
    pub(super) fn look(&self, hash: u64, now: u64, terms: &Terms) -> u64 {
        let home = self.home(hash);
        let look = |slot: &Slot| slot.look(home.tag, now, terms, &self.fills);
        let found = self.find(&home, |slot| slot.has_tag(home.tag));
        if let Some(time) = found.and_then(look) {
            return time;
        }
        let shard = self.lock(&home);
        self.held(&home).and_then(look).unwrap_or(shard.full_at)
    }

    /// Forgets a key; whether it was held.
    pub(super) fn remove(&self, hash: u64) -> bool {
        let home = self.home(hash);
        let _shard = self.lock(&home);
        let Some(slot) = self.held(&home) else {
            return false;
        };
        slot.freeze();
        slot.clear();
        self.leave(1);
        true
    }

    /// Keys held; never above the cap.
    pub(super) fn len(&self) -> usize {
        // ORDERING: Relaxed. A count that publishes nothing.
        self.keys.load(Ordering::Relaxed) as usize
    }

    /// Keys evicted so far: recovered ones, and others.
    pub(super) fn evicted(&self) -> (u64, u64) {
        self.shards
            .iter()
            .fold((0, 0), |(recovered, early), shard| {
                let shard = shard.lock();
                (
                    recovered + shard.evicted_recovered,
                    early + shard.evicted_early,
                )
            })
    }

    fn lock(&self, home: &Home) -> Guard<'_, Shard> {
        // PANIC-FREE: `home` keeps to the number of shards.
        self.shards[home.shard].lock()
    }

    /// The place of a key, by the lock of its shard.
    fn held(&self, home: &Home) -> Option<&Slot> {
        self.find(home, |slot| slot.has_tag(home.tag))
    }

    /// The first place, of the key's two buckets, of which `is_it` holds.
    #[inline]
    fn find(&self, home: &Home, is_it: impl Fn(&Slot) -> bool) -> Option<&Slot> {
        // PANIC-FREE: `home` and `other` keep to the buckets of the shard.
        self.buckets[home.first]
            .find(&is_it)
            .or_else(|| self.buckets[self.other(home.first, home.tag, home.shard)].find(&is_it))
    }

    /// Tag, shard and first bucket; bits that the tag does not hold choose the latter two, so that
    /// keys of the same tag seldom meet.
    #[inline]
    fn home(&self, hash: u64) -> Home {
        let shard = hash as usize & (self.shards.len() - 1);
        // The product's upper half depends on all bits of the hash (the golden ratio is as good an
        // odd factor as any).
        let spread = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let first = ((spread * self.per_shard as u64) >> 32) as usize;
        Home {
            tag: tag(hash),
            shard,
            first: shard * self.per_shard + first,
        }
    }

    /// The two buckets of a key.
    pub(super) fn both(&self, home: &Home) -> [usize; 2] {
        [home.first, self.other(home.first, home.tag, home.shard)]
    }

    /// The other bucket of the key with this tag; the other's other is this one.
    ///
    /// Their numbers sum up to an odd one, modulo an even one; so they never are the same.
    #[inline]
    pub(super) fn other(&self, bucket: usize, tag: u64, shard: usize) -> usize {
        let base = shard * self.per_shard;
        let half = self.per_shard as u64 / 2;
        let sum = (((tag >> 32) * half) >> 32) as usize * 2 + 1;
        let other = sum + self.per_shard - (bucket - base);
        base + if other >= self.per_shard {
            other - self.per_shard
        } else {
            other
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("keys", &self.len())
            .field("max_keys", &self.max_keys)
            .finish_non_exhaustive()
    }
}

/// Buckets for so many keys: three keys to four places.
///
/// Few keys get more places: with two buckets to choose from, small tables overflow sooner. Up to
/// eight keys have all places to choose from.
fn buckets(max_keys: usize) -> usize {
    if max_keys <= 8 {
        return 2;
    }
    (max_keys * 2 / 3).clamp(16, 64).max(max_keys.div_ceil(3))
}
