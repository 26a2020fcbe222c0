//! Where outcomes take their places, and the marks that they leave there.

use std::sync::Arc;

use super::{
    tagged::{VALUE_BITS, VALUE_MASK},
    window::{Mark, Marks},
};
use crate::primitive::{AtomicU64, Loaded, Ordering, Swap, fence};

/// The count window: one `fetch_add` per outcome.
#[derive(Debug)]
pub(super) struct Places {
    /// `[generation: 12 | place: 52]`: the next place, and the generation that places are of. 52
    /// bits are 142 years of a million calls per second.
    next: AtomicU64,
    marks: Swap<Marks>,
    /// Goes up after each exchange of the marks.
    exchanged: AtomicU64,
}

impl Places {
    pub(super) fn new(marks: Marks, tag: u64) -> Self {
        Self {
            next: AtomicU64::new(tag << VALUE_BITS),
            marks: Swap::from_pointee(marks),
            exchanged: AtomicU64::new(0),
        }
    }

    /// Takes the next place; the answer has the tag of its generation on top.
    #[inline]
    pub(super) fn take(&self) -> u64 {
        // ORDERING: AcqRel. A place of a generation was given after its tag was set, so its owner
        // sees all that was published for the generation.
        self.next.fetch_add(1, Ordering::AcqRel)
    }

    /// The place after the last one taken.
    pub(super) fn peek(&self) -> u64 {
        self.next.load(Ordering::Acquire) & VALUE_MASK
    }

    /// From here on places are of generation `tag`, if `wanted` says so of the word as it is. The
    /// answer is at or after the first place of the tag that the word then has.
    pub(super) fn retag(&self, tag: u64, wanted: impl Fn(u64) -> bool) -> u64 {
        loop {
            let seen = self.next.load(Ordering::Acquire);
            if !wanted(seen) {
                return seen & VALUE_MASK;
            }
            let next = tag << VALUE_BITS | seen & VALUE_MASK;
            let exchange =
                self.next
                    .compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire);
            if exchange.is_ok() {
                return seen & VALUE_MASK;
            }
        }
    }

    pub(super) fn mark(&self, place: u64, marks: impl IntoIterator<Item = Mark> + Clone) {
        loop {
            // ORDERING: Acquire, pairs with the Release of `exchange`: who sees the new count sees
            // the new marks.
            let exchanged = self.exchanged.load(Ordering::Acquire);
            let to = self.marks.load();
            let marks = marks.clone();
            marks.into_iter().for_each(|mark| to.mark(place, mark));
            // ORDERING: SeqCst fence, pairs with the one of `exchange`. Either the copy sees these
            // marks, or this load sees that there are new ones.
            fence();
            if self.exchanged.load(Ordering::Acquire) == exchanged {
                return;
            }
        }
    }

    pub(super) fn marks(&self) -> Loaded<Marks> {
        self.marks.load()
    }

    /// Changes what is remembered and keeps what was marked. One caller at a time. The answer is
    /// the first place that is remembered.
    pub(super) fn exchange(&self, size: u32, slow: bool) -> u64 {
        let old = self.marks.load_full();
        if old.fit(size, slow) {
            return 0;
        }
        let new = Arc::new(Marks::new(size, slow));
        new.copy(&old, self.peek());
        self.marks.store(Arc::clone(&new));
        self.exchanged.fetch_add(1, Ordering::AcqRel);
        fence();
        // What was marked in the old ones meanwhile.
        let end = self.peek();
        new.copy(&old, end);
        old.first(0, end, u32::MAX)
    }
}
