use resilience_core::deadline::Deadlines;
use tower_layer::Layer;

use super::{InProcess, WithDeadline};

/// Puts a [`WithDeadline`] around a service.
///
/// All services made by one layer, and by its clones, share settings and counts.
#[derive(Clone, Debug)]
#[must_use]
pub struct DeadlineLayer<P = InProcess> {
    deadlines: Deadlines,
    propagate: P,
}

impl DeadlineLayer {
    /// A layer that gives calls the time that `deadlines` and the request allow.
    pub fn new(deadlines: Deadlines) -> Self {
        Self {
            deadlines,
            propagate: InProcess,
        }
    }
}

impl Default for DeadlineLayer {
    /// A layer without a limit of its own: only what requests bring along counts.
    fn default() -> Self {
        Self::new(Deadlines::default())
    }
}

impl<P> DeadlineLayer<P> {
    /// Reads and writes the time that is left by `propagate`; for HTTP and gRPC that is
    /// `http::Headers` (feature `http`).
    pub fn propagate<Q>(self, propagate: Q) -> DeadlineLayer<Q> {
        DeadlineLayer {
            deadlines: self.deadlines,
            propagate,
        }
    }

    /// The settings and counts, for changing and reading them.
    pub fn handle(&self) -> &Deadlines {
        &self.deadlines
    }
}

impl<S, P: Clone> Layer<S> for DeadlineLayer<P> {
    type Service = WithDeadline<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        WithDeadline::new(inner, self.deadlines.clone(), self.propagate.clone())
    }
}
