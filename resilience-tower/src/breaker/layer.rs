use resilience_core::breaker::{CircuitBreaker, ResultClassifier};
use tower_layer::Layer;

use super::Breaker;

/// Puts a [`Breaker`] around a service.
///
/// All services made by one layer, and by its clones, share one circuit breaker.
#[derive(Clone, Debug)]
#[must_use]
pub struct BreakerLayer<C = ResultClassifier> {
    breaker: CircuitBreaker,
    classifier: C,
}

impl BreakerLayer {
    /// A layer with a new breaker of default settings; `name` is told in refusals and events.
    pub fn new(name: &str) -> Self {
        Self::from_handle(CircuitBreaker::new(name))
    }

    /// A layer that uses an existing breaker: one with its own settings, or one that other
    /// layers or plain calls use too.
    pub fn from_handle(breaker: CircuitBreaker) -> Self {
        Self {
            breaker,
            classifier: ResultClassifier,
        }
    }
}

impl<C> BreakerLayer<C> {
    /// Replaces the rule that turns a result into an outcome; by default `Ok` is a success
    /// and `Err` a failure.
    ///
    /// The classifier is cloned once per service and once per call; keep large ones behind
    /// an `Arc`.
    pub fn classify<D>(self, classifier: D) -> BreakerLayer<D> {
        BreakerLayer {
            breaker: self.breaker,
            classifier,
        }
    }

    /// The breaker, for reading its state or subscribing to its events.
    pub fn handle(&self) -> &CircuitBreaker {
        &self.breaker
    }
}

impl<S, C: Clone> Layer<S> for BreakerLayer<C> {
    type Service = Breaker<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Breaker::with_classifier(inner, self.breaker.clone(), self.classifier.clone())
    }
}
