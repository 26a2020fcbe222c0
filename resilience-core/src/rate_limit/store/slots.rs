//! What a process holds: two blocks, each with its end.
//!
//! ```text
//! word  [ ends at 44, in steps of 65 536 ns | permits left 20 ]
//! ```
//!
//! A block ends by the clock of the call that wants to spend it, so one that was forgotten for a
//! while is not spent late. Two, so that the next one can come before the last one is used up.

use crossbeam_utils::CachePadded;

use crate::primitive::{AtomicU64, Ordering};

const LEFT_BITS: u32 = 20;
const STEP_BITS: u32 = 16;
/// The largest block.
pub(super) const MOST: u64 = (1 << LEFT_BITS) - 1;

#[derive(Debug)]
pub(super) struct Slots {
    /// In one line: who spends touches all of it.
    line: CachePadded<Line>,
}

#[derive(Debug)]
struct Line {
    words: [AtomicU64; 2],
    /// Whoever crosses this, going down, asks for the next block; 0 for nobody.
    low: AtomicU64,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self {
            line: CachePadded::new(Line {
                words: std::array::from_fn(|_| AtomicU64::new(0)),
                low: AtomicU64::new(0),
            }),
        }
    }

    /// Takes `n` (at least 1) out of the block that ends first, or of the other, or of both. Answers
    /// whether it is time for the next block; `None` when there are not as many.
    #[inline]
    pub(super) fn spend(&self, n: u64, now: u64) -> Option<bool> {
        let now = now >> STEP_BITS;
        let line = &*self.line;
        let [first, second] = &line.words;
        // ORDERING: Relaxed throughout. A word is all there is to know of a block, and permits
        // publish nothing.
        let first_ends = first.load(Ordering::Relaxed) >> LEFT_BITS;
        let second_ends = second.load(Ordering::Relaxed) >> LEFT_BITS;
        let order = if first_ends <= second_ends {
            [first, second]
        } else {
            [second, first]
        };
        for word in order {
            if let Some(left) = take(word, n, now) {
                let low = line.low.load(Ordering::Relaxed);
                return Some(left < low && left + n >= low);
            }
        }
        if n > 1 {
            return self.spend_both(n, now);
        }
        None
    }

    #[cold]
    fn spend_both(&self, n: u64, now: u64) -> Option<bool> {
        let [first, second] = &self.line.words;
        let word = first.load(Ordering::Relaxed);
        let part = left(word, now);
        if part == 0 || part >= n || left(second.load(Ordering::Relaxed), now) < n - part {
            return None;
        }
        let emptied = word & !MOST;
        first
            .compare_exchange(word, emptied, Ordering::Relaxed, Ordering::Relaxed)
            .ok()?;
        if take(second, n - part, now).is_some() {
            return Some(true);
        }
        // Another block may stand there by now: then this part is lost.
        let _ = first.compare_exchange(emptied, word, Ordering::Relaxed, Ordering::Relaxed);
        None
    }

    /// Holds `permits` until `ends`. One caller at a time.
    pub(super) fn put(&self, permits: u32, ends: u64, now: u64) {
        let ends = ends >> STEP_BITS;
        let step = now >> STEP_BITS;
        let lefts = self.lefts(now);
        let place = usize::from(lefts[0] > lefts[1]);
        // PANIC-FREE: 0 or 1.
        let (word, other) = (&self.line.words[place], &self.line.words[1 - place]);
        let old = word.swap(ends << LEFT_BITS | u64::from(permits), Ordering::Relaxed);
        // The smaller rest moves to the other block, until the earlier end of the two.
        let rest = left(old, step);
        if rest > 0 {
            let joined = |there: u64| {
                let sum = (left(there, step) + rest).min(MOST);
                let until = (there >> LEFT_BITS).min(old >> LEFT_BITS);
                (left(there, step) > 0).then_some(until << LEFT_BITS | sum)
            };
            // Where the other has just been used up the rest is lost.
            let _ = other.fetch_update(Ordering::Relaxed, Ordering::Relaxed, joined);
        }
        let low = u64::from(permits / 4);
        self.line.low.store(low, Ordering::Relaxed);
    }

    /// What can be spent of each block.
    pub(super) fn lefts(&self, now: u64) -> [u64; 2] {
        let now = now >> STEP_BITS;
        let left = |place: usize| left(self.line.words[place].load(Ordering::Relaxed), now);
        [left(0), left(1)]
    }

    /// Whether another block would be the third.
    pub(super) fn is_full(&self, now: u64) -> bool {
        self.lefts(now).iter().all(|left| *left > 0)
    }

    /// What is left, spent in time or not.
    pub(super) fn unspent(&self) -> u64 {
        let words = self.line.words.iter();
        words.map(|word| word.load(Ordering::Relaxed) & MOST).sum()
    }
}

/// Takes `n` out of one block; how many are left.
#[inline]
fn take(word: &AtomicU64, n: u64, now: u64) -> Option<u64> {
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        let rest = left(seen, now).checked_sub(n)?;
        // ORDERING: Relaxed; as above.
        match word.compare_exchange_weak(seen, seen - n, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Some(rest),
            Err(other) => seen = other,
        }
    }
}

/// What can still be spent of a block at step `now`.
#[inline]
fn left(word: u64, now: u64) -> u64 {
    if now < word >> LEFT_BITS {
        word & MOST
    } else {
        0
    }
}
