//! Changes of state, told to subscribers.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;

use super::state::State;

/// Why a breaker changed its state.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// Enough failures in a row.
    ConsecutiveFailures,
    /// The share of failures in the window reached its threshold.
    FailureRate,
    /// So many probes failed that the success threshold is out of reach, or more than allowed.
    ProbeFailed,
    /// Enough probes succeeded.
    ProbesSucceeded,
    /// The reset timeout was over when a caller came.
    ResetTimeout,
}

impl Cause {
    /// Snake case name, as used in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureRate => "failure_rate",
            Self::ProbeFailed => "probe_failed",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::ResetTimeout => "reset_timeout",
        }
    }
}

/// One change of state.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Transition {
    /// The breaker's name.
    pub breaker: Arc<str>,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// The generation that began.
    pub generation: u32,
    /// Why.
    pub cause: Cause,
    /// Calls (or probes) that were judged.
    pub calls: u64,
    /// Failures among them.
    pub failures: u64,
    /// Share of failures, if it was judged.
    pub failure_rate: Option<f64>,
    /// How long the breaker stays open, when it opened.
    pub open_for: Option<Duration>,
}

type Callback = Box<dyn Fn(&Transition) + Send + Sync>;

#[derive(Default)]
pub(super) struct Events {
    subscribers: Mutex<Vec<Arc<Callback>>>,
}

impl Events {
    pub(super) fn subscribe(self: &Arc<Self>, callback: Callback) -> Subscription {
        let callback = Arc::new(callback);
        self.subscribers.lock().push(Arc::clone(&callback));
        Subscription {
            events: Arc::downgrade(self),
            callback: Some(callback),
        }
    }

    pub(super) fn emit(&self, transition: &Transition) {
        let subscribers = self.subscribers.lock().clone();
        for subscriber in subscribers {
            // A subscriber's panic must not end the call that happened to cause the change.
            let _ = catch_unwind(AssertUnwindSafe(|| subscriber(transition)));
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
    /// Keeps the subscription for as long as the breaker lives.
    pub fn forget(mut self) {
        self.callback = None;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let (Some(callback), Some(events)) = (self.callback.take(), self.events.upgrade()) {
            let mut subscribers = events.subscribers.lock();
            subscribers.retain(|one| !Arc::ptr_eq(one, &callback));
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}
