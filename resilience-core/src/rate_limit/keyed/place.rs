//! How a new key finds a place: under the lock of its shard, in a bounded number of looks.

use super::{
    slot::{Slot, tag},
    table::{Home, Shard, Table, WAYS},
};
use crate::primitive::Ordering;

/// Keys looked at when a new key meets the cap and no recovered key in its own places.
const MET: usize = 8;
/// Buckets looked at for them: more than hold so many, unless the table is small.
const SWEPT: usize = 16;
/// Buckets looked at to move keys aside: two, those that their keys may move to, and theirs.
const PATHS: usize = 2 + 2 * WAYS + 2 * WAYS * WAYS;

/// A bucket that a key may move to: which key, of the bucket of which earlier step.
#[derive(Clone, Copy)]
struct Step {
    bucket: usize,
    from: usize,
    way: usize,
}

impl Table {
    /// Stores a new key. Where there is no place at all (its shard is empty and the cap is
    /// reached), it is forgotten at once.
    pub(super) fn store(&self, shard: &mut Shard, home: &Home, id: u64, time: u64, now: u64) {
        match self.room(shard, home, now) {
            Some(slot) => slot.fill(id, time),
            None => shard.evicted_early += 1,
        }
    }

    /// Gives places of the cap back.
    pub(super) fn leave(&self, keys: u64) {
        // ORDERING: Relaxed here and in `enter`. A count that publishes nothing.
        self.keys.fetch_sub(keys, Ordering::Relaxed);
    }

    /// Takes a place of the cap, unless all are taken.
    fn enter(&self) -> bool {
        let mut keys = self.keys.load(Ordering::Relaxed);
        while keys < self.max_keys {
            match self.keys.compare_exchange_weak(
                keys,
                keys + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(seen) => keys = seen,
            }
        }
        false
    }

    /// An empty place for a key, counted in the cap already.
    fn room(&self, shard: &mut Shard, home: &Home, now: u64) -> Option<&Slot> {
        if !self.enter() {
            if let Some(slot) = self.reuse(shard, home, now) {
                return Some(slot);
            }
            let (freed, nearest) = self.sweep(shard, home, now);
            if freed > 0 {
                self.leave(freed - 1);
            } else {
                let own = self.nearest(&self.both(home));
                // Another's place is of use only if one of the key's own is empty.
                let others = nearest.filter(|_| self.vacant(home).is_some());
                evict(shard, nearer(own, others)?);
            }
        }
        if let Some(slot) = self.vacant(home) {
            return Some(slot);
        }
        if let Some(slot) = self.reuse(shard, home, now) {
            self.leave(1);
            return Some(slot);
        }
        if let Some(slot) = self.make_way(home) {
            return Some(slot);
        }
        let slot = self.nearest(&self.both(home))?;
        evict(shard, slot);
        self.leave(1);
        Some(slot)
    }

    /// An empty place in the two buckets of the key.
    fn vacant(&self, home: &Home) -> Option<&Slot> {
        self.slots(&self.both(home)).find(|slot| slot.is_empty())
    }

    /// The place of a recovered key in the two buckets of the key, emptied.
    fn reuse(&self, shard: &mut Shard, home: &Home, now: u64) -> Option<&Slot> {
        self.slots(&self.both(home))
            .find(|slot| drop_recovered(shard, slot, now))
    }

    /// Empties the places of recovered keys among the next few keys in turn. How many, and which
    /// of the others is nearest to its whole burst.
    fn sweep(&self, shard: &mut Shard, home: &Home, now: u64) -> (u64, Option<&Slot>) {
        let (mut met, mut freed, mut nearest) = (0, 0, None);
        for _ in 0..SWEPT.min(self.per_shard) {
            let bucket = self.next(shard, home);
            for slot in self.slots(&[bucket]).filter(|slot| !slot.is_empty()) {
                met += 1;
                if drop_recovered(shard, slot, now) {
                    freed += 1;
                } else {
                    nearest = nearer(nearest, Some(slot));
                }
            }
            if met >= MET {
                break;
            }
        }
        (freed, nearest)
    }

    /// Moves the hand on.
    fn next(&self, shard: &mut Shard, home: &Home) -> usize {
        let bucket = shard.hand % self.per_shard;
        shard.hand = bucket + 1;
        home.shard * self.per_shard + bucket
    }

    /// The key nearest to its whole burst.
    fn nearest(&self, buckets: &[usize]) -> Option<&Slot> {
        self.slots(buckets)
            .filter(|slot| !slot.is_empty())
            .fold(None, |nearest, slot| nearer(nearest, Some(slot)))
    }

