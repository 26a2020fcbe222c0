use std::fmt;
use std::sync::Arc;

use resilience_core::breaker::ResultClassifier;
#[cfg(feature = "metrics")]
use resilience_core::clock::SharedClock;
use tower_layer::Layer;

#[cfg(all(feature = "breaker", feature = "http"))]
use super::InResponse;
#[cfg(feature = "metrics")]
use super::meters::Meters;
use super::scope::{Scope, Shared};
use super::{ByAdmission, ByOutcome, Telemetry};
#[cfg(all(feature = "breaker", feature = "http"))]
use crate::breaker::http::HttpClassifier;

/// Puts a [`Telemetry`] around a service.
///
/// All services made by one layer, and by its clones, share its handles on the metrics. With feature
/// `metrics` a handle is registered with the recorder of the thread in which a call needs it first:
/// install the recorder before the first call.
#[derive(Clone)]
#[must_use]
pub struct TelemetryLayer<J = ByOutcome<ResultClassifier>> {
    shared: Arc<Shared>,
    judge: J,
}

impl TelemetryLayer {
    /// Tells of calls as a whole, and stands outermost. `name` becomes a label value: give the same
    /// to all that is the same to whoever reads it.
    pub fn call(name: impl Into<Arc<str>>) -> Self {
        Self::new(Scope::Call, name.into())
    }

    /// Tells of attempts one by one, and stands inside of the retry.
    pub fn attempt(name: impl Into<Arc<str>>) -> Self {
        Self::new(Scope::Attempt, name.into())
    }

    fn new(scope: Scope, name: Arc<str>) -> Self {
        Self {
            shared: Arc::new(Shared {
                scope,
                name,
                #[cfg(feature = "metrics")]
                clock: SharedClock::default(),
                #[cfg(feature = "metrics")]
                meters: Meters::default(),
            }),
            judge: ByOutcome(ResultClassifier),
        }
    }
}

impl<J> TelemetryLayer<J> {
    /// Judges by a classifier, the same as the breaker's.
    pub fn classify<C>(self, classifier: C) -> TelemetryLayer<ByOutcome<C>> {
        self.judge(ByOutcome(classifier))
    }

    /// Judges by a function `Fn(Result<&T, &E>) -> Ended` or any other [`Judge`](super::Judge). It is
    /// cloned once per service and once per call.
    pub fn judge<D>(self, judge: D) -> TelemetryLayer<D> {
        TelemetryLayer {
            shared: self.shared,
            judge,
        }
    }

    /// Goes by what a policy decided, when an error says so: a refusal by its policy and reason, and
    /// time that was up. Other errors, and answers, are judged as before.
    ///
    /// The error of a layer knows the refusals of that layer, that of a stack all of the stack's.
    pub fn admission(self) -> TelemetryLayer<ByAdmission<J>> {
        TelemetryLayer {
            shared: self.shared,
            judge: ByAdmission(self.judge),
        }
    }

    /// Judges HTTP responses by their status, as the breaker's layer of that name does, and goes by
    /// what a policy decided, when a response has it in its extensions
    /// ([`Admission::of`](crate::admission::Admission::of)), as every response has that a layer or a
    /// stack of this crate made of its refusal (`into_response`, `into_grpc_response`).
    #[cfg(all(feature = "breaker", feature = "http"))]
    pub fn http(self) -> TelemetryLayer<InResponse<ByOutcome<HttpClassifier>>> {
        self.judge(InResponse(ByOutcome(HttpClassifier)))
    }

    /// Takes durations by a clock of one's own. Ends what services made before have in common with
    /// those made after.
    #[cfg(feature = "metrics")]
    pub fn clock(self, clock: impl Into<SharedClock>) -> Self {
        let shared = Shared {
            scope: self.shared.scope,
            name: Arc::clone(&self.shared.name),
            clock: clock.into(),
            meters: Meters::default(),
        };
        Self {
            shared: Arc::new(shared),
            judge: self.judge,
        }
    }
}

impl<S, J: Clone> Layer<S> for TelemetryLayer<J> {
    type Service = Telemetry<S, J>;

    fn layer(&self, inner: S) -> Self::Service {
        Telemetry::new(inner, Arc::clone(&self.shared), self.judge.clone())
    }
}

// By hand: closures have no `Debug`.
impl<J> fmt::Debug for TelemetryLayer<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TelemetryLayer")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}
