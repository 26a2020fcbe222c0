//! The time window: calls by the segment of time in which they ended.
//!
//! Each stripe has a ring of 16 segments. A segment's words carry its lap, so nothing is ever
//! cleared: a word of another lap reads as empty, and is replaced by the first write of the new one.
//!
//! ```text
//! calls | failures | slow calls      each [lap: 32 | count: 32]
//! ```
//!
//! Segments are numbered from 0 on, and so that the numbers of one generation, or of one length of
//! the window, lie far above those of the one before: a new window is empty because nothing has its
//! numbers.

use super::tagged::{VALUE_BITS, VALUE_MASK};
use crate::{
    clock::SharedClock,
    primitive::{AtomicU64, Ordering},
    stripe::{Stripe, Striped},
};

/// Segments in the window, the one that runs included.
pub(super) const SEGMENTS: u64 = if cfg!(resilience_loom) { 2 } else { 10 };
/// Segments in the ring; more than the window, so that a late reader finds its oldest in place.
const RING: u64 = if cfg!(resilience_loom) { 4 } else { 16 };
/// Numbers between two generations. A thread that was stopped for less than this many segments,
/// within its few instructions between reading the clock and counting, counts where it should.
const GAP: u64 = 1 << 10;

/// Sums over a window.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) failures: u64,
    pub(super) slow: u64,
}

/// Which segment it is: words that every call reads and that change once per segment.
#[derive(Debug)]
pub(super) struct Face {
    /// `[generation: 12 | number of segment 0, modulo 2^52: 52]`
    base: AtomicU64,
    /// Segments since the clock's origin.
    current: AtomicU64,
    /// Nanoseconds of a segment.
    length: AtomicU64,
    /// Nanoseconds by which the clock stepped back.
    skew: AtomicU64,
}

impl Face {
    /// Numbers begin at 0 now, however long the clock has been running.
    pub(super) fn new(tag: u64, length: u64, clock: &SharedClock) -> Self {
        let length = length.max(1);
        let segment = clock.nanos() / length;
        Self {
            base: AtomicU64::new(word(tag, GAP.wrapping_sub(segment))),
            current: AtomicU64::new(segment),
            length: AtomicU64::new(length),
            skew: AtomicU64::new(0),
        }
    }

    /// The number of the segment that `now` lies in; `None` if the window is of another generation
    /// than `tag`, or changes at this moment.
    #[inline]
    pub(super) fn number(&self, tag: u64, now: u64, clock: &SharedClock) -> Option<u64> {
        // ORDERING: Acquire throughout, so that the second look at `base` comes last: what was
        // read between two equal looks is of one window.
        let base = self.base.load(Ordering::Acquire);
        if base >> VALUE_BITS != tag {
            return None;
        }
        let current = self.current.load(Ordering::Acquire);
        let length = self.length.load(Ordering::Acquire);
        let now = now.wrapping_add(self.skew.load(Ordering::Acquire));
        let segment = if now.wrapping_sub(current.wrapping_mul(length)) < length {
            current
        } else {
            self.advance(clock)
        };
        let same = self.base.load(Ordering::Relaxed) == base;
        same.then(|| base.wrapping_add(segment) & VALUE_MASK)
    }

