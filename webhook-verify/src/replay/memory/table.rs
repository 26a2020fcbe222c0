//! One shard: the entries, their index and the order in which they end.
//!
//! An entry lies in one slot, has a mark in a bucket and is on one linked list: the queue of
//! entries that end about when it does. Slots never move, so marks and list are made of slot
//! numbers, and nothing is allocated after [`Table::new`].
//!
//! A bucket is one cache line of marks, which carry 16 bits of each key's hash. All of a large
//! store is too far for a cache: a call waits for the line of its bucket and for the slot that
//! it looks for; for a key that is new, for no slot. A mark whose bucket is full lies in the
//! next one that is not, and each bucket counts the marks that passed it by.
//!
//! Queues are by kind (reserved, committed) and by the power of two of the seconds an entry
//! lasts. In one queue an entry waits behind another for no longer than it lasts itself
//! (and a second), whatever lifetimes the verifiers have that share a store. Without such
//! classes, one lifetime of a day would hold back every lifetime of a minute behind it.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use crate::replay::{ReplayKey, Reserve, StoreError, Times, Token};

/// Slot `n - 1`, or nothing for 0, so that memory fresh from the system is an empty index.
type Link = u16;

const NOTHING: Link = 0;

/// The most slots one shard can number.
pub(super) const MAX_SLOTS: usize = Link::MAX as usize;

const CLASSES: usize = 32;
/// Queues of reserved entries come first, those of committed ones after them.
const QUEUES: usize = 2 * CLASSES;
const COMMITTED: u64 = u64::MAX << CLASSES;
const QUEUE_BITS: u32 = QUEUES.trailing_zeros();

/// Ended entries that one call drops of each queue: what the call may add, and one of the
/// backlog.
const DROPS: usize = 2;

pub(super) struct Table {
    /// The buckets, behind as many numbers as their alignment needs.
    marks: Box<[Mark]>,
    unaligned: usize,
    capacity: usize,
    /// Grows within what was reserved when the table was made.
    slots: Vec<Slot>,
    /// Slots given back, linked by `after`.
    free: Link,
    held: usize,
    /// Of the latest reservation. It wraps: a token is mistaken for another one only after
    /// exactly 2^32 reservations of this shard, the last of them of the same key.
    serial: u32,
    /// A bit for each queue that is not empty.
    occupied: u64,
    queues: [Queue; QUEUES],
    // Keys are hashed again, with a seed of this process: a sender chooses its own ids, and
    // could search for ones that meet in one bucket.
    hasher: RandomState,
}

struct Slot {
    key: ReplayKey,
    due: Due,
    serial: u32,
    before: Link,
    after: Link,
}

// The promise of the store's documentation: a slot and its part of a bucket.
const _: () = assert!(
    size_of::<Slot>() + size_of::<Bucket>() / SLOTS_PER_BUCKET == super::BYTES_PER_DELIVERY
);

/// `[lower bits of the key's hash: 16 | link: 16]`. A bare number, of which the system
/// gives zeroed pages that cost nothing until they are used.
type Mark = u32;

const fn mark(hash: u64, link: Link) -> Mark {
    (hash as u32) << Link::BITS | link as u32
}

const fn link_of(mark: Mark) -> Link {
    mark as Link
}

/// Whether `mark` may be of a key with this hash.
const fn may_be(mark: Mark, hash: u64) -> bool {
    (mark >> Link::BITS) as u16 == hash as u16
}

/// Fifteen marks, and how many of keys that belong here or before lie in a later bucket.
type Bucket = [Mark; MARKS];

const MARKS: usize = 16;
const PASSED: usize = MARKS - 1;

/// Twice as many marks as slots, nearly: of buckets for eight, one of 120 is full.
const SLOTS_PER_BUCKET: usize = 8;

/// `[end in ms since the Unix epoch: 58 | queue: 6]`
#[derive(Clone, Copy)]
struct Due(u64);

#[derive(Clone, Copy)]
struct Queue {
    front: Link,
    back: Link,
    /// When the front ends (so that looking costs no access to its slot); never if empty.
    front_ends: u64,
}

