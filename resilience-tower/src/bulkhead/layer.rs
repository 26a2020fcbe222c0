use std::fmt;

use resilience_core::bulkhead::{self, Registry};
use tower_layer::Layer;

#[cfg(feature = "timeout")]
use super::HonourDeadline;
use super::{Bulkhead, Keyed, OnFull, SamePriority, Wait};

/// Puts a [`Bulkhead`] around a service.
///
/// All services made by one layer, and by its clones, share one limit, or one registry of them. `B`
/// gives the permits.
#[derive(Clone, Debug)]
#[must_use]
pub struct BulkheadLayer<B = bulkhead::Bulkhead> {
    permits: B,
}

impl BulkheadLayer {
    /// At most as many calls at once as `bulkhead` allows; one more is refused at once.
    pub fn new(bulkhead: bulkhead::Bulkhead) -> Self {
        Self::from_permits(bulkhead)
    }

    /// The limit, for reading its figures or changing it.
    pub fn handle(&self) -> &bulkhead::Bulkhead {
        &self.permits
    }
}

impl<K, F> BulkheadLayer<Keyed<K, F>> {
    /// A layer with a bulkhead per key of the request; `key` tells the key, and `on_full` what
    /// becomes of a call whose key is new while all bulkheads of `registry` are in use.
    pub fn keyed(registry: Registry<K>, on_full: OnFull, key: F) -> Self {
        Self::from_permits(Keyed::new(registry, on_full, key))
    }
}

impl<B> BulkheadLayer<B> {
    /// A layer that takes its permits from `permits`, which is cloned once per service.
    pub fn from_permits(permits: B) -> Self {
        Self { permits }
    }

    /// Lets calls wait for their turn, in the line of their bulkhead (`max_queue` places, each for
    /// `max_wait` at most).
    pub fn wait(self) -> WaitLayer<SamePriority, B> {
        WaitLayer {
            permits: self.permits,
            priority: SamePriority,
        }
    }

    /// Where the permits come from: the bulkhead, or the bulkheads by key.
    pub fn permits(&self) -> &B {
        &self.permits
    }
}

impl<S, B: Clone> Layer<S> for BulkheadLayer<B> {
    type Service = Bulkhead<S, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Bulkhead::new(inner, self.permits.clone())
    }
}

/// Puts a [`Wait`] around a service; made by [`BulkheadLayer::wait`].
#[derive(Clone)]
#[must_use]
pub struct WaitLayer<P = SamePriority, B = bulkhead::Bulkhead> {
    permits: B,
    priority: P,
}

impl<P> WaitLayer<P> {
    /// The limit, for reading its figures or changing it.
    pub fn handle(&self) -> &bulkhead::Bulkhead {
        &self.permits
    }
}

impl<P, B> WaitLayer<P, B> {
    /// Each call goes by what `priority`, a `Fn(&Request) -> Priority`, finds in the request.
    pub fn priority<Q>(self, priority: Q) -> WaitLayer<Q, B> {
        WaitLayer {
            permits: self.permits,
            priority,
        }
    }

    /// Lets no call wait longer than until the deadline of its request: that in the request itself
    /// ([`HasDeadline`](crate::timeout::deadline::HasDeadline)). One whose deadline is over is
    /// refused at once. Say it after [`priority`](Self::priority).
    #[cfg(feature = "timeout")]
    pub fn honour_deadline(self) -> WaitLayer<HonourDeadline<P>, B> {
        WaitLayer {
            permits: self.permits,
            priority: HonourDeadline(self.priority),
        }
    }

    /// Where the permits come from: the bulkhead, or the bulkheads by key.
    pub fn permits(&self) -> &B {
        &self.permits
    }
}

impl<S, P: Clone, B: Clone> Layer<S> for WaitLayer<P, B> {
    type Service = Wait<S, P, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Wait::new(inner, self.permits.clone(), self.priority.clone())
    }
}

// By hand: closures have no `Debug`.
impl<P, B: fmt::Debug> fmt::Debug for WaitLayer<P, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitLayer")
            .field("permits", &self.permits)
            .finish_non_exhaustive()
    }
}
