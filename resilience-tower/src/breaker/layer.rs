use resilience_core::breaker::{CircuitBreaker, ResultClassifier};
use tower_layer::Layer;

use super::{Breaker, ByRequest, OnResult};

/// Puts a [`Breaker`] around a service.
///
/// All services made by one layer, and by its clones, share one circuit breaker.
#[derive(Clone, Debug)]
#[must_use]
pub struct BreakerLayer<J = OnResult<ResultClassifier>> {
    breaker: CircuitBreaker,
    judge: J,
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
            judge: OnResult(ResultClassifier),
        }
    }
}

impl<J> BreakerLayer<J> {
    /// Replaces the rule that turns a result into an outcome; by default `Ok` is a success
    /// and `Err` a failure.
    ///
    /// The classifier is cloned once per service and once per call; keep large ones behind
    /// an `Arc`.
    pub fn classify<C>(self, classifier: C) -> BreakerLayer<OnResult<C>> {
        self.judge(OnResult(classifier))
    }

    /// Lets a function of the request say how its call is judged; see [`ByRequest`].
    ///
    /// # Examples
    ///
    /// A 404 for a record that the caller has just created is a failure of this upstream:
    ///
    /// ```
    /// use resilience_tower::breaker::{BreakerLayer, OnResult};
    /// use resilience_core::breaker::{Outcome, classify_fn};
    ///
    /// struct Lookup { just_created: bool }
    ///
    /// let layer = BreakerLayer::new("records").classify_by(|request: &Lookup| {
    ///     let must_exist = request.just_created;
    ///     OnResult(classify_fn(move |result: Result<&Option<String>, &std::io::Error>| {
    ///         match result {
    ///             Ok(None) if must_exist => Outcome::Failure,
    ///             Ok(_) => Outcome::Success,
    ///             Err(_) => Outcome::Failure,
    ///         }
    ///     }))
    /// });
    /// # let _ = layer;
    /// ```
    pub fn classify_by<F>(self, judge_of: F) -> BreakerLayer<ByRequest<F>> {
        self.judge(ByRequest(judge_of))
    }

    /// Replaces the [`Judge`](super::Judge), which is cloned once per service.
    pub fn judge<K>(self, judge: K) -> BreakerLayer<K> {
        BreakerLayer {
            breaker: self.breaker,
            judge,
        }
    }

    /// The breaker, for reading its state or subscribing to its events.
    pub fn handle(&self) -> &CircuitBreaker {
        &self.breaker
    }
}

impl<S, J: Clone> Layer<S> for BreakerLayer<J> {
    type Service = Breaker<S, J>;

    fn layer(&self, inner: S) -> Self::Service {
        Breaker::with_judge(inner, self.breaker.clone(), self.judge.clone())
    }
}
