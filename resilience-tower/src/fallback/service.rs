use std::fmt;
use std::task::{Context, Poll};

use resilience_core::breaker::Classify;
use tower_service::Service;

use super::handle::Fallbacks;
use super::{Answer, Error, Mark, ResponseFuture};

/// A service whose failed calls are answered by a fallback.
///
/// `poll_ready` asks the inner service, and passes its error on: there is no request yet that could
/// be answered otherwise.
#[derive(Clone)]
pub struct Fallback<S, A, C, M> {
    inner: S,
    answer: A,
    classifier: C,
    mark: M,
    handle: Fallbacks,
}

impl<S, A, C, M> Fallback<S, A, C, M> {
    /// See [`FallbackLayer`](super::FallbackLayer).
    pub fn new(inner: S, answer: A, classifier: C, mark: M, handle: Fallbacks) -> Self {
        Self {
            inner,
            answer,
            classifier,
            mark,
            handle,
        }
    }

    /// The counts.
    pub fn handle(&self) -> &Fallbacks {
        &self.handle
    }

    /// The service that may fail.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Gives the service that may fail back.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: fmt::Debug, A, C, M> fmt::Debug for Fallback<S, A, C, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("inner", &self.inner)
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

impl<S, A, C, M, Req> Service<Req> for Fallback<S, A, C, M>
where
    S: Service<Req>,
    A: Answer<Req, S::Response, S::Error> + Clone,
    C: Classify<S::Response, S::Error> + Clone,
    M: Mark<S::Response> + Clone,
{
    type Response = S::Response;
    type Error = Error<S::Error, A::Error>;
    type Future = ResponseFuture<S::Future, Req, S::Response, S::Error, A, C, M>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let kept = self.answer.keep(&req);
        let answer = self.answer.clone();
        let classifier = self.classifier.clone();
        let (mark, handle) = (self.mark.clone(), self.handle.clone());
        let inner = self.inner.call(req);
        ResponseFuture::new(inner, kept, answer, classifier, mark, handle)
    }
}
