use resilience_core::chaos::Chaos as Handle;
use tower_layer::Layer;

#[cfg(feature = "http")]
use super::faults::Status;
use super::{AnyRequest, Chaos, Errors, Only};

/// Puts a [`Chaos`] around a service.
///
/// All services made by one layer, and by its clones, share the handle.
#[derive(Clone, Debug)]
#[must_use]
pub struct ChaosLayer<F = AnyRequest> {
    handle: Handle,
    faults: F,
}

impl ChaosLayer {
    /// Any request may be hit, as `handle` draws it, while that is switched on.
    pub fn new(handle: Handle) -> Self {
        Self {
            handle,
            faults: AnyRequest,
        }
    }
}

impl Default for ChaosLayer {
    /// A handle with all rates 0, switched off.
    fn default() -> Self {
        Self::new(Handle::default())
    }
}

impl<F> ChaosLayer<F> {
    /// Only requests may be hit that `predicate` says yes to; the others are not counted. It is
    /// cloned once per service.
    ///
    /// For other faults for other requests use a layer, and a handle, each.
    pub fn only<P>(self, predicate: P) -> ChaosLayer<Only<F, P>> {
        let faults = self.faults;
        ChaosLayer {
            handle: self.handle,
            faults: Only { faults, predicate },
        }
    }

    /// A request that is to be answered by an error is answered by `make(&request)`: an error of
    /// the inner service's type, or a response that says so. `make` is cloned once per service.
    pub fn errors<M>(self, make: M) -> ChaosLayer<Errors<F, M>> {
        let faults = self.faults;
        ChaosLayer {
            handle: self.handle,
            faults: Errors { faults, make },
        }
    }

    /// A request that is to be answered by an error is answered by an HTTP response of this status
    /// with an empty body.
    #[cfg(feature = "http")]
    pub fn status(self, status: ::http::StatusCode) -> ChaosLayer<Status<F>> {
        let faults = self.faults;
        ChaosLayer {
            handle: self.handle,
            faults: Status { faults, status },
        }
    }

    /// The switch, the settings and the counts.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl<S, F: Clone> Layer<S> for ChaosLayer<F> {
    type Service = Chaos<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        Chaos::new(inner, self.handle.clone(), self.faults.clone())
    }
}