impl Table {
    pub(super) fn new(slots: usize, hasher: RandomState) -> Self {
        let buckets = slots.div_ceil(SLOTS_PER_BUCKET);
        let marks = vec![0; (buckets + 1) * MARKS];
        let unaligned = marks.as_ptr().align_offset(size_of::<Bucket>());
        Self {
            marks: marks.into_boxed_slice(),
            // Unless the offset cannot be known (under Miri), which costs time only.
            unaligned: unaligned.min(MARKS - 1),
            capacity: slots,
            slots: Vec::with_capacity(slots),
            free: 0,
            held: 0,
            serial: 0,
            occupied: 0,
            queues: [Queue::EMPTY; QUEUES],
            hasher,
        }
    }

    /// Entries held, ended ones included.
    pub(super) const fn len(&self) -> usize {
        self.held
    }

    /// `forget`: whether a committed entry makes way when there is no room.
    pub(super) fn reserve(
        &mut self,
        (hash, key): (u64, ReplayKey),
        times: Times,
        forget: bool,
    ) -> Result<Reserve, StoreError> {
        let now = whole_ms(times.now);
        // Before ended entries are dropped, so that the processor fetches both buckets at once.
        let mut found = self.find(hash, &key);
        let ended = found.is_some_and(|link| self.slot(link).due.ends() <= now);
        self.drop_ended(now);
        if ended {
            found = self.find(hash, &key);
        }
        let link = match found {
            None => self.take_slot(hash, key, forget)?,
            Some(link) => {
                let due = self.slot(link).due;
                if now < due.ends() {
                    return Ok(if due.is_committed() {
                        Reserve::Duplicate
                    } else {
                        Reserve::InFlight(Duration::from_millis(due.ends() - now))
                    });
                }
                self.leave_queue(link);
                link
            }
        };
        self.serial = self.serial.wrapping_add(1);
        self.slot_mut(link).serial = self.serial;
        let ends = end_of(times.now, times.lease);
        self.join_queue(link, Due::new(ends, class_of(times.lease)));
        Ok(Reserve::Reserved(Token(self.serial.into())))
    }

    /// Never shortens what is remembered.
    pub(super) fn commit(
        &mut self,
        (hash, key): (u64, ReplayKey),
        times: Times,
        forget: bool,
    ) -> Result<(), StoreError> {
        self.drop_ended(whole_ms(times.now));
        let mut ends = end_of(times.now, times.lifetime);
        let link = match self.find(hash, &key) {
            // The lease ended and the room is taken.
            None => self.take_slot(hash, key, forget)?,
            Some(link) => {
                let due = self.slot(link).due;
                if due.is_committed() {
                    ends = ends.max(due.ends());
                }
                self.leave_queue(link);
                link
            }
        };
        self.join_queue(link, Due::new(ends, CLASSES + class_of(times.lifetime)));
        Ok(())
    }

    pub(super) fn release(&mut self, (hash, key): (u64, ReplayKey), token: Token) {
        let Some(link) = self.find(hash, &key) else {
            return;
        };
        let slot = self.slot(link);
        if !slot.due.is_committed() && u64::from(slot.serial) == token.0 {
            self.remove(link, hash);
        }
    }

    fn drop_ended(&mut self, now: u64) {
        let mut left = self.occupied;
        while left != 0 {
            let queue = left.trailing_zeros() as usize;
            left &= left - 1;
            for _ in 0..DROPS {
                if now < self.queues[queue].front_ends {
                    break;
                }
                self.drop_front(queue);
            }
        }
    }

    /// The queue must not be empty.
    fn drop_front(&mut self, queue: usize) {
        let link = self.queues[queue].front;
        let hash = hash(&self.hasher, &self.slot(link).key);
        self.remove(link, hash);
    }

    /// Forgets the committed entry that ends first. A reservation is never forgotten: its
    /// handler is running, and another one must not start beside it.
    fn forget_one(&mut self) -> Result<(), StoreError> {
        let first = (CLASSES..QUEUES)
            .filter(|queue| self.occupied & COMMITTED & (1 << queue) != 0)
            .min_by_key(|queue| self.queues[*queue].front_ends)
            .ok_or(StoreError::Full)?;
        self.drop_front(first);
        Ok(())
    }

