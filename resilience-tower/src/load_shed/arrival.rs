//! When a request came, and how long it has lain in queues since.

use std::task::{Context, Poll};
use std::time::Duration;

use resilience_core::load_shed;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

/// When a request came, on tokio's clock.
///
/// In the extensions of an HTTP request (feature `http`), or wherever another request keeps it
/// ([`HasArrival`]).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Arrived(Instant);

impl Arrived {
    /// At this moment.
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// At a point in time, such as when the connection was accepted.
    pub const fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// When it was.
    pub const fn instant(self) -> Instant {
        self.0
    }

    /// How long ago it was.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// A request that can carry the time of its [arrival](Arrived).
pub trait HasArrival {
    /// The time that it carries.
    fn arrived(&self) -> Option<Arrived>;

    /// Sets it.
    fn set_arrived(&mut self, arrived: Arrived);
}

#[cfg(feature = "http")]
impl<B> HasArrival for ::http::Request<B> {
    fn arrived(&self) -> Option<Arrived> {
        self.extensions().get().copied()
    }

    fn set_arrived(&mut self, arrived: Arrived) {
        self.extensions_mut().insert(arrived);
    }
}

/// Puts a [`Stamp`] around a service.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct StampLayer;

impl<S> Layer<S> for StampLayer {
    type Service = Stamp<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Stamp { inner }
    }
}

/// A service whose requests carry the time of their arrival; one that carries it already keeps the
/// earlier one.
#[derive(Clone, Debug)]
pub struct Stamp<S> {
    inner: S,
}

impl<S, Req> Service<Req> for Stamp<S>
where
    S: Service<Req>,
    Req: HasArrival,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Req) -> Self::Future {
        if req.arrived().is_none() {
            req.set_arrived(Arrived::now());
        }
        self.inner.call(req)
    }
}

/// Puts a [`Measure`] around a service; made by [`LoadShedLayer::measure`](super::LoadShedLayer::measure).
#[derive(Clone, Debug)]
#[must_use]
pub struct MeasureLayer {
    shed: load_shed::LoadShed,
}

impl MeasureLayer {
    /// Reports to `shed` how long requests lay in queues.
    pub fn new(shed: load_shed::LoadShed) -> Self {
        Self { shed }
    }
}

impl<S> Layer<S> for MeasureLayer {
    type Service = Measure<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Measure {
            inner,
            shed: self.shed.clone(),
        }
    }
}

/// A service that reports, for each request that it is called with, how long ago it came. A request
/// that carries no [`Arrived`] is not reported.
#[derive(Clone, Debug)]
pub struct Measure<S> {
    inner: S,
    shed: load_shed::LoadShed,
}

impl<S, Req> Service<Req> for Measure<S>
where
    S: Service<Req>,
    Req: HasArrival,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        if let Some(arrived) = req.arrived() {
            self.shed.report(arrived.elapsed());
        }
        self.inner.call(req)
    }
}
