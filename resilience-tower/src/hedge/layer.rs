use resilience_core::breaker::ResultClassifier;
use resilience_core::hedge::HedgePolicy;
use tower_layer::Layer;

use super::Hedge;
#[cfg(feature = "timeout")]
use crate::retry::HonourDeadline;

/// Puts a [`Hedge`] around a service.
///
/// All services made by one layer, and by its clones, share policy and budget.
#[derive(Clone, Debug)]
#[must_use]
pub struct HedgeLayer<R, C = ResultClassifier> {
    policy: HedgePolicy,
    classifier: C,
    replay: R,
}

impl<R> HedgeLayer<R> {
    /// A layer that hedges the calls whose requests `replay` keeps: it decides what may be done
    /// twice at the same time. [`CloneIf`](super::CloneIf) asks a function; for HTTP say
    /// [`http`](HedgeLayer::http).
    pub fn new(policy: HedgePolicy, replay: R) -> Self {
        Self {
            policy,
            classifier: ResultClassifier,
            replay,
        }
    }
}

impl<R, C> HedgeLayer<R, C> {
    /// Judges attempts by `classifier`, the same as the breaker's: a success is the answer of the
    /// call, a failure only if no other attempt runs; after an overloaded one no hedge begins. It
    /// is cloned once per call.
    pub fn classify<D>(self, classifier: D) -> HedgeLayer<R, D> {
        HedgeLayer {
            policy: self.policy,
            classifier,
            replay: self.replay,
        }
    }

    /// Begins no hedge that the deadline of its request would overtake: that in the request itself
    /// ([`HasDeadline`](crate::timeout::deadline::HasDeadline)). [`http`](HedgeLayer::http) does
    /// that by itself.
    #[cfg(feature = "timeout")]
    pub fn honour_deadline(self) -> HedgeLayer<HonourDeadline<R>, C> {
        HedgeLayer {
            policy: self.policy,
            classifier: self.classifier,
            replay: HonourDeadline(self.replay),
        }
    }

    /// The policy: its settings, its budget, its figures.
    pub fn policy(&self) -> &HedgePolicy {
        &self.policy
    }
}

impl<S, R: Clone, C: Clone> Layer<S> for HedgeLayer<R, C> {
    type Service = Hedge<S, C, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Hedge::new(
            inner,
            self.policy.clone(),
            self.classifier.clone(),
            self.replay.clone(),
        )
    }
}
