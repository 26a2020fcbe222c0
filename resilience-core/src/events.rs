//! What a policy tells its subscribers.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, TrySendError, sync_channel},
    },
};

use parking_lot::Mutex;

type Callback<T> = Arc<dyn Fn(&T) + Send + Sync>;

/// Those who want to hear of every `T`.
pub(crate) struct Events<T> {
    list: Mutex<List<T>>,
    lost: AtomicU64,
}

struct List<T> {
    subscribers: Vec<(u64, Callback<T>)>,
    next: u64,
}

impl<T> Default for Events<T> {
    fn default() -> Self {
        Self {
            list: Mutex::new(List {
                subscribers: Vec::new(),
                next: 0,
            }),
            lost: AtomicU64::new(0),
        }
    }
}

impl<T: 'static> Events<T> {
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        callback: impl Fn(&T) + Send + Sync + 'static,
    ) -> Subscription {
        let callback: Callback<T> = Arc::new(callback);
        let mut list = self.list.lock();
        let id = list.next;
        list.next += 1;
        list.subscribers.push((id, callback));
        drop(list);
        let events: Weak<Self> = Arc::downgrade(self);
        Subscription {
            events,
            id: Some(id),
            also: None,
        }
    }

    /// A subscription that never waits: what does not fit the channel is counted as lost.
    pub(crate) fn channel(self: &Arc<Self>, capacity: usize) -> (Subscription, Receiver<T>)
    where
        T: Clone + Send,
    {
        let (send, receiver) = self.sender(capacity);
        (self.subscribe(send), receiver)
    }

    /// The callback of such a subscription, and what it sends to.
    pub(crate) fn sender(
        self: &Arc<Self>,
        capacity: usize,
    ) -> (impl Fn(&T) + Send + Sync + use<T>, Receiver<T>)
    where
        T: Clone + Send,
    {
        let (sender, receiver) = sync_channel(capacity.max(1));
        let events = Arc::downgrade(self);
        let send = move |event: &T| {
            if let Err(TrySendError::Full(_)) = sender.try_send(event.clone())
                && let Some(events) = events.upgrade()
            {
                // ORDERING: Relaxed. A statistic.
                events.lost.fetch_add(1, Ordering::Relaxed);
            }
        };
        (send, receiver)
    }
}

impl<T> Events<T> {
    /// Whether anybody subscribed.
    pub(crate) fn wanted(&self) -> bool {
        !self.list.lock().subscribers.is_empty()
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Tells all, outside the lock.
    pub(crate) fn emit(&self, event: &T) {
        let subscribers = self.list.lock().subscribers.clone();
        for (_, subscriber) in subscribers {
            // A subscriber's panic must not end the call that happened to cause the event.
            let _ = catch_unwind(AssertUnwindSafe(|| subscriber(event)));
        }
    }
}

impl<T> fmt::Debug for Events<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events({})", self.list.lock().subscribers.len())
    }
}

/// Ends the subscription when dropped.
#[must_use = "dropping it ends the subscription at once"]
pub struct Subscription {
    events: Weak<dyn Unsubscribe>,
    id: Option<u64>,
    /// Another one, which ends with it.
    also: Option<Box<Self>>,
}

trait Unsubscribe: Send + Sync {
    fn unsubscribe(&self, id: u64);
}

impl<T> Unsubscribe for Events<T> {
    fn unsubscribe(&self, id: u64) {
        let mut list = self.list.lock();
        let at = list.subscribers.iter().position(|(one, _)| *one == id);
        let ended = at.map(|at| list.subscribers.remove(at));
        drop(list);
        // What a closure holds may do anything when it is dropped: outside the lock.
        drop(ended);
    }
}

impl Subscription {
    /// Keeps the subscription for as long as what it is about lives.
    pub fn forget(mut self) {
        self.id = None;
        if let Some(also) = self.also.take() {
            also.forget();
        }
    }

    /// Both as one.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.also = Some(Box::new(other));
        self
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let (Some(id), Some(events)) = (self.id.take(), self.events.upgrade()) {
            events.unsubscribe(id);
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}
