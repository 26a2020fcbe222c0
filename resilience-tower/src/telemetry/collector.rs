use std::fmt;
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;

use super::samples::{Counted, Samples, Totals};
use super::source::{Source, WayBack};

/// Publishes the figures of policies; clones are handles on the same one.
///
/// Policies count for themselves, so a call pays nothing for being collected: no hook, no label, no
/// registration. [`publish`](Self::publish) reads their snapshots and tells the recorder of the
/// `metrics` facade what has been counted since the last time, and the gauges of now. Call it where
/// the metrics are read: before each scrape, or in turn with a push.
///
/// A policy is not kept alive. One that is gone leaves at the next `publish`: its gauges become zero,
/// and what it counted after the last one is lost.
///
/// # Several policies of one name
///
/// Are one series: counters and gauges are added (of times and levels, the greatest is told), so a
/// breaker per worker reads as how many are open. To tell policies apart, give them names of their
/// own; names are label values, so let there be few of them. One that is added twice is counted twice.
///
/// # Concurrency
///
/// Callers of `publish` and `add` exclude each other; calls through the policies never wait for
/// either.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "breaker")]
/// # {
/// use resilience_core::breaker::CircuitBreaker;
/// use resilience_tower::telemetry::Collector;
///
/// let breaker = CircuitBreaker::new("payments");
/// let collector = Collector::new();
/// collector.add("payments", &breaker);
/// // For each scrape:
/// collector.publish();
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Collector(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    entries: Vec<Box<dyn Watched>>,
    /// How many entries there may be before `add` looks for those that are gone.
    room: usize,
    told: Totals,
}

impl Collector {
    /// A collector of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Publishes the figures of `policy` from now on, with `name` as the label of that name.
    pub fn add<S: Source>(&self, name: impl Into<Arc<str>>, policy: &S) {
        self.add_as(S::POLICY, name.into(), policy);
    }

    /// Publishes the figures of all policies that `stack` has, with its name. Their labels `policy`
    /// are the names that they have in descriptions.
    #[cfg(feature = "stack")]
    pub fn add_stack(&self, stack: &crate::stack::Handle) {
        let name: Arc<str> = stack.name().into();
        macro_rules! add {
            ($($part:ident)*) => {$(
                if let Some(policy) = stack.$part() {
                    self.add_as(stringify!($part), Arc::clone(&name), policy);
                }
            )*};
        }
        add!(rate_limit deadline retry hedge breaker bulkhead adaptive upstream_quota attempt_timeout);
    }

    fn add_as<S: Source>(&self, label: &'static str, name: Arc<str>, policy: &S) {
        let entry = Box::new(Entry {
            label,
            name,
            policy: policy.way_back(),
            counted: Counted::new(),
        });
        let mut inner = self.0.lock();
        // Also where nobody ever publishes those that are gone are not kept.
        if inner.entries.len() >= inner.room {
            inner.entries.retain(|entry| entry.is_alive());
            inner.room = 2 * inner.entries.len() + 16;
        }
        inner.entries.push(entry);
    }

    /// Tells the recorder: the local one of this thread if there is one, else the global one.
    ///
    /// The recorder must be installed before: what is told to nobody is not told again.
    pub fn publish(&self) {
        let mut inner = self.0.lock();
        let mut totals = Totals::default();
        inner.entries.retain_mut(|entry| entry.observe(&mut totals));
        let before = mem::take(&mut inner.told);
        metrics::with_recorder(|recorder| totals.tell(&before, recorder));
        inner.told = totals;
    }

    /// Policies that are collected; some of them may be gone since the last `publish`.
    pub fn len(&self) -> usize {
        self.0.lock().entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector")
            .field("policies", &self.len())
            .finish()
    }
}

struct Entry<S> {
    label: &'static str,
    name: Arc<str>,
    policy: WayBack<S>,
    counted: Counted,
}

/// An entry, whatever its policy.
trait Watched: Send {
    fn is_alive(&self) -> bool;

    /// Takes the figures; false once the policy is gone.
    fn observe(&mut self, totals: &mut Totals) -> bool;
}

impl<S: Source> Watched for Entry<S> {
    fn is_alive(&self) -> bool {
        (self.policy)().is_some()
    }

    fn observe(&mut self, totals: &mut Totals) -> bool {
        let Some(policy) = (self.policy)() else {
            return false;
        };
        let mut samples = Samples::new(self.label, &self.name, &mut self.counted, totals);
        policy.observe(&mut samples);
        true
    }
}
