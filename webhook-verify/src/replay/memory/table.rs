//! One shard: the entries, their index and the order in which they end.
//!
//! An entry lies in one slot and is on two linked lists: the chain of its bucket, and the
//! queue of entries that end about when it does. Slots never move, so both lists are made
//! of slot numbers, and nothing is allocated after [`Table::new`].
//!
//! Chains lie apart from the slots and carry 16 bits of each key's hash. So the walk along
//! a chain stays in a small array, and of the slots, which are far too many for a cache, a
//! call touches the one that it looks for; one for a key that is new, none.
//!
//! Queues are by kind (reserved, committed) and by the power of two of the seconds an entry
//! lasts. In one queue an entry waits behind another for no longer than it lasts itself
//! (and a second), whatever lifetimes the verifiers have that share a store. Without such
//! classes, one lifetime of a day would hold back every lifetime of a minute behind it.

use std::{
    hash::{BuildHasher, RandomState},
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
    /// The first slot of each bucket's chain; as many buckets as slots.
    heads: Box<[Mark]>,
    /// What follows each slot in its chain.
    chains: Box<[Mark]>,
    /// Grows within what was reserved when the table was made.
    slots: Vec<Slot>,
    /// Slots given back, linked by `chains`.
    free: Mark,
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

// The promise of the store's documentation: a slot, its bucket and its place in a chain.
const _: () = assert!(size_of::<Slot>() + 2 * size_of::<Mark>() == super::BYTES_PER_DELIVERY);

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
        Self {
            heads: vec![0; slots].into_boxed_slice(),
            chains: vec![0; slots].into_boxed_slice(),
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
        self.drop_ended(now);
        let link = match self.find(hash, &key) {
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
        let hash = self.hasher.hash_one(self.slot(link).key);
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
        let mut mark = self.heads[self.bucket(hash)];
        while link_of(mark) != NOTHING {
            if may_be(mark, hash) && self.slot(link_of(mark)).key == *key {
                return Some(link_of(mark));
            }
            mark = self.chain(link_of(mark));
        }
        None
    }

    /// A slot for a key that has none; it is in its bucket's chain and in no queue.
    fn take_slot(&mut self, hash: u64, key: ReplayKey, forget: bool) -> Result<Link, StoreError> {
        if self.held >= self.heads.len() {
            if !forget {
                return Err(StoreError::Full);
            }
            self.forget_one()?;
        }
        let bucket = self.bucket(hash);
        let slot = Slot {
            key,
            due: Due(0),
            serial: 0,
            before: NOTHING,
            after: NOTHING,
        };
        let link = match link_of(self.free) {
            NOTHING => {
                self.slots.push(slot);
                // Never more slots than `MAX_SLOTS`, so none is cut off.
                self.slots.len() as Link
            }
            link => {
                self.free = self.chain(link);
                *self.slot_mut(link) = slot;
                link
            }
        };
        *self.chain_mut(link) = self.heads[bucket];
        self.heads[bucket] = mark(hash, link);
        self.held += 1;
        Ok(link)
    }

    fn remove(&mut self, link: Link, hash: u64) {
        self.leave_queue(link);
        let next = self.chain(link);
        let bucket = self.bucket(hash);
        let first = link_of(self.heads[bucket]);
        if first == link {
            self.heads[bucket] = next;
        } else {
            let mut before = first;
            while link_of(self.chain(before)) != link {
                before = link_of(self.chain(before));
            }
            *self.chain_mut(before) = next;
        }
        *self.chain_mut(link) = self.free;
        self.free = mark(0, link);
        self.held -= 1;
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

    /// Multiplies in place of a remainder. Bits 16 to 31 of the hash decide, as the upper
    /// half chooses the shard, and the lowest ones are those of the marks.
    fn bucket(&self, hash: u64) -> usize {
        let low = hash & u64::from(u32::MAX);
        ((low * self.heads.len() as u64) >> 32) as usize
    }

    // PANIC-FREE: links come from `take_slot` and slots are never taken away. The same holds
    // for the chains.
    fn slot(&self, link: Link) -> &Slot {
        &self.slots[usize::from(link) - 1]
    }

    fn slot_mut(&mut self, link: Link) -> &mut Slot {
        &mut self.slots[usize::from(link) - 1]
    }

    fn chain(&self, link: Link) -> Mark {
        self.chains[usize::from(link) - 1]
    }

    fn chain_mut(&mut self, link: Link) -> &mut Mark {
        &mut self.chains[usize::from(link) - 1]
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
    within_due(at.as_millis())
}

/// Rounded up, so that nothing ends early.
fn end_of(now: Duration, lasts: Duration) -> u64 {
    within_due(now.saturating_add(lasts).as_nanos().div_ceil(1_000_000))
}

/// At most what `Due` holds (nine million years), which is also before "never".
fn within_due(ms: u128) -> u64 {
    let last = u64::MAX >> QUEUE_BITS;
    u64::try_from(ms).map_or(last, |ms| ms.min(last))
}

/// 0 below a second, else one more than the power of two.
fn class_of(lasts: Duration) -> usize {
    let bits = u64::BITS - lasts.as_secs().leading_zeros();
    (bits as usize).min(CLASSES - 1)
}
