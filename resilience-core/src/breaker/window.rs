//! The marks of the count window: an exact sliding ring of the last n outcomes, lock-free.
//!
//! A success leaves no mark. A failure sets a bit at its place, and adds one to the counters of
//! the blocks around it, if the bit was not set before; so marking twice is marking once:
//!
//! ```text
//! level 0   [block number: 48 | holes: 8 bits | failures: 8 bits]              8 places per word
//! level 1…5 [block number | holes: w | failures: w], w = 3·level + 4          64 … 262 144 places
//! ```
//!
//! The block number tells which lap of the ring a word belongs to, so nothing is ever cleared: a
//! word of an older lap reads as empty and is replaced by the first write of the new lap, and a
//! write that comes after a newer lap began has left the window and is dropped. Counting adds up
//! the blocks inside the window, whole blocks by their counters and the ends by their bits.
//!
//! A *hole* is a place taken by an outcome that turned out, by taking it, to be of an older
//! generation. It is not a call. Slow calls have levels of their own.

use crate::primitive::{AtomicU64, Ordering};

const LEVELS: usize = 6;

/// Marks in a range of places.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Count {
    pub(super) failures: u64,
    pub(super) holes: u64,
    pub(super) slow: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mark {
    Failure,
    Hole,
    Slow,
}

/// The marks of the last so many places.
#[derive(Debug)]
pub(super) struct Marks {
    ended: Levels,
    /// Only if slow calls are counted; their `failures` are the slow calls.
    slow: Option<Levels>,
    size: u32,
}

impl Marks {
    /// Remembers at least the last `size` places.
    pub(super) fn new(size: u32, slow: bool) -> Self {
        let size = size.max(1);
        Self {
            ended: Levels::new(size.into()),
            slow: slow.then(|| Levels::new(size.into())),
            size,
        }
    }

    /// Whether these marks serve such settings.
    pub(super) fn fit(&self, size: u32, slow: bool) -> bool {
        self.size == size.max(1) && self.slow.is_some() == slow
    }

    /// The first place of a window of `size` places that ends before `end`.
    pub(super) fn first(&self, start: u64, end: u64, size: u32) -> u64 {
        start.max(end.saturating_sub(size.min(self.size).into()))
    }

    pub(super) fn mark(&self, place: u64, mark: Mark) {
        match mark {
            Mark::Failure | Mark::Hole => self.ended.mark(place, mark),
            Mark::Slow => {
                if let Some(slow) = &self.slow {
                    slow.mark(place, Mark::Failure);
                }
            }
        }
    }

    /// What was marked in `from..to`.
    pub(super) fn count(&self, from: u64, to: u64) -> Count {
        let slow = self.slow.as_ref().map(|slow| slow.count(from, to).failures);
        Count {
            slow: slow.unwrap_or_default(),
            ..self.ended.count(from, to)
        }
    }

    /// Failures in a row around `place`, not counting holes; stops counting at `enough`.
    pub(super) fn run(&self, place: u64, start: u64, end: u64, enough: u32) -> u32 {
        let low = start.max(end.saturating_sub(self.size.into()));
        self.ended.run(place, low, end, enough)
    }

    /// Marks here what `old` has marked in the places before `end` that these marks can hold.
    pub(super) fn copy(&self, old: &Self, end: u64) {
        let from = end.saturating_sub(self.size.min(old.size).into());
        self.ended.copy(&old.ended, from, end);
        if let (Some(mine), Some(old)) = (&self.slow, &old.slow) {
            mine.copy(old, from, end);
        }
    }
}

#[derive(Debug)]
struct Levels(Vec<Level>);

impl Levels {
    fn new(size: u64) -> Self {
        let levels = (0..LEVELS)
            .take_while(|&level| level == 0 || size >> Level::shift(level) > 0)
            .map(|level| Level::new(level, size));
        Self(levels.collect())
    }

    fn bits(&self) -> &Level {
        // PANIC-FREE: level 0 always exists.
        &self.0[0]
    }

    fn mark(&self, place: u64, mark: Mark) {
        if self.bits().add(place, mark) {
            for level in &self.0[1..] {
                level.add(place, mark);
            }
        }
    }

    fn copy(&self, old: &Self, from: u64, to: u64) {
        let mut at = from;
        while at < to {
            let until = (at / 8 * 8 + 8).min(to);
            let block = old.bits().bits(at, until);
            if block != Count::default() {
                for place in at..until {
                    if let Some(mark) = old.at(place) {
                        self.mark(place, mark);
                    }
                }
            }
            at = until;
        }
    }

