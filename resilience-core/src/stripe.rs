//! Stripes: each thread counts in a line of its own.
//!
//! A thread takes an index the first time it counts and gives it back when it ends. While there
//! are enough, no other thread has the same index, and counting there needs no locked instruction:
//! a load and a store. Threads beyond that share the last index and count by read-modify-write.

use std::{
    fmt,
    sync::{
        OnceLock,
        // Statistics decide nothing, and are std's in the model checker as well.
        atomic::{AtomicU64, Ordering},
    },
};

use crossbeam_utils::CachePadded;

/// Indices in all. More threads than this at once are rare even where cores are many.
pub(crate) const STRIPES: usize = if cfg!(resilience_loom) { 3 } else { 32 };

/// The index that is shared by the threads that found no other.
const SHARED: usize = STRIPES - 1;

/// Where the calling thread counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stripe {
    /// Below [`STRIPES`].
    pub(crate) index: usize,
    /// No other thread writes at this index as long as the calling thread lives.
    pub(crate) exclusive: bool,
}

impl Stripe {
    /// The calling thread's stripe; always the same for one thread, except for the last moments
    /// of its end.
    #[inline]
    pub(crate) fn current() -> Self {
        let index = claim::index();
        Self {
            index,
            exclusive: index != SHARED,
        }
    }

    /// Adds one to a counter of this stripe.
    #[inline]
    pub(crate) fn count(self, counter: &AtomicU64) {
        // ORDERING: Relaxed. An exclusive stripe has one writer, and the next thread at its index
        // took it with Acquire from the Release of the last one. Counters publish nothing.
        if self.exclusive {
            let next = counter.load(Ordering::Relaxed).wrapping_add(1);
            counter.store(next, Ordering::Relaxed);
        } else {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One `T` per stripe, made when a thread first needs it.
pub(crate) struct Striped<T> {
    each: [OnceLock<Box<CachePadded<T>>>; STRIPES],
}

impl<T: Default> Striped<T> {
    /// The calling thread's `T`, and its stripe.
    #[inline]
    pub(crate) fn mine(&self) -> (&T, Stripe) {
        let stripe = Stripe::current();
        // PANIC-FREE: an index is below STRIPES.
        let mine = &self.each[stripe.index];
        let mine = match mine.get() {
            Some(mine) => mine,
            None => make(mine),
        };
        (mine, stripe)
    }

    /// All that were made.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let made = self.each.iter().filter_map(OnceLock::get);
        made.map(|padded| &***padded)
    }
}

/// Fills `empty`. Allocates before, so that threads which share a stripe do not wait for that.
#[cold]
fn make<T: Default>(empty: &OnceLock<Box<CachePadded<T>>>) -> &CachePadded<T> {
    let made = Box::default();
    empty.get_or_init(|| made)
}

impl<T: Default> Default for Striped<T> {
    fn default() -> Self {
        let one = |_| {
            if cfg!(resilience_loom) {
                // The model checker does not see that making one comes before its use.
                OnceLock::from(Box::default())
            } else {
                OnceLock::new()
            }
        };
        Self {
            each: std::array::from_fn(one),
        }
    }
}

impl<T> fmt::Debug for Striped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = self.each.iter().filter(|one| one.get().is_some()).count();
        write!(f, "Striped({made} of {STRIPES})")
    }
}

#[cfg(not(resilience_loom))]
mod claim {
    use std::{
        cell::Cell,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::SHARED;

    /// A set bit is an index that a thread has.
    static TAKEN: AtomicU32 = AtomicU32::new(0);

    const UNCLAIMED: usize = usize::MAX;

    thread_local! {
        // Without a destructor, and so readable to the very end of the thread.
        static MINE: Cell<usize> = const { Cell::new(UNCLAIMED) };
        static OWNER: Owner = const { Owner };
    }

    /// Gives the thread's index back when the thread ends.
    struct Owner;

    impl Drop for Owner {
        fn drop(&mut self) {
            let index = MINE.replace(SHARED);
            if index < SHARED {
                // ORDERING: Release, pairs with the Acquire of `claim`.
                TAKEN.fetch_and(!(1 << index), Ordering::Release);
            }
        }
    }

    #[inline]
    pub(super) fn index() -> usize {
        match MINE.get() {
            UNCLAIMED => claim(),
            index => index,
        }
    }

    #[cold]
    fn claim() -> usize {
        let free = |taken: u32| {
            let index = taken.trailing_ones() as usize;
            (index < SHARED).then(|| taken | 1 << index)
        };
        // ORDERING: Acquire: who takes an index sees all that its last owner counted there.
        let took = TAKEN.fetch_update(Ordering::Acquire, Ordering::Relaxed, free);
        let index = took.map_or(SHARED, |taken| taken.trailing_ones() as usize);
        MINE.set(index);
        // Registers the destructor. A thread that is past its destructors keeps nothing.
        if OWNER.try_with(|_| ()).is_err() && index < SHARED {
            TAKEN.fetch_and(!(1 << index), Ordering::Release);
            MINE.set(SHARED);
        }
        MINE.get()
    }
}

/// Under the model checker all threads run in one, so its own thread locals are asked. One thread
/// of a model has an index of its own, the others share.
#[cfg(resilience_loom)]
mod claim {
    use std::cell::Cell;

    use loom::sync::atomic::{AtomicUsize, Ordering};

    use super::SHARED;

    loom::lazy_static! {
        static ref NEXT: AtomicUsize = AtomicUsize::new(0);
    }

    loom::thread_local! {
        static MINE: Cell<usize> = Cell::new(usize::MAX);
    }

    pub(super) fn index() -> usize {
        MINE.with(|mine| {
            if mine.get() == usize::MAX {
                let next = NEXT.fetch_add(1, Ordering::Relaxed);
                mine.set(if next < 1 { next } else { SHARED });
            }
            mine.get()
        })
    }
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use std::{collections::HashSet, sync::Barrier, thread};

    use super::*;

    #[test]
    fn no_two_living_threads_have_one_exclusive_stripe() {
        let threads = STRIPES + 8;
        let all_here = Barrier::new(threads);
        let stripes: Vec<_> = thread::scope(|scope| {
            let mine = || {
                let stripe = Stripe::current();
                all_here.wait();
                assert_eq!(Stripe::current(), stripe);
                stripe
            };
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(mine)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let exclusive: Vec<_> = stripes.iter().filter(|s| s.exclusive).collect();
        let different: HashSet<_> = exclusive.iter().map(|s| s.index).collect();
        assert_eq!(exclusive.len(), different.len());
        assert!(stripes.iter().any(|s| !s.exclusive));
        assert!(stripes.iter().all(|s| s.exclusive == (s.index != SHARED)));
    }

    #[test]
    fn counts_of_threads_that_came_and_went_add_up() {
        let counters = Striped::<AtomicU64>::default();
        for _ in 0..4 {
            thread::scope(|scope| {
                for _ in 0..STRIPES + 4 {
                    scope.spawn(|| {
                        for _ in 0..25 {
                            let (counter, stripe) = counters.mine();
                            stripe.count(counter);
                        }
                    });
                }
            });
        }
        let sum: u64 = counters.iter().map(|one| one.load(Ordering::Relaxed)).sum();
        assert_eq!(sum, 4 * (STRIPES as u64 + 4) * 25);
    }
}