    /// Moves to the segment that runs now.
    ///
    /// Numbers never fall. A clock that steps back goes on from the beginning of the segment that
    /// was reached: at most one segment of time is counted twice. All times are modulo 2^64, and
    /// more than half of that ahead (292 years) is a step back as well.
    #[cold]
    #[inline(never)]
    fn advance(&self, clock: &SharedClock) -> u64 {
        loop {
            // Before the clock, so that a reading made before another thread moved on does not
            // look like a clock that stepped back.
            let current = self.current.load(Ordering::Acquire);
            let length = self.length.load(Ordering::Acquire).max(1);
            let skew = self.skew.load(Ordering::Acquire);
            let now = clock.nanos().wrapping_add(skew);
            let since = now.wrapping_sub(current.wrapping_mul(length));
            let (word, seen, next) = if since > u64::MAX >> 1 {
                (&self.skew, skew, skew.wrapping_sub(since))
            } else if since >= length {
                let next = current.wrapping_add(since / length);
                (&self.current, current, next)
            } else {
                return current;
            };
            // The loser of a race looks again.
            let _ = word.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// A window of generation `tag` begins, empty, if `wanted` says so of the word as it is.
    pub(super) fn begin(&self, tag: u64, wanted: impl Fn(u64) -> bool) {
        loop {
            let seen = self.base.load(Ordering::Acquire);
            if !wanted(seen) || self.exchange(seen, word(tag, seen.wrapping_add(GAP))) {
                return;
            }
        }
    }

    /// Changes the length of the segments; the window is empty after it. One caller at a time.
    pub(super) fn set_length(&self, length: u64, clock: &SharedClock) {
        let length = length.max(1);
        let before = self.base.load(Ordering::Acquire);
        let number = before.wrapping_add(self.current.load(Ordering::Acquire));
        // A tag that is of no generation near: nobody counts while old and new words are mixed.
        let (own, foreign) = (before >> VALUE_BITS, before ^ 1 << (u64::BITS - 1));
        self.exchange(before, foreign);
        let segment = clock.nanos() / length;
        self.length.store(length, Ordering::Release);
        self.current.store(segment, Ordering::Release);
        self.skew.store(0, Ordering::Release);
        let next = number.wrapping_add(GAP).wrapping_sub(segment);
        loop {
            let seen = self.base.load(Ordering::Acquire);
            // A generation that began meanwhile keeps its tag.
            let tag = if seen == foreign {
                own
            } else {
                seen >> VALUE_BITS
            };
            if self.exchange(seen, word(tag, next)) {
                return;
            }
        }
    }

    fn exchange(&self, seen: u64, next: u64) -> bool {
        self.base
            .compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

fn word(tag: u64, number: u64) -> u64 {
    tag << VALUE_BITS | number & VALUE_MASK
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct TimeWindow {
    rings: Striped<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    segments: [Segment; RING as usize],
}

#[derive(Debug, Default)]
struct Segment {
    calls: AtomicU64,
    failures: AtomicU64,
    slow: AtomicU64,
}

impl TimeWindow {
    /// Counts a call in segment `number`.
    #[inline]
    pub(super) fn add(&self, number: u64, failed: bool, slow: bool) {
        let (ring, stripe) = self.rings.mine();
        let segment = ring.segment(number);
        let lap = lap(number);
        // The call before its failure: who counts the failure counts the call as well.
        bump(&segment.calls, lap, stripe);
        if failed {
            bump(&segment.failures, lap, stripe);
        }
        if slow {
            bump(&segment.slow, lap, stripe);
        }
    }

    /// What was counted in the window whose last segment is `number`.
    pub(super) fn count(&self, number: u64) -> Counts {
        let mut sum = Counts::default();
        for ring in self.rings.iter() {
            for back in 0..SEGMENTS {
                let number = number.wrapping_sub(back) & VALUE_MASK;
                let segment = ring.segment(number);
                let lap = lap(number);
                sum.failures += read(&segment.failures, lap);
                sum.slow += read(&segment.slow, lap);
                sum.calls += read(&segment.calls, lap);
            }
        }
        sum
    }
}

impl Ring {
    #[inline]
    fn segment(&self, number: u64) -> &Segment {
        // PANIC-FREE: the remainder is below the length.
        &self.segments[(number % RING) as usize]
    }
}

/// Which lap of the ring a segment belongs to. 32 bits of laps of 16 ms are two years; a word that
/// is not written for so long would be read as new.
#[inline]
fn lap(number: u64) -> u32 {
    (number / RING) as u32
}

/// One more in `word`, which another lap may have; `None` if that is a later one: a thread that was
/// stopped counts too late for its segment. Later by more than 2^16 laps is none that is later, but
/// one that is very old.
///
/// Stops at 2^32 − 1, which no call path reaches within a segment of six minutes.
#[inline]
fn one_more(word: u64, lap: u32) -> Option<u64> {
    let ahead = lap.wrapping_sub((word >> 32) as u32);
    if ahead == 0 {
        (word as u32 != u32::MAX).then(|| word + 1)
    } else if ahead > u32::MAX - (1 << 16) {
        None
    } else {
        Some(u64::from(lap) << 32 | 1)
    }
}

#[inline]
fn bump(word: &AtomicU64, lap: u32, stripe: Stripe) {
    // ORDERING: Release, pairs with the Acquire of `read`: who sees a failure sees its call. An
    // exclusive stripe has no other writer.
    let mut seen = word.load(Ordering::Relaxed);
    if stripe.exclusive {
        if let Some(next) = one_more(seen, lap) {
            word.store(next, Ordering::Release);
        }
        return;
    }
    while let Some(next) = one_more(seen, lap) {
        match word.compare_exchange_weak(seen, next, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => seen = now,
        }
    }
}

fn read(word: &AtomicU64, lap: u32) -> u64 {
    let word = word.load(Ordering::Acquire);
    if (word >> 32) as u32 == lap {
        word & u64::from(u32::MAX)
    } else {
        0
    }
}
