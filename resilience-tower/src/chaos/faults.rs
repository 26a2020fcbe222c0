use std::fmt;

use super::{Error, Injected};

/// Which requests may be hit, and how one of them is answered by an error.
pub trait Faults<Req, T, E> {
    /// Whether `request` may be hit. Asked only while chaos is switched on.
    fn may_hit(&self, request: &Req) -> bool {
        let _ = request;
        true
    }

    /// The answer to a request that is to be answered by an error.
    ///
    /// # Errors
    ///
    /// The error, where it is one and not a response that says so.
    fn error(&self, request: &Req) -> Result<T, Error<E>>;
}

/// Any request may be hit, and is answered by [`Injected::Error`].
#[derive(Clone, Copy, Debug, Default)]
pub struct AnyRequest;

impl<Req, T, E> Faults<Req, T, E> for AnyRequest {
    fn error(&self, _: &Req) -> Result<T, Error<E>> {
        Err(Error::Injected(Injected::Error))
    }
}

/// Only requests may be hit that a function says yes to; made by
/// [`ChaosLayer::only`](super::ChaosLayer::only).
#[derive(Clone, Copy)]
pub struct Only<F, P> {
    pub(super) faults: F,
    pub(super) predicate: P,
}

impl<F, P, Req, T, E> Faults<Req, T, E> for Only<F, P>
where
    F: Faults<Req, T, E>,
    P: Fn(&Req) -> bool,
{
    fn may_hit(&self, request: &Req) -> bool {
        self.faults.may_hit(request) && (self.predicate)(request)
    }

    fn error(&self, request: &Req) -> Result<T, Error<E>> {
        self.faults.error(request)
    }
}

impl<F: fmt::Debug, P> fmt::Debug for Only<F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Only")
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

/// Errors are what a function makes of the request; made by
/// [`ChaosLayer::errors`](super::ChaosLayer::errors).
#[derive(Clone, Copy)]
pub struct Errors<F, M> {
    pub(super) faults: F,
    pub(super) make: M,
}

impl<F, M, Req, T, E> Faults<Req, T, E> for Errors<F, M>
where
    F: Faults<Req, T, E>,
    M: Fn(&Req) -> Result<T, E>,
{
    fn may_hit(&self, request: &Req) -> bool {
        self.faults.may_hit(request)
    }

    fn error(&self, request: &Req) -> Result<T, Error<E>> {
        (self.make)(request).map_err(Error::Inner)
    }
}

impl<F: fmt::Debug, M> fmt::Debug for Errors<F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errors")
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

/// Errors are HTTP responses of one status; made by
/// [`ChaosLayer::status`](super::ChaosLayer::status).
#[cfg(feature = "http")]
#[derive(Clone, Copy, Debug)]
pub struct Status<F> {
    pub(super) faults: F,
    pub(super) status: ::http::StatusCode,
}

#[cfg(feature = "http")]
impl<F, Req, B, E> Faults<Req, ::http::Response<B>, E> for Status<F>
where
    F: Faults<Req, ::http::Response<B>, E>,
    B: Default,
{
    fn may_hit(&self, request: &Req) -> bool {
        self.faults.may_hit(request)
    }

    fn error(&self, _: &Req) -> Result<::http::Response<B>, Error<E>> {
        let mut response = ::http::Response::new(B::default());
        *response.status_mut() = self.status;
        Ok(response)
    }
}
