//! Counters that every refusal touches: padded and striped, so that cores share no line.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use crossbeam_utils::CachePadded;

/// More stripes than this many cores gain little; must be a power of two.
const STRIPES: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Striped {
    stripes: [CachePadded<[AtomicU64; 2]>; STRIPES],
}

/// What is counted; both live in one line, for a thread rarely needs the two at once.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counter {
    Rejected = 0,
    Stale = 1,
}

impl Striped {
    pub(super) fn add(&self, counter: Counter) {
        // ORDERING: Relaxed, also below. Statistics; they publish nothing and decide nothing, and
        // are therefore std's atomics in the model checker as well.
        self.stripes[stripe()][counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sum(&self, counter: Counter) -> u64 {
        let each =
            |stripe: &CachePadded<[AtomicU64; 2]>| stripe[counter as usize].load(Ordering::Relaxed);
        self.stripes.iter().map(each).sum()
    }
}

/// This thread's stripe: threads are numbered as they first come.
fn stripe() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    MINE.try_with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES);
        }
        mine.get()
    })
    .unwrap_or(0)
}