    fn find(&self, hash: u64, key: &ReplayKey) -> Option<Link> {
        let mut bucket = self.home(hash);
        for _ in 0..self.buckets().len() {
            let marks = &self.buckets()[bucket];
            // Without a branch for each, which the compiler turns into few instructions.
            let mut maybe = marks.iter().enumerate().fold(0_u32, |all, (i, mark)| {
                all | u32::from(may_be(*mark, hash)) << i
            });
            maybe &= (1 << PASSED) - 1;
            while maybe != 0 {
                let link = link_of(marks[maybe.trailing_zeros() as usize]);
                if link != NOTHING && self.slot(link).key == *key {
                    return Some(link);
                }
                maybe &= maybe - 1;
            }
            if marks[PASSED] == 0 {
                break;
            }
            bucket = self.next(bucket);
        }
        None
    }

    /// A slot for a key that has none; it has a mark and is in no queue.
    fn take_slot(&mut self, hash: u64, key: ReplayKey, forget: bool) -> Result<Link, StoreError> {
        if self.held >= self.capacity {
            if !forget {
                return Err(StoreError::Full);
            }
            self.forget_one()?;
        }
        let slot = Slot {
            key,
            due: Due(0),
            serial: 0,
            before: NOTHING,
            after: NOTHING,
        };
        let link = match self.free {
            NOTHING => {
                self.slots.push(slot);
                // Never more slots than `MAX_SLOTS`, so none is cut off.
                self.slots.len() as Link
            }
            link => {
                self.free = self.slot(link).after;
                *self.slot_mut(link) = slot;
                link
            }
        };
        self.replace_mark(hash, 0, mark(hash, link), |passed| passed + 1);
        self.held += 1;
        Ok(link)
    }

    /// The slot must be in its queue.
    fn remove(&mut self, link: Link, hash: u64) {
        self.leave_queue(link);
        self.replace_mark(hash, mark(hash, link), 0, |passed| passed - 1);
        self.slot_mut(link).after = self.free;
        self.free = link;
        self.held -= 1;
    }

    /// Replaces the first `old` from the bucket of `hash` on, which must be there: there are
    /// more places for marks than slots. Counts at each bucket without it.
    fn replace_mark(&mut self, hash: u64, old: Mark, new: Mark, count: impl Fn(u32) -> u32) {
        let mut bucket = self.home(hash);
        for _ in 0..self.buckets().len() {
            let marks = &mut self.buckets_mut()[bucket];
            if let Some(place) = marks[..PASSED].iter_mut().find(|mark| **mark == old) {
                *place = new;
                return;
            }
            marks[PASSED] = count(marks[PASSED]);
            bucket = self.next(bucket);
        }
    }

    fn join_queue(&mut self, link: Link, due: Due) {
        let index = due.queue();
        let back = self.queues[index].back;
        let slot = self.slot_mut(link);
        slot.due = due;
        slot.before = back;
        slot.after = NOTHING;
        let queue = &mut self.queues[index];
        queue.back = link;
        if back == NOTHING {
            queue.front = link;
            queue.front_ends = due.ends();
            self.occupied |= 1 << index;
        } else {
            self.slot_mut(back).after = link;
        }
    }

    fn leave_queue(&mut self, link: Link) {
        let slot = self.slot(link);
        let (due, before, after) = (slot.due, slot.before, slot.after);
        let index = due.queue();
        if after == NOTHING {
            self.queues[index].back = before;
        } else {
            self.slot_mut(after).before = before;
        }
        if before == NOTHING {
            self.queues[index].front = after;
            self.queues[index].front_ends = match after {
                NOTHING => u64::MAX,
                after => self.slot(after).due.ends(),
            };
        } else {
            self.slot_mut(before).after = after;
        }
        if self.queues[index].front == NOTHING {
            self.occupied &= !(1 << index);
        }
    }

