//! How many calls run, and how many may: one word.
//!
//! ```text
//! [ waiting 1 | in flight 31 | full 1 | limit 31 ]
//! ```
//!
//! While `waiting` is set only the line takes; it is set and cleared under the line's lock. `full` is set
//! from a refusal for want of room on until there is room again. Whatever may make room (a permit
//! that comes back, a line that empties, a larger limit) looks for it afterwards, on this same word:
//! so the last of them finds it.

use crossbeam_utils::CachePadded;

use crate::primitive::{AtomicU64, Ordering};

const WAITING: u64 = 1 << 63;
const ONE: u64 = 1 << 32;
const FULL: u64 = 1 << 31;
const LIMIT: u64 = FULL - 1;

/// The most calls at once that a limit may allow; far below what overflows.
pub(crate) const MOST: u32 = 1 << 30;

#[derive(Debug)]
pub(crate) struct Word(CachePadded<AtomicU64>);

/// What a permit came back to.
#[must_use]
pub(crate) struct Returned(u64);

impl Returned {
    /// Whether somebody waits for it, or may have to be told that there is room.
    #[inline]
    pub(crate) const fn is_of_interest(&self) -> bool {
        self.0 & (WAITING | FULL) != 0
    }

    pub(crate) const fn is_awaited(&self) -> bool {
        self.0 & WAITING != 0
    }

    /// Whether there is room again, and nobody was told.
    pub(crate) const fn is_room(&self) -> bool {
        is_room(self.0)
    }
}

impl Word {
    pub(crate) fn new(limit: u32) -> Self {
        Self(CachePadded::new(AtomicU64::new(limit.into())))
    }

    /// Takes a permit, unless somebody waits.
    #[inline]
    pub(crate) fn take(&self) -> bool {
        self.take_if(|word| word & WAITING == 0)
    }

    /// Takes a permit for the one whose turn it is. Only with the lock of the line.
    pub(crate) fn take_in_turn(&self) -> bool {
        self.take_if(|_| true)
    }

    #[inline]
    fn take_if(&self, may: impl Fn(u64) -> bool) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        while may(word) && in_flight(word) < word & LIMIT {
            // ORDERING: Acquire, with the Release of `give_back`: what a call did in here comes
            // before what the next one does, as with a lock.
            let next = word + ONE;
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(seen) => word = seen,
            }
        }
        false
    }

    /// Gives a permit back.
    ///
    /// Who begins to wait sets the bit and then looks for a free permit, on this same word: either
    /// it finds this one, or this finds the bit.
    #[inline]
    pub(crate) fn give_back(&self) -> Returned {
        Returned(self.0.fetch_sub(ONE, Ordering::Release) - ONE)
    }

    pub(crate) fn set_waiting(&self) {
        self.0.fetch_or(WAITING, Ordering::Relaxed);
    }

    pub(crate) fn clear_waiting(&self) {
        // Most who come by find it cleared.
        if self.0.load(Ordering::Relaxed) & WAITING != 0 {
            self.0.fetch_and(!WAITING, Ordering::Relaxed);
        }
    }

    /// Only with the lock of the line.
    pub(crate) fn set_limit(&self, limit: u32) {
        let mut word = self.0.load(Ordering::Relaxed);
        while let Err(seen) = self.0.compare_exchange_weak(
            word,
            word & !LIMIT | u64::from(limit),
            Ordering::Relaxed,
            Ordering::Relaxed,
        ) {
            word = seen;
        }
    }

    /// Marks that a call was refused for want of room. Whether nobody had, and there is none still.
    pub(crate) fn set_full(&self) -> bool {
        let may =
            |word| word & FULL == 0 && (word & WAITING != 0 || in_flight(word) >= word & LIMIT);
        self.change_if(may, |word| word | FULL)
    }

    /// Marks that there is room, if there is. Whether nobody had.
    pub(crate) fn clear_full(&self) -> bool {
        self.change_if(is_room, |word| word & !FULL)
    }

    fn change_if(&self, may: impl Fn(u64) -> bool, change: impl Fn(u64) -> u64) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        while may(word) {
            // ORDERING: Relaxed. It guards nothing but itself.
            match self.0.compare_exchange_weak(
                word,
                change(word),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(seen) => word = seen,
            }
        }
        false
    }

    /// Whether a refusal was marked, and no room since.
    pub(crate) fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) & FULL != 0
    }

    /// Calls that run, and how many may.
    pub(crate) fn figures(&self) -> (u32, u32) {
        let word = self.0.load(Ordering::Relaxed);
        // 31 bits each.
        (in_flight(word) as u32, (word & LIMIT) as u32)
    }
}

#[inline]
const fn in_flight(word: u64) -> u64 {
    (word & !WAITING) >> 32
}

/// Marked as full, while at most half of the limit runs and nobody waits.
const fn is_room(word: u64) -> bool {
    word & (WAITING | FULL) == FULL && 2 * in_flight(word) <= word & LIMIT
}
