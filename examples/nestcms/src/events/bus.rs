//! The bus: takes events from anywhere, hands them to each listener on its own.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use parking_lot::{Mutex, RwLock};
use tokio::{task::JoinHandle, time::timeout};
use webhook_verify::clock::WallClock;

use super::{
    listener::Listener,
    queue::Queue,
    tap::{Recorder, Tap, Taps},
};
use crate::{
    domain::event::{Event, EventData, Source, Timestamp},
    ports::EventSink,
};

/// Hands events to listeners. Cloning gives another handle to the same bus.
///
/// # Concurrency
///
/// [`emit`](Self::emit) takes short locks and never waits for a listener: each listener
/// has a bounded queue and a task of its own. A queue that is full loses its oldest event,
/// which is counted; the other listeners still get it.
#[derive(Clone, Debug)]
pub struct EventBus {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn WallClock>,
    capacity: usize,
    routes: RwLock<Vec<Arc<Route>>>,
    tasks: Mutex<Vec<(&'static str, JoinHandle<()>)>>,
    taps: Taps,
    // ORDERING: Relaxed, here and in `Route`. Counters for people; they publish nothing.
    emitted: AtomicU64,
    unheard: AtomicU64,
}

/// One listener with its queue and counters.
#[derive(Debug)]
struct Route {
    listener: Arc<dyn Listener>,
    queue: Queue,
    handled: AtomicU64,
    failed: AtomicU64,
}

/// How one listener is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ListenerStats {
    /// The listener's name.
    pub name: &'static str,
    /// Events that wait for it.
    pub queued: usize,
    /// Events that it has handled well.
    pub handled: u64,
    /// Events at which it failed or panicked.
    pub failed: u64,
    /// Events that it never saw, because its queue was full or closed.
    pub dropped: u64,
}

/// How a shutdown went.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
#[must_use]
pub struct Drained {
    /// Listeners that did not finish in time and were stopped.
    pub unfinished: Vec<&'static str>,
}

impl EventBus {
    /// A bus without listeners whose events are dated by `clock`, with room for
    /// [`DEFAULT_QUEUE`] waiting events per listener.
    #[must_use]
    pub fn new(clock: Arc<dyn WallClock>) -> Self {
        Self::with_queue(clock, DEFAULT_QUEUE)
    }

    /// Like [`new`](Self::new), with room for `capacity` (at least 1) waiting events per
    /// listener.
    #[must_use]
    pub fn with_queue(clock: Arc<dyn WallClock>, capacity: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                clock,
                capacity,
                routes: RwLock::default(),
                tasks: Mutex::default(),
                taps: Taps::new(),
                emitted: AtomicU64::new(0),
                unheard: AtomicU64::new(0),
            }),
        }
    }

    /// Adds `listener` and starts its task; it gets events from now on.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, as [`tokio::spawn`] does.
    pub fn subscribe(&self, listener: impl Listener) {
        let route = Arc::new(Route {
            listener: Arc::new(listener),
            queue: Queue::new(self.inner.capacity),
            handled: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let name = route.listener.name();
        let task = tokio::spawn(Arc::clone(&route).run());
        self.inner.tasks.lock().push((name, task));
        self.inner.routes.write().push(route);
    }

    /// Dates `data`, gives it an id and hands it to everyone who wants it. Never waits.
    pub fn emit(&self, source: Source, correlation_id: &str, data: EventData) -> Arc<Event> {
        let at = Timestamp::from_unix(self.inner.clock.now());
        self.hand_out(Event::new(source, correlation_id, at, data))
    }

    fn hand_out(&self, event: Event) -> Arc<Event> {
        let event = Arc::new(event);
        self.inner.emitted.fetch_add(1, Ordering::Relaxed);
        self.inner.taps.push(&event);
        let mut heard = false;
        for route in self.inner.routes.read().iter() {
            if route.listener.wants(&event.data) {
                heard = true;
                route.queue.push(Arc::clone(&event));
            }
        }
        if !heard {
            self.inner.unheard.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(
                event = event.event_type(),
                correlation_id = event.correlation_id,
                "no listener for this event"
            );
        }
        event
    }

    /// The recent events and the stream of those that follow.
    #[must_use]
    pub fn tap(&self) -> Tap {
        self.inner.taps.tap()
    }

    /// Records every event from now on.
    #[must_use]
    pub fn recorder(&self) -> Recorder {
        self.inner.taps.recorder()
    }

    /// How each listener is doing, in the order of subscription.
    #[must_use]
    pub fn stats(&self) -> Vec<ListenerStats> {
        self.inner.routes.read().iter().map(|r| r.stats()).collect()
    }

    /// Events emitted since the start.
    #[must_use]
    pub fn emitted(&self) -> u64 {
        self.inner.emitted.load(Ordering::Relaxed)
    }

    /// Events that no listener wanted.
    #[must_use]
    pub fn unheard(&self) -> u64 {
        self.inner.unheard.load(Ordering::Relaxed)
    }

    /// Closes the queues, lets the listeners finish what waits, and stops those that are
    /// not done after `within`. Later events reach taps and recorders only.
    pub async fn shutdown(&self, within: Duration) -> Drained {
        for route in self.inner.routes.read().iter() {
            route.queue.close();
        }
        let mut tasks = std::mem::take(&mut *self.inner.tasks.lock());
        let all = futures_util::future::join_all(tasks.iter_mut().map(|(_, task)| task));
        if timeout(within, all).await.is_ok() {
            return Drained::default();
        }
        let mut drained = Drained::default();
        for (name, task) in tasks {
            if !task.is_finished() {
                task.abort();
                drained.unfinished.push(name);
            }
        }
        tracing::warn!(listeners = ?drained.unfinished, "listeners stopped before they were done");
        drained
    }
}

impl EventSink for EventBus {
    fn emit(&self, source: Source, correlation_id: &str, data: EventData) {
        Self::emit(self, source, correlation_id, data);
    }

    fn forward(&self, event: Event) {
        self.hand_out(event);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The tasks hold their routes and would wait for ever.
        for route in self.routes.get_mut() {
            route.queue.close();
        }
    }
}

impl Route {
    async fn run(self: Arc<Self>) {
        while let Some(event) = self.queue.pop().await {
            let handling = AssertUnwindSafe(async { self.listener.handle(&event).await });
            let counter = match handling.catch_unwind().await {
                Ok(Ok(())) => &self.handled,
                Ok(Err(error)) => {
                    self.warn(&event, &error.to_string());
                    &self.failed
                }
                Err(_) => {
                    self.warn(&event, "panicked");
                    &self.failed
                }
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn warn(&self, event: &Event, error: &str) {
        tracing::warn!(
            listener = self.listener.name(),
            event = event.event_type(),
            event_id = event.id,
            correlation_id = event.correlation_id,
            error,
            "a listener failed"
        );
    }

    fn stats(&self) -> ListenerStats {
        ListenerStats {
            name: self.listener.name(),
            queued: self.queue.len(),
            handled: self.handled.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            dropped: self.queue.dropped(),
        }
    }
}

/// Room for waiting events of one listener, unless told otherwise.
pub const DEFAULT_QUEUE: usize = 1024;
