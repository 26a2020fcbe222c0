use std::fmt;

use resilience_core::bulkhead;
use tower_layer::Layer;

use super::{Bulkhead, SamePriority, Wait};

/// Puts a [`Bulkhead`] around a service.
///
/// All services made by one layer, and by its clones, share one limit.
#[derive(Clone, Debug)]
#[must_use]
pub struct BulkheadLayer {
    bulkhead: bulkhead::Bulkhead,
}

impl BulkheadLayer {
    /// At most as many calls at once as `bulkhead` allows; one more is refused at once.
    pub fn new(bulkhead: bulkhead::Bulkhead) -> Self {
        Self { bulkhead }
    }

    /// Lets calls wait for their turn, in the line of the bulkhead (`max_queue` places, each for
    /// `max_wait` at most).
    pub fn wait(self) -> WaitLayer {
        WaitLayer {
            bulkhead: self.bulkhead,
            priority: SamePriority,
        }
    }

    /// The limit, for reading its figures or changing it.
    pub fn handle(&self) -> &bulkhead::Bulkhead {
        &self.bulkhead
    }
}

impl<S> Layer<S> for BulkheadLayer {
    type Service = Bulkhead<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Bulkhead::new(inner, self.bulkhead.clone())
    }
}

/// Puts a [`Wait`] around a service; made by [`BulkheadLayer::wait`].
#[derive(Clone)]
#[must_use]
pub struct WaitLayer<P = SamePriority> {
    bulkhead: bulkhead::Bulkhead,
    priority: P,
}

impl<P> WaitLayer<P> {
    /// Each call goes by what `priority`, a `Fn(&Request) -> Priority`, finds in the request.
    pub fn priority<Q>(self, priority: Q) -> WaitLayer<Q> {
        WaitLayer {
            bulkhead: self.bulkhead,
            priority,
        }
    }

    /// The limit, for reading its figures or changing it.
    pub fn handle(&self) -> &bulkhead::Bulkhead {
        &self.bulkhead
    }
}

impl<S, P: Clone> Layer<S> for WaitLayer<P> {
    type Service = Wait<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Wait::new(inner, self.bulkhead.clone(), self.priority.clone())
    }
}

// By hand: closures have no `Debug`.
impl<P> fmt::Debug for WaitLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitLayer")
            .field("bulkhead", &self.bulkhead)
            .finish_non_exhaustive()
    }
}
