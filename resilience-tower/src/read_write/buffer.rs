//! Writes that wait for a primary.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, Notify};

/// Those who wait: first come, first served, and not more than there are places.
///
/// They stand in the line of a lock that is fair. Its holder is the first of them, and the only one
/// that is woken when a primary is seen.
#[derive(Debug)]
pub(super) struct Buffer {
    places: usize,
    waiting: AtomicUsize,
    pub(super) line: Mutex<()>,
    pub(super) primary: Notify,
}

/// A place, which is free again when dropped.
#[derive(Debug)]
pub(super) struct Place<'a>(&'a AtomicUsize);

impl Buffer {
    pub(super) fn new(places: usize) -> Self {
        Self {
            places,
            waiting: AtomicUsize::new(0),
            line: Mutex::new(()),
            primary: Notify::new(),
        }
    }

    // ORDERING: Relaxed throughout. A number of places; who waits is told by line and notification.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Others wait, and there is a place behind them.
    pub(super) fn is_open(&self) -> bool {
        (1..self.places).contains(&self.waiting())
    }

    /// A place; `None` if all are taken.
    pub(super) fn enter(&self) -> Option<Place<'_>> {
        let more = |waiting| (waiting < self.places).then_some(waiting + 1);
        let (order, waiting) = (Ordering::Relaxed, &self.waiting);
        waiting.fetch_update(order, order, more).ok()?;
        Some(Place(waiting))
    }

    /// A primary may be there, or the cluster drains.
    pub(super) fn wake(&self) {
        self.primary.notify_waiters();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
