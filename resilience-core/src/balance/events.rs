//! What becomes of endpoints, told to subscribers.

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, TrySendError, sync_channel},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{plan::Member, state::EndpointId};

/// Why an endpoint was ejected.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// Enough failures in a row.
    ConsecutiveFailures,
    /// A success rate far below that of the others.
    SuccessRate,
}

impl Cause {
    /// Snake case name, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::SuccessRate => "success_rate",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of an endpoint, or of all.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It has another weight.
    Weighted {
        /// The weight from now on.
        weight: u32,
    },
    /// It is given no calls for a time.
    Ejected {
        /// Why.
        cause: Cause,
        /// For how long.
        time: Duration,
    },
    /// Its ejection is over; told at the first pick after its time, or when it ended sooner.
    Returned,
    /// It is unhealthy, as [`Balancer::set_health`](super::Balancer::set_health) was told.
    Unhealthy,
    /// It is healthy again.
    Healthy,
    /// It was the last of those with a weight that were neither ejected nor unhealthy: calls now
    /// go to those that are, or are refused.
    NoneLeft,
    /// It is the first one that may be picked again.
    SomeLeft,
}

impl Change {
    /// Snake case name, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Weighted { .. } => "weighted",
            Self::Ejected { .. } => "ejected",
            Self::Returned => "returned",
            Self::Unhealthy => "unhealthy",
            Self::Healthy => "healthy",
            Self::NoneLeft => "none_left",
            Self::SomeLeft => "some_left",
        }
    }
}

/// A change, and of whom.
///
/// Those of one thread come in order; of two threads each may tell its own first. The
/// [snapshot](super::Balancer::snapshot) says how things are.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The endpoint's name.
    pub endpoint: Arc<str>,
    /// Tells it apart.
    pub id: EndpointId,
    /// What became of it.
    pub change: Change,
}

type Callback = Box<dyn Fn(&Event) + Send + Sync>;

#[derive(Default)]
pub(super) struct Events {
    subscribers: Mutex<Vec<Arc<Callback>>>,
    many: AtomicUsize,
    lost: AtomicU64,
}

/// What is told once no lock is held any more.
#[derive(Debug)]
pub(super) struct News {
    wanted: bool,
    list: Vec<Event>,
}

impl News {
    /// Nothing is kept for nobody: an ejection then allocates nothing.
    pub(super) fn push(&mut self, endpoint: &Arc<str>, id: EndpointId, change: Change) {
        if self.wanted {
            self.list.push(Event {
                endpoint: Arc::clone(endpoint),
                id,
                change,
            });
        }
    }
}

impl News {
    /// Who is gone, who is new, and whose weight is another.
    pub(super) fn compare(&mut self, old: &[Member], new: &[Member]) {
        if !self.wanted {
            return;
        }
        let weights = |members: &[Member]| -> HashMap<EndpointId, u32> {
            let weights = members.iter().map(|member| (member.state.id, member.weight));
            weights.collect()
        };
        let (before, after) = (weights(old), weights(new));
        for member in old.iter().filter(|one| !after.contains_key(&one.state.id)) {
            self.push(&member.name, member.state.id, Change::Removed);
        }
        for member in new {
            let weight = member.weight;
            let change = match before.get(&member.state.id) {
                None => Change::Added,
                Some(before) if *before != weight => Change::Weighted { weight },
                Some(_) => continue,
            };
            self.push(&member.name, member.state.id, change);
        }
    }
}

impl Events {
    pub(super) fn news(&self) -> News {
        News {
            // ORDERING: Relaxed. Who subscribes while something happens may miss it.
            wanted: self.many.load(Ordering::Relaxed) > 0,
            list: Vec::new(),
        }
    }

    pub(super) fn subscribe(self: &Arc<Self>, callback: Callback) -> Subscription {
        let callback = Arc::new(callback);
        let mut subscribers = self.subscribers.lock();
        subscribers.push(Arc::clone(&callback));
        self.many.store(subscribers.len(), Ordering::Relaxed);
        Subscription {
            events: Arc::downgrade(self),
            callback: Some(callback),
        }
    }

    /// A subscription that never waits: what does not fit the channel is counted as lost.
    pub(super) fn channel(self: &Arc<Self>, capacity: usize) -> (Subscription, Receiver<Event>) {
        let (sender, receiver) = sync_channel(capacity.max(1));
        let events = Arc::downgrade(self);
        let send = move |event: &Event| {
            if let Err(TrySendError::Full(_)) = sender.try_send(event.clone())
                && let Some(events) = events.upgrade()
            {
                // ORDERING: Relaxed. A statistic.
                events.lost.fetch_add(1, Ordering::Relaxed);
            }
        };
        (self.subscribe(Box::new(send)), receiver)
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn tell(&self, news: News) {
        if news.list.is_empty() {
            return;
        }
        let subscribers = self.subscribers.lock().clone();
        for event in &news.list {
            for subscriber in &subscribers {
                // A subscriber's panic must not end the call that happened to cause the change.
                let _ = catch_unwind(AssertUnwindSafe(|| subscriber(event)));
            }
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events({})", self.subscribers.lock().len())
    }
}

/// Ends the subscription when dropped.
#[must_use = "dropping it ends the subscription at once"]
pub struct Subscription {
    events: Weak<Events>,
    callback: Option<Arc<Callback>>,
}

impl Subscription {
    /// Keeps the subscription for as long as the balancer lives.
    pub fn forget(mut self) {
        self.callback = None;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let (Some(callback), Some(events)) = (self.callback.take(), self.events.upgrade()) {
            let mut subscribers = events.subscribers.lock();
            subscribers.retain(|one| !Arc::ptr_eq(one, &callback));
            events.many.store(subscribers.len(), Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}
