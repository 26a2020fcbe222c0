//! Changes of state, told to subscribers.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, TrySendError, sync_channel},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{mode::Mode, state::State};

/// Why a breaker changed its state.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// Enough failures in a row.
    ConsecutiveFailures,
    /// Enough failures in a window.
    FailureCount,
    /// The share of failures in a window reached its threshold.
    FailureRate,
    /// The share of slow calls in a window reached its threshold.
    SlowCallRate,
    /// So many probes failed that the success threshold is out of reach, or more than allowed.
    ProbeFailed,
    /// Enough probes succeeded.
    ProbesSucceeded,
    /// The reset timeout was over when a caller came.
    ResetTimeout,
    /// Probes did not end within their lease and were written off; still half-open.
    LeaseExpired,
    /// A mode was set, or the breaker was reset.
    ByHand,
}

impl Cause {
    /// Snake case name, as used in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureCount => "failure_count",
            Self::FailureRate => "failure_rate",
            Self::SlowCallRate => "slow_call_rate",
            Self::ProbeFailed => "probe_failed",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::ResetTimeout => "reset_timeout",
            Self::LeaseExpired => "lease_expired",
            Self::ByHand => "by_hand",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The beginning of a generation: a change of state or mode, a reset, or an expired lease.
///
/// `from` and `to` are equal for an expired lease (half-open), and may be for a reset or a change
/// of mode.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Transition {
    /// The breaker's name.
    pub breaker: Arc<str>,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// The mode after.
    pub mode: Mode,
    /// The generation that began.
    pub generation: u32,
    /// Why.
    pub cause: Cause,
    /// Calls (or probes) that were judged: those of the window that opened.
    pub calls: u64,
    /// Failures among them.
    pub failures: u64,
    /// Slow calls among them.
    pub slow_calls: u64,
    /// Share of failures, if it was judged.
    pub failure_rate: Option<f64>,
    /// Share of slow calls, if it was judged.
    pub slow_call_rate: Option<f64>,
    /// How long the breaker stays open, when it opened by itself.
    pub open_for: Option<Duration>,
    /// The breaker only observes: no call was or will be refused because of this.
    pub observed: bool,
    /// It is the shadow's, not the breaker's own; always `observed` as well.
    pub shadow: bool,
}

type Callback = Box<dyn Fn(&Transition) + Send + Sync>;

#[derive(Default)]
pub(super) struct Events {
    subscribers: Mutex<Vec<Arc<Callback>>>,
    lost: AtomicU64,
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

    /// A subscription that never waits: what does not fit the channel is counted as lost.
    pub(super) fn channel(
        self: &Arc<Self>,
        capacity: usize,
    ) -> (Subscription, Receiver<Transition>) {
        let (sender, receiver) = sync_channel(capacity.max(1));
        let events = Arc::downgrade(self);
        let send = move |transition: &Transition| {
            if let Err(TrySendError::Full(_)) = sender.try_send(transition.clone())
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
