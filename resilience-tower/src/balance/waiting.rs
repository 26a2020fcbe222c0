//! Calls that wait, as no endpoint is ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::Mutex;
use resilience_core::balance::{Balancer, Subscription};

/// Those who wait, and want to know when the endpoints change; one for all clones of a service.
#[derive(Debug)]
pub(super) struct Waiting {
    most: usize,
    shared: Arc<Shared>,
    /// Their end is that of the last clone.
    _subscriptions: [Subscription; 2],
}

#[derive(Debug, Default)]
struct Shared {
    list: Mutex<List>,
    /// How often the endpoints changed. Goes up under the lock, and is read without it before a
    /// search.
    changes: AtomicU64,
}

#[derive(Debug, Default)]
struct List {
    seats: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Shared {
    /// The endpoints are others, or are picked otherwise.
    fn change(&self) {
        let mut list = self.list.lock();
        // ORDERING: Release, with Acquire in `changes`. Who reads the new number finds the endpoints
        // after the change.
        self.changes.fetch_add(1, Ordering::Release);
        let wakers: Vec<_> = list.seats.iter_mut().filter_map(Option::take).collect();
        drop(list);
        // A waker may run anything.
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Waiting {
    pub(super) fn new<T: Send + Sync + 'static>(balancer: &Balancer<T>, most: usize) -> Self {
        let shared: Arc<Shared> = Arc::default();
        let (by_calls, by_hand) = (Arc::clone(&shared), Arc::clone(&shared));
        Self {
            most,
            shared,
            _subscriptions: [
                balancer.subscribe(move |_| by_calls.change()),
                // An endpoint that stays may have another service.
                balancer.subscribe_changes(move || by_hand.change()),
            ],
        }
    }

    /// How often the endpoints changed; to be asked before they are searched.
    #[inline]
    pub(super) fn changes(&self) -> u64 {
        self.shared.changes.load(Ordering::Acquire)
    }

    /// A place among those who wait, for a call that searched the endpoints as they were after `seen`
    /// changes; `None` if as many wait as may.
    pub(super) fn seat(&self, seen: u64) -> Option<Seat> {
        let mut list = self.shared.list.lock();
        let taken = list.seats.len() - list.free.len();
        if taken >= self.most {
            return None;
        }
        let place = list.free.pop().unwrap_or_else(|| {
            list.seats.push(None);
            list.seats.len() - 1
        });
        Some(Seat {
            shared: Arc::clone(&self.shared),
            place,
            seen,
        })
    }

    /// Calls that wait.
    pub(super) fn len(&self) -> usize {
        let list = self.shared.list.lock();
        list.seats.len() - list.free.len()
    }
}

/// A place, which is free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    shared: Arc<Shared>,
    place: usize,
    seen: u64,
}

impl Seat {
    /// Whether the endpoints changed since this was asked last; if not, `waker` is woken when they
    /// do.
    pub(super) fn has_changed(&mut self, waker: &Waker) -> bool {
        let mut list = self.shared.list.lock();
        // ORDERING: Relaxed. It changes under the lock.
        let changes = self.shared.changes.load(Ordering::Relaxed);
        let changed = std::mem::replace(&mut self.seen, changes) != changes;
        if !changed {
            let seat = &mut list.seats[self.place];
            if !seat.as_ref().is_some_and(|known| known.will_wake(waker)) {
                *seat = Some(waker.clone());
            }
        }
        changed
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut list = self.shared.list.lock();
        let waker = list.seats[self.place].take();
        list.free.push(self.place);
        drop(list);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use resilience_core::balance::{Config, Endpoint};

    use super::*;

    // A change that fell between the look at the endpoints and the place of the call among those that
    // wait was overlooked, and the call waited for ever.
    #[test]
    fn a_change_during_the_search_is_seen_by_the_call_that_waits_after_it() {
        let balancer = Balancer::new(Config::default());
        let waiting = Waiting::new(&balancer, 2);
        let before = waiting.changes();
        balancer.insert(Endpoint::new("new", ())).unwrap();
        let mut late = waiting.seat(before).unwrap();
        let mut in_time = waiting.seat(waiting.changes()).unwrap();
        assert!(late.has_changed(Waker::noop()));
        assert!(!late.has_changed(Waker::noop()), "told once");
        assert!(!in_time.has_changed(Waker::noop()));
    }
}
