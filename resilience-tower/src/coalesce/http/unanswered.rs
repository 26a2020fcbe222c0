use std::fmt;

use ::http::{Response, StatusCode};
use bytes::Bytes;
use resilience_core::coalesce::{Reason, Refused};

use super::HttpCoalesceLayer;
use crate::coalesce::Panicked;
use crate::refusal::{self, IntoResponseLayer, Json};

/// Why a call has no answer: it was refused, or the shared call panicked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unanswered(Option<Refused>);

impl Unanswered {
    /// `keys`, `followers` or `panicked`, as used in metric labels.
    pub fn as_str(&self) -> &'static str {
        let reason = self.refused().map(|refused| refused.reason);
        reason.map_or("panicked", |reason: Reason| reason.as_str())
    }

    /// The refusal, if it was one.
    pub const fn refused(&self) -> Option<Refused> {
        self.0
    }
}

impl From<Refused> for Unanswered {
    fn from(refused: Refused) -> Self {
        Self(Some(refused))
    }
}

impl From<Panicked> for Unanswered {
    fn from(_: Panicked) -> Self {
        Self(None)
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(refused) => refused.fmt(f),
            None => Panicked.fmt(f),
        }
    }
}

/// What makes a response of it.
pub type Refuse = fn(&Unanswered) -> Response<Bytes>;

/// 503 (service unavailable) for a refusal and 500 for a panic, with a body of the media type
/// `application/problem+json` (RFC 9457).
///
/// The members of the body are `reason` (`keys`, `followers` or `panicked`), `status` and `title`; no
/// `type`, which stands for `about:blank`. There is no `Retry-After`: nobody knows when the shared
/// call ends.
pub fn problem(unanswered: &Unanswered) -> Response<Bytes> {
    let mut json = Json::new();
    json.text("reason", unanswered.as_str());
    let status = match unanswered.refused() {
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
        None => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refusal::problem(status, None, json)
}

impl<B, H> HttpCoalesceLayer<B, H> {
    /// Answers by [`problem`] what has no answer: the service's error is the inner service's alone.
    pub fn into_response(self) -> IntoResponseLayer<Self, Refuse> {
        self.into_response_with(problem)
    }

    /// Answers by a function of one's own, which is cloned once per call.
    pub fn into_response_with<F>(self, refuse: F) -> IntoResponseLayer<Self, F>
    where
        F: Fn(&Unanswered) -> Response<Bytes> + Clone,
    {
        IntoResponseLayer::new(self, refuse)
    }
}
