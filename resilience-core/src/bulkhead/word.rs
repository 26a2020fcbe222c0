//! How many calls run, and how many may: one word.
//!
//! ```text
//! [ waiting 1 | in flight 31 | limit 32 ]
//! ```
//!
//! While `waiting` is set only the line takes; it is set and cleared under the line's lock.

use crossbeam_utils::CachePadded;

use crate::primitive::{AtomicU64, Ordering};

const WAITING: u64 = 1 << 63;
const ONE: u64 = 1 << 32;
const LIMIT: u64 = ONE - 1;

/// The most calls at once that a limit may allow; far below what overflows.
pub(crate) const MOST: u32 = 1 << 30;

#[derive(Debug)]
pub(crate) struct Word(CachePadded<AtomicU64>);

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

    /// Gives a permit back. Answers whether somebody waits for it.
    ///
    /// Who begins to wait sets the bit and then looks for a free permit, on this same word: either
    /// it finds this one, or this finds the bit.
    #[inline]
    #[must_use]
    pub(crate) fn give_back(&self) -> bool {
        self.0.fetch_sub(ONE, Ordering::Release) & WAITING != 0
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

    /// Calls that run, and how many may.
    pub(crate) fn figures(&self) -> (u32, u32) {
        let word = self.0.load(Ordering::Relaxed);
        // 31 and 32 bits.
        (in_flight(word) as u32, (word & LIMIT) as u32)
    }
}

#[inline]
fn in_flight(word: u64) -> u64 {
    (word & !WAITING) >> 32
}
