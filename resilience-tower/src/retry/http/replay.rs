use std::sync::Arc;
#[cfg(feature = "timeout")]
use std::time::Duration;

use ::http::{Method, Request, request::Parts};
use bytes::Bytes;
use http_body::Body;
use resilience_core::breaker::ResultClassifier;
#[cfg(feature = "timeout")]
use tokio::time::Instant;

use super::body::{Recording, ReplayBody};
use crate::breaker::http::HttpClassifier;
use crate::retry::{CloneRequest, Replay, RetryLayer};
#[cfg(feature = "timeout")]
use crate::timeout::deadline::{Deadline, HasDeadline};

/// Sends HTTP requests again that may be sent twice, with their bodies.
///
/// A request may be sent twice when its method is idempotent (RFC 9110, section 9.2.2: GET, HEAD,
/// OPTIONS, TRACE, PUT, DELETE) or when it has an `Idempotency-Key`. Its body is passed on as it
/// comes and kept beside, up to a limit; one that turns out to be longer is not kept, and its
/// request is not sent again. Nothing is kept of a request that is tried only once.
#[derive(Clone, Copy, Debug)]
pub struct HttpReplay {
    body_limit: usize,
    any_method: bool,
}

impl Default for HttpReplay {
    fn default() -> Self {
        Self {
            body_limit: 64 * 1024,
            any_method: false,
        }
    }
}

impl HttpReplay {
    /// Keeps bodies of up to this many bytes; 64 KiB by default. With 0 only requests without a
    /// body are sent again.
    #[must_use]
    pub const fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// Keeps requests of all methods: for who knows that a call did not run before it is sent again.
    #[cfg(feature = "read-write")]
    pub(crate) const fn any_method(mut self) -> Self {
        self.any_method = true;
        self
    }

    fn may_be_sent_twice<B>(request: &Request<B>) -> bool {
        const IDEMPOTENT: [Method; 6] = [
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::TRACE,
            Method::PUT,
            Method::DELETE,
        ];
        IDEMPOTENT.contains(request.method()) || request.headers().contains_key("idempotency-key")
    }
}

/// What is kept of an HTTP request.
#[derive(Debug)]
pub struct Kept<B: Body> {
    head: Parts,
    body: Arc<Recording<B>>,
}

impl<B: Body<Data = Bytes>> Replay<Request<B>> for HttpReplay {
    type Request = Request<ReplayBody<B>>;
    type Kept = Kept<B>;

    fn first(&self, request: Request<B>, again: bool) -> (Self::Request, Option<Kept<B>>) {
        let size = request.body().size_hint().lower();
        let fits = usize::try_from(size).is_ok_and(|size| size <= self.body_limit);
        let again = again && fits && (self.any_method || Self::may_be_sent_twice(&request));
        let (head, body) = request.into_parts();
        if !again {
            return (Request::from_parts(head, ReplayBody::once(body)), None);
        }
        let recording = Arc::new(Recording::new(body, self.body_limit));
        let kept = Kept {
            head: head.clone(),
            body: Arc::clone(&recording),
        };
        // Nobody else has it yet.
        let body = ReplayBody::of(&recording).unwrap_or_else(ReplayBody::empty);
        (Request::from_parts(head, body), Some(kept))
    }

    fn again(&self, kept: &mut Kept<B>) -> Option<Self::Request> {
        let body = ReplayBody::of(&kept.body)?;
        Some(Request::from_parts(kept.head.clone(), body))
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

impl RetryLayer<ResultClassifier, CloneRequest> {
    /// Tries HTTP requests again that may be sent twice ([`HttpReplay`]), when there was no answer
    /// or one that says that the upstream does not work or is overloaded ([`HttpClassifier`]).
    pub fn http(self) -> RetryLayer<HttpClassifier, HttpReplay> {
        self.classify(HttpClassifier).replay(HttpReplay::default())
    }
}