    fn slots<'a>(&'a self, buckets: &[usize]) -> impl Iterator<Item = &'a Slot> {
        // PANIC-FREE: all callers keep to the buckets of a shard.
        buckets
            .iter()
            .flat_map(|&bucket| &self.buckets[bucket].slots)
    }

    /// Empties a place in the two buckets of the key by moving others to their other bucket.
    ///
    /// The shortest way is looked for, breadth first.
    fn make_way(&self, home: &Home) -> Option<&Slot> {
        let mut steps = [Step {
            bucket: 0,
            from: 0,
            way: 0,
        }; PATHS];
        let [first, second] = self.both(home);
        steps[0].bucket = first;
        steps[1].bucket = second;
        let mut found = 2;
        let mut at = 0;
        while at < found {
            let here = steps[at].bucket;
            for way in 0..WAYS {
                let slot = &self.buckets[here].slots[way];
                let bucket = self.other(here, tag(slot.id()), home.shard);
                let empty = self.slots(&[bucket]).find(|slot| slot.is_empty());
                if let Some(empty) = empty {
                    slot.move_to(empty);
                    return Some(self.shift(&steps, at, slot));
                }
                if found < PATHS {
                    steps[found] = Step {
                        bucket,
                        from: at,
                        way,
                    };
                    found += 1;
                }
            }
            at += 1;
        }
        None
    }

    /// Moves along the steps that led to `at`, where `empty` is free now.
    ///
    /// No bucket comes twice on such a way, and so no key is moved twice: at the first of both looks
    /// the same empty place would have been found.
    fn shift<'a>(&'a self, steps: &[Step; PATHS], mut at: usize, mut empty: &'a Slot) -> &'a Slot {
        // The first two are the key's own buckets.
        while at >= 2 {
            let Step { from, way, .. } = steps[at];
            let slot = &self.buckets[steps[from].bucket].slots[way];
            slot.move_to(empty);
            empty = slot;
            at = from;
        }
        empty
    }
}

/// Which of two keys is nearer to its whole burst; the first if both are.
fn nearer<'a>(one: Option<&'a Slot>, other: Option<&'a Slot>) -> Option<&'a Slot> {
    [one, other]
        .into_iter()
        .flatten()
        .min_by_key(|slot| slot.word().time())
}

/// Empties the place of a key that has its whole burst back, unless a call comes between.
fn drop_recovered(shard: &mut Shard, slot: &Slot, now: u64) -> bool {
    let word = slot.word();
    if slot.is_empty() || word.time() > now || !slot.freeze_if(word) {
        return false;
    }
    slot.clear();
    shard.full_at = shard.full_at.max(word.time());
    shard.evicted_recovered += 1;
    true
}

fn evict(shard: &mut Shard, slot: &Slot) {
    slot.freeze();
    slot.clear();
    shard.evicted_early += 1;
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::{super::super::Quota, *};

    // Far more than three keys to four places, so that ways are long.
    #[test]
    fn a_key_is_found_wherever_it_was_moved_and_the_count_is_right() {
        let terms = |table: &Table| table.fills.terms(Quota::per_minute(1).unwrap());
        for _ in 0..if cfg!(miri) { 1 } else { 300 } {
            let table = Table::with_buckets(32, 8);
            let (hasher, terms) = (RandomState::new(), terms(&table));
            let hashes: Vec<_> = (0..60).map(|key| hasher.hash_one(key)).collect();
            for (sofar, hash) in hashes.iter().enumerate() {
                table.take(*hash, 1, 1 + sofar as u64, &terms).unwrap();
                let came = &hashes[..=sofar];
                let held = came.iter().filter(|hash| table.look(**hash, 1, &terms) > 0);
                assert_eq!(held.count(), table.len());
                let evicted = table.evicted().1 as usize;
                assert_eq!(table.len(), came.len() - evicted);
            }
        }
    }

    #[test]
    fn wherever_a_new_key_comes_the_nearest_to_recovery_of_a_small_table_goes() {
        let hasher = RandomState::new();
        for new in 0..if cfg!(miri) { 5 } else { 2000 } {
            let table = Table::with_buckets(2, 16);
            let quota = Quota::per_minute(1).unwrap().burst(3).unwrap();
            let terms = table.fills.terms(quota);
            let [spent, other, new] =
                ["spent", "other", "new"].map(|key| hasher.hash_one((key, new)));
            table.take(spent, 3, 1, &terms).unwrap();
            table.take(other, 1, 1, &terms).unwrap();
            table.take(new, 2, 1, &terms).unwrap();
            assert_eq!(table.look(spent, 1, &terms), 1 + 3 * quota.interval());
            assert_eq!(table.look(other, 1, &terms), 0);
            assert_eq!(table.look(new, 1, &terms), 1 + 2 * quota.interval());
        }
    }
}
