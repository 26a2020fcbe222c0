//! The bounded queue in front of one listener.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::event::Event;

/// Holds the newest `capacity` events; an older one makes way and is counted.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    capacity: usize,
    // ORDERING: Relaxed. A counter for people; it publishes nothing.
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Arc<Event>>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            capacity: capacity.max(1),
            dropped: AtomicU64::new(0),
        }
    }

    /// Adds `event`, at the cost of the oldest one when full. Never waits for room.
    pub(super) fn push(&self, event: Arc<Event>) {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            self.count_dropped();
            return;
        }
        if waiting.events.len() >= self.capacity {
            waiting.events.pop_front();
            self.count_dropped();
        }
        waiting.events.push_back(event);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// The oldest event; waits for one. `None` once the queue is closed and empty.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(super) async fn pop(&self) -> Option<Arc<Event>> {
        loop {
            {
                let mut waiting = self.waiting.lock();
                if let Some(event) = waiting.events.pop_front() {
                    return Some(event);
                }
                if waiting.closed {
                    return None;
                }
            }
            // `notify_one` leaves a permit when nobody waits yet, so an event that
            // arrives between the look and this line is not missed.
            self.arrived.notified().await;
        }
    }

    /// Takes no more events; those that wait can still be popped.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_one();
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.lock().events.len()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}
