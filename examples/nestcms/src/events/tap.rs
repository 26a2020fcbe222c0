//! Watching the bus: the recent events, the live stream, and recorders for tests.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::domain::event::{Event, EventData};

/// The recent events, and a stream that continues exactly where they end.
#[derive(Debug)]
pub struct Tap {
    /// Oldest first, at most [`RECENT`].
    pub recent: Vec<Arc<Event>>,
    /// Every later event; a reader that falls behind by more than [`RECENT`] is told
    /// how many it has missed (`RecvError::Lagged`).
    pub live: broadcast::Receiver<Arc<Event>>,
}

/// How many recent events are kept for a new watcher.
pub const RECENT: usize = 200;

/// Keeps every event from its making on, in the order of emission, without a limit:
/// for tests and short demonstrations. Dropping it ends the recording.
#[derive(Clone, Debug)]
pub struct Recorder {
    events: Arc<Mutex<Vec<Arc<Event>>>>,
}

impl Recorder {
    /// What was emitted so far.
    #[must_use]
    pub fn events(&self) -> Vec<Arc<Event>> {
        self.events.lock().clone()
    }

    /// The type names of what was emitted so far.
    #[must_use]
    pub fn types(&self) -> Vec<&'static str> {
        self.events.lock().iter().map(|e| e.event_type()).collect()
    }

    /// How many events of this type were emitted so far.
    #[must_use]
    pub fn count(&self, event_type: &str) -> usize {
        self.matching(|data| data.event_type() == event_type).len()
    }

    /// The emitted events that fit.
    #[must_use]
    pub fn matching(&self, fits: impl Fn(&EventData) -> bool) -> Vec<Arc<Event>> {
        let events = self.events.lock();
        events.iter().filter(|e| fits(&e.data)).cloned().collect()
    }

    /// Forgets what was recorded so far.
    pub fn clear(&self) {
        self.events.lock().clear();
    }
}

/// The bus's side of taps and recorders.
#[derive(Debug)]
pub(super) struct Taps {
    inner: Mutex<Inner>,
    live: broadcast::Sender<Arc<Event>>,
}

#[derive(Debug, Default)]
struct Inner {
    recent: VecDeque<Arc<Event>>,
    recorders: Vec<Weak<Mutex<Vec<Arc<Event>>>>>,
}

impl Taps {
    pub(super) fn new() -> Self {
        Self {
            inner: Mutex::default(),
            live: broadcast::Sender::new(RECENT),
        }
    }

    pub(super) fn push(&self, event: &Arc<Event>) {
        let mut inner = self.inner.lock();
        if inner.recent.len() == RECENT {
            inner.recent.pop_front();
        }
        inner.recent.push_back(Arc::clone(event));
        inner.recorders.retain(|recorder| {
            let Some(events) = recorder.upgrade() else {
                return false;
            };
            events.lock().push(Arc::clone(event));
            true
        });
        // Under the lock, so that a tap sees each event exactly once. It fails only when
        // nobody listens, which is fine.
        let _ = self.live.send(Arc::clone(event));
    }

    pub(super) fn tap(&self) -> Tap {
        let inner = self.inner.lock();
        Tap {
            recent: inner.recent.iter().cloned().collect(),
            live: self.live.subscribe(),
        }
    }

    pub(super) fn recorder(&self) -> Recorder {
        let events = Arc::default();
        self.inner.lock().recorders.push(Arc::downgrade(&events));
        Recorder { events }
    }
}
