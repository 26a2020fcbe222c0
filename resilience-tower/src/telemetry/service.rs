use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::record::Record;
use super::scope::Shared;
use super::{Judge, ResponseFuture};

/// A service that tells how its calls ended; made by [`TelemetryLayer`](super::TelemetryLayer).
///
/// Requests, responses and errors pass untouched. `poll_ready` asks the inner service, and tells
/// nothing.
#[derive(Clone)]
pub struct Telemetry<S, J> {
    inner: S,
    shared: Arc<Shared>,
    judge: J,
}

impl<S, J> Telemetry<S, J> {
    pub(super) fn new(inner: S, shared: Arc<Shared>, judge: J) -> Self {
        Self {
            inner,
            shared,
            judge,
        }
    }

    /// The service within.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Gives the service within back.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, J, Req> Service<Req> for Telemetry<S, J>
where
    S: Service<Req>,
    J: Judge<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, J>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let mut record = Record::begin(&self.shared);
        let inner = record.within(|| self.inner.call(req));
        ResponseFuture::new(inner, record, self.judge.clone())
    }
}

// Here and not beside those of the others: they need what refusals are made of.
#[cfg(feature = "tonic")]
impl<S: ::tonic::server::NamedService, J> ::tonic::server::NamedService for Telemetry<S, J> {
    const NAME: &'static str = S::NAME;
}

// By hand: closures have no `Debug`.
impl<S: fmt::Debug, J> fmt::Debug for Telemetry<S, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("inner", &self.inner)
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}
