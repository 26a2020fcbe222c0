use std::task::{Context, Poll};

use resilience_core::chaos::{Abort, Chaos as Handle, End, Fault};
use tower_service::Service;

use super::{Error, Faults, Injected, ResponseFuture};

/// A service some of whose calls take longer, fail or never answer, on purpose.
///
/// `poll_ready` asks the inner service alone.
#[derive(Clone, Debug)]
pub struct Chaos<S, F> {
    inner: S,
    handle: Handle,
    faults: F,
}

impl<S, F> Chaos<S, F> {
    /// See [`ChaosLayer`](super::ChaosLayer).
    pub fn new(inner: S, handle: Handle, faults: F) -> Self {
        Self {
            inner,
            handle,
            faults,
        }
    }

    /// The switch, the settings and the counts.
    pub fn handle(&self) -> &Handle {
        &self.handle
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

impl<S, F, Req> Service<Req> for Chaos<S, F>
where
    S: Service<Req>,
    F: Faults<Req, S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S::Future, S::Response, S::Error>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let fault = if self.handle.is_on() && self.faults.may_hit(&req) {
            self.handle.draw()
        } else {
            None
        };
        let Some(Fault { latency, end, .. }) = fault else {
            return ResponseFuture::called(self.inner.call(req), None);
        };
        match end {
            None => ResponseFuture::called(self.inner.call(req), latency),
            Some(End::Error) => ResponseFuture::fault(self.faults.error(&req), latency),
            Some(End::Abort(Abort::Silence)) => ResponseFuture::silent(),
            // More ways to break off may come.
            Some(_) => {
                let broke = Err(Error::Injected(Injected::Disconnected));
                ResponseFuture::fault(broke, latency)
            }
        }
    }
}

// Here and not beside those of the others: they need what refusals are made of.
#[cfg(feature = "tonic")]
impl<S: ::tonic::server::NamedService, F> ::tonic::server::NamedService for Chaos<S, F> {
    const NAME: &'static str = S::NAME;
}
