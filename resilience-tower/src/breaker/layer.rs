use resilience_core::breaker::{CircuitBreaker, Registry, ResultClassifier};
use tower_layer::Layer;

use super::{Breaker, ByRequest, Keyed, OnFull, OnResult};

/// Puts a [`Breaker`] around a service.
///
/// All services made by one layer, and by its clones, share one circuit breaker, or one registry
/// of them.
///
/// `J` judges the calls (by default `Ok` is a success, `Err` a failure); `P` gives the permits.
#[derive(Clone, Debug)]
#[must_use]
pub struct BreakerLayer<J = OnResult<ResultClassifier>, P = CircuitBreaker> {
    permits: P,
    judge: J,
}

impl BreakerLayer {
    /// A layer with a new breaker of default settings; `name` is told in refusals and events.
    ///
    /// It judges by `Ok` and `Err` alone. A client or server of HTTP or gRPC answers `Ok` also
    /// when it fails: add `.http()` or `.grpc()` (feature `http`).
    pub fn new(name: &str) -> Self {
        Self::from_handle(CircuitBreaker::new(name))
    }

    /// A layer that uses an existing breaker: one with its own settings, or one that other
    /// layers or plain calls use too.
    pub fn from_handle(breaker: CircuitBreaker) -> Self {
        Self::from_permits(breaker)
    }
}

impl<K, F> BreakerLayer<OnResult<ResultClassifier>, Keyed<K, F>> {
    /// A layer with a breaker per key of the request; `key` tells the key, and `on_full` what
    /// becomes of a call whose key is new while `registry` can take no more.
    pub fn keyed(registry: Registry<K>, on_full: OnFull, key: F) -> Self {
        Self::from_permits(Keyed::new(registry, on_full, key))
    }
}

impl<P> BreakerLayer<OnResult<ResultClassifier>, P> {
    /// A layer that takes its permits from `permits`, which is cloned once per service.
    pub fn from_permits(permits: P) -> Self {
        Self {
            permits,
            judge: OnResult(ResultClassifier),
        }
    }
}

impl<J> BreakerLayer<J> {
    /// The breaker, for reading its state or subscribing to its events.
    pub fn handle(&self) -> &CircuitBreaker {
        &self.permits
    }
}

impl<J, P> BreakerLayer<J, P> {
    /// Replaces the rule that turns a result into an outcome; by default `Ok` is a success
    /// and `Err` a failure.
    ///
    /// The classifier is cloned once per service and once per call; keep large ones behind
    /// an `Arc`.
    pub fn classify<C>(self, classifier: C) -> BreakerLayer<OnResult<C>, P> {
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
    pub fn classify_by<F>(self, judge_of: F) -> BreakerLayer<ByRequest<F>, P> {
        self.judge(ByRequest(judge_of))
    }

    /// Replaces the [`Judge`](super::Judge), which is cloned once per service.
    pub fn judge<K>(self, judge: K) -> BreakerLayer<K, P> {
        BreakerLayer {
            permits: self.permits,
            judge,
        }
    }

    /// Where the permits come from: the breaker, or the breakers by key.
    pub fn permits(&self) -> &P {
        &self.permits
    }
}

impl<S, J: Clone, P: Clone> Layer<S> for BreakerLayer<J, P> {
    type Service = Breaker<S, J, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Breaker::from_parts(inner, self.permits.clone(), self.judge.clone())
    }
}
