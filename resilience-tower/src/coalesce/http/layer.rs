use std::fmt;
use std::marker::PhantomData;

use ::http::{Request, Response};
use bytes::Bytes;
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{Buffer, HttpKey, HttpShare, Limits, SharedBody};
use crate::coalesce::{Coalesce, Coalescing, Share, ShareAll, ShareAnswers};

/// Puts a [`Coalesce`] for HTTP around a service; see the [module](super).
///
/// `B` is the body of the requests.
#[must_use]
pub struct HttpCoalesceLayer<B, H = ShareAll> {
    handle: Coalescing,
    key: HttpKey,
    limits: Limits,
    kinds: PhantomData<fn(B, H)>,
}

impl<B> HttpCoalesceLayer<B> {
    /// Requests with the same `key` share a response, or an error.
    pub fn new(handle: Coalescing, key: HttpKey) -> Self {
        Self {
            handle,
            key,
            limits: Limits::default(),
            kinds: PhantomData,
        }
    }
}

impl<B, H> HttpCoalesceLayer<B, H> {
    /// Reads bodies within `limits`.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Shares responses only, for errors that are not `Clone`: when the shared call has none, one
    /// caller gets the error, and each of the others makes a call of its own.
    pub fn share_answers_only(self) -> HttpCoalesceLayer<B, ShareAnswers> {
        HttpCoalesceLayer {
            handle: self.handle,
            key: self.key,
            limits: self.limits,
            kinds: PhantomData,
        }
    }

    /// Settings and figures.
    pub fn handle(&self) -> &Coalescing {
        &self.handle
    }
}

impl<S, B, R, H> Layer<S> for HttpCoalesceLayer<B, H>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: Body,
    R: Body<Data = Bytes>,
    HttpShare<H>: Share<Response<SharedBody<R>>, S::Error> + Clone,
{
    type Service = Coalesce<Buffer<S>, Request<B>, HttpKey, HttpShare<H>>;

    fn layer(&self, inner: S) -> Self::Service {
        let (key, share) = (self.key.clone(), HttpShare::new(self.key.clone()));
        let inner = Buffer::new(inner, self.limits);
        Coalesce::new(inner, self.handle.clone(), key, share)
    }
}

impl<B, H> Clone for HttpCoalesceLayer<B, H> {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
            key: self.key.clone(),
            limits: self.limits,
            kinds: PhantomData,
        }
    }
}

impl<B, H> fmt::Debug for HttpCoalesceLayer<B, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCoalesceLayer")
            .field("handle", &self.handle)
            .field("key", &self.key)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
