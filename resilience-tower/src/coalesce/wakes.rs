use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use parking_lot::Mutex;

/// Wakes all that wait for one call.
///
/// All, and not the one that polled it last: that one may be held by a task that does not poll it
/// any more (a `select!` that went on), and the others would hang with it.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    slots: Mutex<Slots>,
    /// The call asked to be polled.
    asked: AtomicBool,
}

#[derive(Debug, Default)]
struct Slots {
    /// Place 0: most calls are waited for by one alone, which costs no allocation.
    first: Option<Waker>,
    first_taken: bool,
    /// The places from 1 on.
    others: Vec<Option<Waker>>,
    /// Which of them are free.
    free: Vec<usize>,
}

impl Wakes {
    /// Notes whom to wake, in the place that was given before, or a new one.
    pub(super) fn note(&self, place: &mut Option<usize>, waker: &Waker) {
        let waker = waker.clone();
        let mut slots = self.slots.lock();
        let at = match *place {
            Some(at) => at,
            None => *place.insert(slots.take_place()),
        };
        let before = slots.at(at).and_then(|slot| slot.replace(waker));
        // A waker is dropped without the lock, like it is woken.
        drop(slots);
        drop(before);
    }

    /// Nobody waits in `place` any more.
    pub(super) fn leave(&self, place: usize) {
        let mut slots = self.slots.lock();
        let waker = slots.at(place).and_then(Option::take);
        slots.give_back(place);
        drop(slots);
        drop(waker);
    }

    /// From here on [`was_asked`](Self::was_asked) counts.
    pub(super) fn forget_asked(&self) {
        // ORDERING: Relaxed, here and below. Who asks takes the lock afterwards, to wake those that are
        // noted; who reads took it before, to be noted. Either that one is woken, or it sees this.
        self.asked.store(false, Ordering::Relaxed);
    }

    /// Whether the call asked to be polled, since that was forgotten.
    pub(super) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    pub(super) fn wake_all(&self) {
        // They note themselves again when they are polled.
        let (first, others): (_, Vec<_>) = {
            let mut slots = self.slots.lock();
            let others = slots.others.iter_mut().filter_map(mem::take).collect();
            (slots.first.take(), others)
        };
        first.into_iter().chain(others).for_each(Waker::wake);
    }
}

impl Slots {
    fn at(&mut self, place: usize) -> Option<&mut Option<Waker>> {
        match place.checked_sub(1) {
            None => Some(&mut self.first),
            Some(other) => self.others.get_mut(other),
        }
    }

    fn take_place(&mut self) -> usize {
        if !mem::replace(&mut self.first_taken, true) {
            return 0;
        }
        self.free.pop().unwrap_or_else(|| {
            self.others.push(None);
            self.others.len()
        })
    }

    fn give_back(&mut self, place: usize) {
        if place == 0 {
            self.first_taken = false;
        } else {
            self.free.push(place);
        }
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.asked.store(true, Ordering::Relaxed);
        self.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A call that takes long may be joined and left any number of times.
    #[test]
    fn a_place_that_was_left_is_taken_again() {
        let wakes = Wakes::default();
        let mut stays = None;
        wakes.note(&mut stays, Waker::noop());
        for _ in 0..100 {
            let mut place = None;
            wakes.note(&mut place, Waker::noop());
            wakes.leave(place.unwrap());
        }
        assert_eq!(wakes.slots.lock().others.len(), 1);
    }
}
