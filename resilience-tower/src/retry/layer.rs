use resilience_core::breaker::ResultClassifier;
use resilience_core::retry::RetryPolicy;
use tower_layer::Layer;

#[cfg(feature = "timeout")]
use super::HonourDeadline;
use super::{CloneRequest, Retry};

/// Puts a [`Retry`] around a service.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RetryLayer<C = ResultClassifier, R = CloneRequest> {
    policy: RetryPolicy,
    classifier: C,
    replay: R,
}

impl RetryLayer {
    /// A layer that tries a call again while `policy` says so. Every `Err` may be retried, and
    /// every request is cloned: for HTTP say [`http`](Self::http).
    pub fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }
}

impl<C, R> RetryLayer<C, R> {
    /// Judges attempts by `classifier`, the same as the breaker's: a failure is tried again, an
    /// overloaded upstream after what it asked for; a success and what is ignored are answers.
    pub fn classify<D>(self, classifier: D) -> RetryLayer<D, R> {
        RetryLayer {
            policy: self.policy,
            classifier,
            replay: self.replay,
        }
    }

    /// Keeps requests by `replay`.
    pub fn replay<D>(self, replay: D) -> RetryLayer<C, D> {
        RetryLayer {
            policy: self.policy,
            classifier: self.classifier,
            replay,
        }
    }

    /// Begins no retry that the deadline of its request would overtake: that in the request itself
    /// ([`HasDeadline`](crate::timeout::deadline::HasDeadline)). [`http`](RetryLayer::http) does
    /// that by itself.
    #[cfg(feature = "timeout")]
    pub fn honour_deadline(self) -> RetryLayer<C, HonourDeadline<R>> {
        RetryLayer {
            policy: self.policy,
            classifier: self.classifier,
            replay: HonourDeadline(self.replay),
        }
    }

    /// The policy: its settings, its budget.
    pub fn policy(&self) -> &RetryPolicy {
        &self.policy
    }
}

impl<S, C: Clone, R: Clone> Layer<S> for RetryLayer<C, R> {
    type Service = Retry<S, C, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry::new(
            inner,
            self.policy.clone(),
            self.classifier.clone(),
            self.replay.clone(),
        )
    }
}
