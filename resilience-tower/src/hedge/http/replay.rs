#[cfg(feature = "timeout")]
use std::time::Duration;

use ::http::{Request, request::Parts};
use http_body::Body;
use resilience_core::hedge::HedgePolicy;
#[cfg(feature = "timeout")]
use tokio::time::Instant;

use super::HedgeBody;
use crate::breaker::http::HttpClassifier;
use crate::hedge::HedgeLayer;
use crate::retry::Replay;
#[cfg(feature = "timeout")]
use crate::timeout::deadline::{Deadline, HasDeadline};

/// Hedges HTTP requests without a body that may be sent twice at the same time.
///
/// A request may when its method is safe (RFC 9110, section 9.2.1: GET, HEAD, OPTIONS, TRACE) or
/// when it has an `Idempotency-Key`. PUT and DELETE, which a retry sends again, are not hedged: the
/// attempt that lost may arrive after the caller has its answer, and undo what the caller does next.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpHedge;

/// As [`HttpHedge`], for bodies that can be cloned (`Full<Bytes>`), whatever is in them.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpClone;

fn may_be_doubled<B>(request: &Request<B>) -> bool {
    request.method().is_safe() || request.headers().contains_key("idempotency-key")
}

impl<B: Body> Replay<Request<B>> for HttpHedge {
    type Request = Request<HedgeBody<B>>;
    type Kept = Parts;

    fn first(&self, request: Request<B>, again: bool) -> (Self::Request, Option<Parts>) {
        let again = again && request.body().is_end_stream() && may_be_doubled(&request);
        let (head, body) = request.into_parts();
        let kept = again.then(|| head.clone());
        (Request::from_parts(head, HedgeBody::of(body)), kept)
    }

    fn again(&self, kept: &mut Parts) -> Option<Self::Request> {
        Some(Request::from_parts(kept.clone(), HedgeBody::empty()))
    }

    /// Until the deadline in the extensions.
    #[cfg(feature = "timeout")]
    fn time_left(&self, request: &Request<B>) -> Option<Duration> {
        request.deadline().map(Deadline::left)
    }

    #[cfg(feature = "timeout")]
    fn deadline(&self, request: &Request<B>) -> Option<Instant> {
        request.deadline().map(Deadline::instant)
    }
}

impl<B: Clone> Replay<Request<B>> for HttpClone {
    type Request = Request<B>;
    type Kept = Request<B>;

    fn first(&self, request: Request<B>, again: bool) -> (Request<B>, Option<Request<B>>) {
        let again = again && may_be_doubled(&request);
        let kept = again.then(|| request.clone());
        (request, kept)
    }

    fn again(&self, kept: &mut Request<B>) -> Option<Request<B>> {
        Some(kept.clone())
    }

    /// Until the deadline in the extensions.
    #[cfg(feature = "timeout")]
    fn time_left(&self, request: &Request<B>) -> Option<Duration> {
        request.deadline().map(Deadline::left)
    }

    #[cfg(feature = "timeout")]
    fn deadline(&self, request: &Request<B>) -> Option<Instant> {
        request.deadline().map(Deadline::instant)
    }
}

impl HedgeLayer<HttpHedge, HttpClassifier> {
    /// Hedges HTTP requests without a body that may be sent twice at the same time ([`HttpHedge`]).
    /// An answer that says that the upstream does not work or is overloaded ([`HttpClassifier`])
    /// is not the first answer while another attempt runs.
    pub fn http(policy: HedgePolicy) -> Self {
        HedgeLayer::new(policy, HttpHedge).classify(HttpClassifier)
    }
}

impl HedgeLayer<HttpClone, HttpClassifier> {
    /// As [`http`](HedgeLayer::http), with bodies that can be cloned ([`HttpClone`]).
    pub fn http_clone(policy: HedgePolicy) -> Self {
        HedgeLayer::new(policy, HttpClone).classify(HttpClassifier)
    }
}
