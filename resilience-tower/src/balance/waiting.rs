//! Calls that wait, as no endpoint is ready.

use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;
use resilience_core::balance::{Balancer, Subscription};

/// Those who wait, and want to know when the endpoints change; one for all clones of a service.
#[derive(Debug)]
pub(super) struct Waiting {
    most: usize,
    list: Arc<Mutex<List>>,
    /// Its end is that of the last clone.
    _changes: Subscription,
}

#[derive(Debug, Default)]
struct List {
    seats: Vec<Option<Waker>>,
    free: Vec<usize>,
    /// How often the endpoints changed.
    changes: u64,
}

impl Waiting {
    pub(super) fn new<T: Send + Sync + 'static>(balancer: &Balancer<T>, most: usize) -> Self {
        let list = Arc::new(Mutex::new(List::default()));
        let changed = {
            let list = Arc::clone(&list);
            move |_: &_| {
                let mut list = list.lock();
                list.changes += 1;
                let wakers: Vec<_> = list.seats.iter_mut().filter_map(Option::take).collect();
                drop(list);
                // A waker may run anything.
                wakers.into_iter().for_each(Waker::wake);
            }
        };
        Self {
            most,
            list,
            _changes: balancer.subscribe(changed),
        }
    }

    /// A place among those who wait; `None` if as many do as may.
    pub(super) fn seat(&self) -> Option<Seat> {
        let mut list = self.list.lock();
        let taken = list.seats.len() - list.free.len();
        if taken >= self.most {
            return None;
        }
        let place = list.free.pop().unwrap_or_else(|| {
            list.seats.push(None);
            list.seats.len() - 1
        });
        Some(Seat {
            list: Arc::clone(&self.list),
            place,
            seen: list.changes,
        })
    }

    /// Calls that wait.
    pub(super) fn len(&self) -> usize {
        let list = self.list.lock();
        list.seats.len() - list.free.len()
    }
}

/// A place, which is free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    list: Arc<Mutex<List>>,
    place: usize,
    seen: u64,
}

impl Seat {
    /// Whether the endpoints changed since this was asked last; if not, `waker` is woken when they
    /// do.
    pub(super) fn has_changed(&mut self, waker: &Waker) -> bool {
        let mut list = self.list.lock();
        let changed = std::mem::replace(&mut self.seen, list.changes) != list.changes;
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
        let mut list = self.list.lock();
        let waker = list.seats[self.place].take();
        list.free.push(self.place);
        drop(list);
        drop(waker);
    }
}
