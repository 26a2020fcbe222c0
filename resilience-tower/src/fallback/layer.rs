use resilience_core::breaker::ResultClassifier;
use tower_layer::Layer;

#[cfg(feature = "http")]
use super::answer::InExtensions;
use super::answer::{Function, FunctionOf, Unmarked, Value};
use super::{Fallback, Fallbacks, Reason};
#[cfg(feature = "http")]
use crate::breaker::http::HttpClassifier;

/// Puts a [`Fallback`] around a service.
///
/// All services made by one layer, and by its clones, share the counts.
#[derive(Clone, Debug)]
#[must_use]
pub struct FallbackLayer<A, C = ResultClassifier, M = Unmarked> {
    answer: A,
    classifier: C,
    mark: M,
    handle: Fallbacks,
}

impl<V> FallbackLayer<Value<V>> {
    /// Answers failed calls by clones of `value`. Every `Err` is a failure: for HTTP say
    /// [`http`](Self::http).
    pub fn value(value: V) -> Self {
        Self::of(Value(value))
    }
}

impl<F> FallbackLayer<Function<F>> {
    /// Answers failed calls by what `function` answers, which is told why. It is cloned once per
    /// call. Who needs the error itself writes an [`Answer`](super::Answer).
    pub fn function<A>(function: F) -> Self
    where
        F: Fn(Reason) -> A,
    {
        Self::of(Function(function))
    }
}

impl<K, F> FallbackLayer<FunctionOf<K, F>> {
    /// Answers failed calls by what `function` answers, which is told what `keep` took out of the
    /// request, and why. Both are cloned once per call.
    pub fn function_of<Req, Kept, A>(keep: K, function: F) -> Self
    where
        K: Fn(&Req) -> Kept,
        F: Fn(Kept, Reason) -> A,
    {
        Self::of(FunctionOf { keep, function })
    }
}

impl<A> FallbackLayer<A> {
    /// Answers failed calls by `answer`, an [`Answer`](super::Answer) of one's own.
    pub fn of(answer: A) -> Self {
        Self {
            answer,
            classifier: ResultClassifier,
            mark: Unmarked,
            handle: Fallbacks::default(),
        }
    }
}

impl<A, C, M> FallbackLayer<A, C, M> {
    /// Judges calls by `classifier`, the same as the breaker's: a failure and an overloaded upstream
    /// have a fallback; a success and what is ignored are answers. It is cloned once per call.
    pub fn classify<D>(self, classifier: D) -> FallbackLayer<A, D, M> {
        FallbackLayer {
            answer: self.answer,
            classifier,
            mark: self.mark,
            handle: self.handle,
        }
    }

    /// Tells answers why they are fallbacks, by a [`Mark`](super::Mark).
    pub fn mark<N>(self, mark: N) -> FallbackLayer<A, C, N> {
        FallbackLayer {
            answer: self.answer,
            classifier: self.classifier,
            mark,
            handle: self.handle,
        }
    }

    /// Judges HTTP calls by the status of their responses ([`HttpClassifier`]), and puts
    /// [`FellBack`](super::FellBack) into the extensions of a response that is a fallback.
    #[cfg(feature = "http")]
    pub fn http(self) -> FallbackLayer<A, HttpClassifier, InExtensions> {
        self.classify(HttpClassifier).mark(InExtensions)
    }

    /// The counts.
    pub fn handle(&self) -> &Fallbacks {
        &self.handle
    }
}

impl<S, A: Clone, C: Clone, M: Clone> Layer<S> for FallbackLayer<A, C, M> {
    type Service = Fallback<S, A, C, M>;

    fn layer(&self, inner: S) -> Self::Service {
        Fallback::new(
            inner,
            self.answer.clone(),
            self.classifier.clone(),
            self.mark.clone(),
            self.handle.clone(),
        )
    }
}
