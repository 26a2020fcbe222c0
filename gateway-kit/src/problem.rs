//! Answers that the gateway itself gives when it cannot pass a request on.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::body::Body;
use crate::guard::Refused;

/// A refusal, told as `application/problem+json` (RFC 9457). Never holds text of an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// Stable; for programs.
    pub(crate) code: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    fault: Option<Box<Fault>>,
    retry_after: Option<Duration>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The value that a request was refused for.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "admin", derive(schemars::JsonSchema))]
struct Fault {
    /// Where it stands.
    field: String,
    /// As it was sent.
    value: serde_json::Value,
    /// What may stand there, or what is wrong.
    allowed: String,
}

/// A refusal (RFC 9457).
#[derive(Serialize)]
#[cfg_attr(feature = "admin", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "admin", schemars(rename = "Problem"))]
pub(crate) struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    /// Stable; for programs.
    code: &'a str,
    correlation_id: &'a str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    fault: Option<&'a Fault>,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code,
            title,
            detail: detail.into(),
            fault: None,
            retry_after: None,
            headers: Vec::new(),
        }
    }

    /// 400: the request can be read in more than one way, or not at all.
    pub(crate) fn bad_request(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        // What follows on the connection cannot be trusted to be a request.
        Self::new(StatusCode::BAD_REQUEST, code, "Bad request", detail)
            .header(CONNECTION, HeaderValue::from_static("close"))
    }

    /// 400, 414 or 431: the head cannot be read as a request.
    pub(crate) fn malformed(status: StatusCode) -> Self {
        let (code, title, detail) = match status {
            StatusCode::URI_TOO_LONG => {
                ("target_too_long", "URI too long", "the target is too long")
            }
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
                "head_too_large",
                "Request header fields too large",
                "the head is too long, or has too many fields",
            ),
            _ => (
                "malformed_request",
                "Bad request",
                "the head cannot be read as one of a request",
            ),
        };
        Self::new(status, code, title, detail).header(CONNECTION, HeaderValue::from_static("close"))
    }

    pub(crate) fn method_not_allowed(allow: HeaderValue) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "Method not allowed",
            "this method is not served here",
        )
        .header(ALLOW, allow)
    }

    /// The guard's refusal; what follows on the connection is not trusted to be a request.
    pub(crate) fn guarded(refused: Refused, allow: impl FnOnce() -> String) -> Self {
        let title = match refused.status {
            StatusCode::BAD_REQUEST => "Bad request",
            StatusCode::METHOD_NOT_ALLOWED => "Method not allowed",
            StatusCode::EXPECTATION_FAILED => "Expectation failed",
            _ => "Not implemented",
        };
        let problem = Self::new(refused.status, refused.code, title, refused.detail);
        if refused.status != StatusCode::METHOD_NOT_ALLOWED {
            return problem.header(CONNECTION, HeaderValue::from_static("close"));
        }
        match HeaderValue::try_from(allow()) {
            Ok(allow) => problem.header(ALLOW, allow),
            Err(_) => problem,
        }
    }

    pub(crate) fn no_route() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "route_not_found",
            "Not found",
            "no route matches the path",
        )
    }

    pub(crate) fn route_disabled() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "route_disabled",
            "Not found",
            "the route of this path is switched off",
        )
    }

    /// 503: there is nobody to send the request to at present.
    pub(crate) fn no_endpoint() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no_endpoint",
            "Service unavailable",
            "the service behind this route takes no requests at present",
        )
        // There is no better estimate.
        .retry_after(Duration::from_secs(1))
    }

    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal server error",
            "the gateway failed on this request",
        )
    }

    /// Names what is at fault.
    #[cfg(feature = "admin")]
    pub(crate) fn fault(
        mut self,
        field: &str,
        value: serde_json::Value,
        allowed: impl Into<String>,
    ) -> Self {
        self.fault = Some(Box::new(Fault {
            field: field.to_owned(),
            value,
            allowed: allowed.into(),
        }));
        self
    }

    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn into_response(self, correlation_id: &str) -> Response<Body> {
        let document = Document {
            r#type: format!("urn:gateway-kit:problem:{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            correlation_id,
            fault: self.fault.as_deref(),
        };
        // Strings and a number always serialise; an empty body would still carry the status.
        let text = serde_json::to_string(&document).unwrap_or_default();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, whole_seconds(after).into());
        }
        headers.extend(self.headers);
        response
    }
}

/// Rounded up and never 0: a client that waits this long is not refused for the same reason.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    let up = u64::from(duration.subsec_nanos() > 0);
    duration.as_secs().saturating_add(up).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up_and_never_zero() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (59_999, 60)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
    }
}