    /// The bucket of a key. Multiplies in place of a remainder. The upper bits of the lower half
    /// decide, as the upper half chooses the shard, and the lowest ones are those of the marks.
    fn home(&self, hash: u64) -> usize {
        let low = hash & u64::from(u32::MAX);
        ((low * self.buckets().len() as u64) >> 32) as usize
    }

    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 < self.buckets().len() {
            bucket + 1
        } else {
            0
        }
    }

    // PANIC-FREE: there is one bucket more than needed, and less than one is left out.
    fn buckets(&self) -> &[Bucket] {
        self.marks[self.unaligned..].as_chunks().0
    }

    fn buckets_mut(&mut self) -> &mut [Bucket] {
        self.marks[self.unaligned..].as_chunks_mut().0
    }

    // PANIC-FREE: links come from `take_slot` and slots are never taken away.
    fn slot(&self, link: Link) -> &Slot {
        &self.slots[usize::from(link) - 1]
    }

    fn slot_mut(&mut self, link: Link) -> &mut Slot {
        &mut self.slots[usize::from(link) - 1]
    }
}

impl Due {
    fn new(ends: u64, queue: usize) -> Self {
        Self((ends << QUEUE_BITS) | queue as u64)
    }

    const fn ends(self) -> u64 {
        self.0 >> QUEUE_BITS
    }

    const fn queue(self) -> usize {
        (self.0 & (QUEUES as u64 - 1)) as usize
    }

    const fn is_committed(self) -> bool {
        self.queue() >= CLASSES
    }
}

impl Queue {
    const EMPTY: Self = Self {
        front: NOTHING,
        back: NOTHING,
        front_ends: u64::MAX,
    };
}

/// Whole milliseconds, rounded down: the present is never judged too late.
fn whole_ms(at: Duration) -> u64 {
    within_due(at.as_secs(), at.subsec_millis())
}

/// Rounded up, so that nothing ends early.
fn end_of(now: Duration, lasts: Duration) -> u64 {
    let end = now.saturating_add(lasts);
    within_due(end.as_secs(), end.subsec_nanos().div_ceil(1_000_000))
}

/// In milliseconds; at most what `Due` holds (nine million years), which is also before "never".
fn within_due(seconds: u64, ms: u32) -> u64 {
    let all = seconds.saturating_mul(1000).saturating_add(ms.into());
    all.min(u64::MAX >> QUEUE_BITS)
}

/// As `hash_one`, without the length, which all keys share.
pub(super) fn hash(hasher: &RandomState, key: &ReplayKey) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(key);
    hasher.finish()
}

/// 0 below a second, else one more than the power of two.
fn class_of(lasts: Duration) -> usize {
    let bits = u64::BITS - lasts.as_secs().leading_zeros();
    (bits as usize).min(CLASSES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All keys of one bucket fill three of the five, from the last one on round to the first.
    #[test]
    fn keys_of_a_full_bucket_are_found_in_the_next_ones_until_they_go() {
        const HASH: u64 = u32::MAX as u64;
        const KEYS: u8 = 40;
        let times = Times {
            now: Duration::ZERO,
            lease: Duration::from_secs(10),
            lifetime: Duration::from_secs(10),
        };
        let mut table = Table::new(KEYS.into(), RandomState::new());
        let entry = |key: u8| (HASH, [key; 32]);
        let mut tokens: Vec<_> = (0..KEYS)
            .map(|key| match table.reserve(entry(key), times, false) {
                Ok(Reserve::Reserved(token)) => token,
                other => panic!("{other:?}"),
            })
            .collect();
        let passed = |table: &Table| [4, 0, 1, 2].map(|at| table.buckets()[at][PASSED]);
        assert_eq!(passed(&table), [25, 10, 0, 0]);
        for odd in [1, 0] {
            for key in (0..KEYS).filter(|key| key % 2 == odd) {
                table.release(entry(key), tokens[usize::from(key)]);
                for other in 0..KEYS {
                    let held = table.find(HASH, &[other; 32]).is_some();
                    let gone = other % 2 == odd && other <= key || odd == 0 && other % 2 == 1;
                    assert_eq!(held, !gone, "{key} {other}");
                }
            }
        }
        assert_eq!((table.len(), passed(&table)), (0, [0; 4]));
        let again = table.reserve(entry(0), times, false);
        assert!(matches!(again, Ok(Reserve::Reserved(token)) if token != tokens.remove(0)));
    }
}