    /// What was marked in `from..to`.
    fn count(&self, from: u64, to: u64) -> Count {
        let mut count = Count::default();
        let mut at = from;
        while at < to {
            // The largest block that starts here and ends inside the range.
            let level = self
                .0
                .iter()
                .rev()
                .find(|level| at.is_multiple_of(level.span()) && level.span() <= to - at);
            match level {
                Some(level) => {
                    count.add(level.block(at));
                    at += level.span();
                }
                None => {
                    let until = (at / 8 * 8 + 8).min(to);
                    count.add(self.bits().bits(at, until));
                    at = until;
                }
            }
        }
        count
    }

    fn run(&self, place: u64, low: u64, end: u64, enough: u32) -> u32 {
        let mut run = 0;
        for at in (low..=place.min(end.saturating_sub(1))).rev() {
            match self.at(at) {
                Some(Mark::Failure) => run += 1,
                Some(_) => {}
                None => break,
            }
            if run >= enough {
                return run;
            }
        }
        for at in place + 1..end {
            match self.at(at) {
                Some(Mark::Failure) => run += 1,
                Some(_) => {}
                None => break,
            }
            if run >= enough {
                return run;
            }
        }
        run
    }

    fn at(&self, place: u64) -> Option<Mark> {
        let count = self.bits().bits(place, place + 1);
        match (count.failures, count.holes) {
            (1.., _) => Some(Mark::Failure),
            (_, 1..) => Some(Mark::Hole),
            _ => None,
        }
    }
}

impl Count {
    fn add(&mut self, other: Self) {
        self.failures += other.failures;
        self.holes += other.holes;
    }
}

#[derive(Debug)]
struct Level {
    /// log2 of the places per word.
    shift: u32,
    /// Bits per counter.
    width: u32,
    words: Box<[AtomicU64]>,
}

impl Level {
    fn shift(level: usize) -> u32 {
        3 * (level as u32 + 1)
    }

    fn new(level: usize, size: u64) -> Self {
        let shift = Self::shift(level);
        // Two more than the window spans: it may begin and end inside a block. A block that
        // shares its word with block b begins after b has left the window.
        let words = ((size >> shift) + 2).next_power_of_two();
        Self {
            shift,
            width: if level == 0 { 8 } else { shift + 1 },
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn span(&self) -> u64 {
        1 << self.shift
    }

    fn tag_mask(&self) -> u64 {
        u64::MAX >> (2 * self.width)
    }

    fn word(&self, block: u64) -> &AtomicU64 {
        // PANIC-FREE: the length is a power of two, so the masked index is below it.
        &self.words[(block & (self.words.len() as u64 - 1)) as usize]
    }

    /// Whether the mark is new. Above level 0 it always is.
    fn add(&self, place: u64, mark: Mark) -> bool {
        let block = place >> self.shift;
        let tag = block & self.tag_mask();
        let one = if self.shift == 3 { 1 << (place & 7) } else { 1 };
        let one = match mark {
            Mark::Hole => one << self.width,
            Mark::Failure | Mark::Slow => one,
        };
        let word = self.word(block);
        // ORDERING: Relaxed. Words publish no other memory; the fence of the evaluation orders
        // one thread's marks before its count.
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let lap = tag.wrapping_sub(seen >> (2 * self.width)) & self.tag_mask();
            let next = if lap == 0 && self.shift == 3 {
                if seen & one != 0 {
                    return false;
                }
                seen | one
            } else if lap == 0 {
                seen + one
            } else if lap <= self.tag_mask() >> 1 {
                tag << (2 * self.width) | one
            } else {
                return false;
            };
            match word.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    fn read(&self, place: u64) -> Option<(u64, u64)> {
        let block = place >> self.shift;
        let word = self.word(block).load(Ordering::Relaxed);
        let low = (1 << self.width) - 1;
        (word >> (2 * self.width) == block & self.tag_mask())
            .then_some((word & low, word >> self.width & low))
    }

    fn block(&self, place: u64) -> Count {
        if self.shift == 3 {
            return self.bits(place, place + 8);
        }
        let (failures, holes) = self.read(place).unwrap_or_default();
        Count {
            failures,
            holes,
            slow: 0,
        }
    }

    /// Counts the bits of `from..to`, which must lie in one word of level 0.
    fn bits(&self, from: u64, to: u64) -> Count {
        let (failures, holes) = self.read(from).unwrap_or_default();
        let mask = ((1_u64 << (to - from)) - 1) << (from & 7);
        Count {
            failures: u64::from((failures & mask).count_ones()),
            holes: u64::from((holes & mask).count_ones()),
            slow: 0,
        }
    }
}

#[cfg(all(test, not(resilience_loom)))]
#[path = "window_tests.rs"]
mod tests;
