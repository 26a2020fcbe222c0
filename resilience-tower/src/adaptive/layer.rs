use resilience_core::adaptive::AdaptiveLimit;
use resilience_core::breaker::ResultClassifier;
use tower_layer::Layer;

use super::Adaptive;

/// Puts an [`Adaptive`] around a service.
///
/// All services made by one layer, and by its clones, share one limit.
#[derive(Clone, Debug)]
#[must_use]
pub struct AdaptiveLayer<C = ResultClassifier> {
    limit: AdaptiveLimit,
    classifier: C,
}

impl AdaptiveLayer {
    /// At most as many calls at once as `limit` allows at the moment; one more is refused.
    ///
    /// It judges by `Ok` and `Err` alone: each `Err` counts as overload.
    pub fn new(limit: AdaptiveLimit) -> Self {
        Self {
            limit,
            classifier: ResultClassifier,
        }
    }
}

impl<C> AdaptiveLayer<C> {
    /// Judges calls by `classifier`, which may be the breaker's; see the [module](super) for what
    /// its outcomes mean here. It is cloned once per service and once per call.
    pub fn classify<D>(self, classifier: D) -> AdaptiveLayer<D> {
        AdaptiveLayer {
            limit: self.limit,
            classifier,
        }
    }

    /// The limit, for reading its figures or changing its settings.
    pub fn handle(&self) -> &AdaptiveLimit {
        &self.limit
    }
}

impl<S, C: Clone> Layer<S> for AdaptiveLayer<C> {
    type Service = Adaptive<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Adaptive::new(inner, self.limit.clone(), self.classifier.clone())
    }
}
