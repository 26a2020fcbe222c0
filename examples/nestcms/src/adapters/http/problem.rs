//! The common form of all errors: problem+json (RFC 9457) with a stable code.

use std::time::Duration;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::{
    content, correlation,
    payments::Error,
    ports::{ProviderError, QueueError, StoreError},
};

/// An error as the client gets it. One pointer in size: it is the rare side of every
/// handler's `Result`.
#[derive(Clone, Debug)]
pub struct Problem(Box<Content>);

#[derive(Clone, Debug, Serialize)]
struct Content {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    message: String,
    correlation_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<String>,
    #[serde(skip)]
    retry_after: Option<Duration>,
}

impl Problem {
    /// A problem with a stable `code` for programs and a `message` for people.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Content {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            message: message.into(),
            correlation_id: correlation::current(),
            field: None,
            value: None,
            allowed: None,
            retry_after: None,
        }))
    }

    /// Bad input: 422 that names the field, its value and what is allowed.
    #[must_use]
    pub fn invalid(
        field: impl Into<String>,
        value: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Self {
        let field = field.into();
        let message = format!("{field} is not valid");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", message)
            .field(field, value, allowed)
    }

    /// Names the field, its value and what is allowed.
    #[must_use]
    pub fn field(
        mut self,
        field: impl Into<String>,
        value: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Self {
        self.0.field = Some(field.into());
        self.0.value = Some(shorten(value.into()));
        self.0.allowed = Some(allowed.into());
        self
    }

    /// Tells the client when to come back; whole seconds, rounded up, never 0.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, wait) = (self.status(), self.0.retry_after);
        let mut response = (status, Json(self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        if let Some(wait) = wait {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::NotFound => Self::new(StatusCode::NOT_FOUND, "not_found", message),
            Error::WrongState { .. } => Self::new(StatusCode::CONFLICT, "wrong_state", message),
            Error::KeyReused => Self::new(StatusCode::CONFLICT, "idempotency_key_reused", message),
            Error::Provider(error) => error.into(),
            Error::Store(error) => error.into(),
        }
    }
}

impl From<content::Error> for Problem {
    fn from(error: content::Error) -> Self {
        let message = error.to_string();
        match error {
            content::Error::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "not_found", message),
            content::Error::Taken(_) => Self::new(StatusCode::CONFLICT, "taken", message),
            content::Error::Unrelated(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unrelated", message)
            }
            content::Error::Stale(_) => {
                Self::new(StatusCode::PRECONDITION_FAILED, "stale_version", message)
            }
            content::Error::Busy(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message).retry_after(SOON)
            }
            content::Error::Store(error) => error.into(),
        }
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        tracing::error!(%error, "the task queue did not do it");
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let message = "nothing can be queued at the moment";
        Self::new(status, "queue_unavailable", message).retry_after(SOON)
    }
}

impl From<ProviderError> for Problem {
    fn from(error: ProviderError) -> Self {
        const UNAVAILABLE: &str = "service temporarily unavailable";
        tracing::warn!(%error, "the payment provider did not do it");
        match error {
            ProviderError::Unavailable { retry_after, .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "circuit_open", UNAVAILABLE)
                    .retry_after(retry_after)
            }
            ProviderError::Failed { retry_after, .. } => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Self::new(status, "provider_failed", UNAVAILABLE).retry_after(retry_after)
            }
            ProviderError::Timeout { .. } => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "provider_timeout",
                "the payment provider did not answer in time",
            ),
            ProviderError::Refused { reason } => Self::new(
                StatusCode::BAD_GATEWAY,
                "provider_refused",
                format!("the payment provider refused: {}", shorten(reason)),
            ),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the database did not do it");
        match error {
            StoreError::Unavailable { retry_after, .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "store_unavailable",
                "service temporarily unavailable, nothing was changed",
            )
            .retry_after(retry_after),
            StoreError::NoPrimary { retry_after } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "no_primary",
                "nothing can be changed at the moment, and nothing was",
            )
            .retry_after(retry_after),
            StoreError::Unknown { .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "outcome_unknown",
                "the change was sent, and may have been made or not",
            ),
            StoreError::Lost { .. } => Self::new(
                StatusCode::CONFLICT,
                "write_lost",
                "the change that was to be seen is lost",
            ),
            StoreError::BadMark { .. } => Self::new(
                StatusCode::BAD_REQUEST,
                "bad_mark",
                "x-read-after holds nothing that was given out here",
            ),
            StoreError::Corrupt { .. } => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "internal error",
            ),
        }
    }
}

/// Seconds for `retry-after`: rounded up, so that nobody comes too early, and never 0.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs()
        .saturating_add(u64::from(wait.subsec_nanos() > 0))
        .max(1)
}

/// Long input is not sent back whole.
fn shorten(text: String) -> String {
    if text.chars().count() <= MAX_VALUE {
        return text;
    }
    text.chars().take(MAX_VALUE).chain(['…']).collect()
}

/// Calls that are waited for end soon, and brokers come back.
const SOON: Duration = Duration::from_secs(1);

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Enough to recognise one's own input.
const MAX_VALUE: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_rounded_up_and_never_zero() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (29_999, 30)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
        assert_eq!(whole_seconds(Duration::MAX), u64::MAX);
    }
}
