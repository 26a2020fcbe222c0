//! hyper answers a head that it cannot parse by itself: a status without a body. Ours is written
//! in its place, and counted and logged as any other.
//!
//! No handler is asked, so the answer is known by its bytes alone: a status line of three, and no
//! field that does not come from hyper. All our answers have a correlation id.

use std::sync::{Arc, Weak};

use futures_util::FutureExt;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::BodyExt;

use crate::body::Body;
use crate::exchange::Exchange;
use crate::pipeline::finished;
use crate::problem::Problem;
use crate::server::Inner;

/// Makes the answers of one connection.
// Weak: a tunnel keeps its connection, and is to end with the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Refuse(Weak<Inner>);

/// Where hyper's own answer begins in bytes that end with it.
pub(super) fn find(bytes: &[u8]) -> Option<usize> {
    let from = bytes.len().saturating_sub(LONGEST);
    let at = from + memchr::memmem::rfind(bytes.get(from..)?, b"HTTP/1.")?;
    status(bytes.get(at..)?).map(|_| at)
}

/// More than hyper's own answers have.
const LONGEST: usize = 160;

/// The status of an answer that hyper has made by itself.
fn status(answer: &[u8]) -> Option<StatusCode> {
    let text = std::str::from_utf8(answer).ok()?;
    let (line, fields) = text.strip_suffix("\r\n\r\n")?.split_once("\r\n")?;
    let status = line.get(9..12)?.parse().ok()?;
    let known = [
        StatusCode::BAD_REQUEST,
        StatusCode::URI_TOO_LONG,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    ];
    let own = |field: &str| {
        let date = field.starts_with("date: ");
        date || ["connection: close", "content-length: 0"].contains(&field)
    };
    let bare = fields.split("\r\n").all(own) && fields.contains("content-length: 0");
    (known.contains(&status) && bare).then_some(status)
}

impl Refuse {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        Self(Arc::downgrade(inner))
    }

    /// Our answer in place of hyper's; hyper's own when the gateway is gone.
    pub(super) fn answer(&self, bare: &[u8], length_too_great: bool) -> Vec<u8> {
        let (Some(inner), Some(status)) = (self.0.upgrade(), status(bare)) else {
            return bare.to_vec();
        };
        let problem = match (status, length_too_great) {
            // To hyper it is the length that is too large.
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, true) => {
                Problem::bad_request("ambiguous_framing", "Content-Length is too great")
            }
            _ => Problem::malformed(status),
        };
        let mut exchange = Exchange::malformed(&inner.shared, &inner.snapshot.load());
        exchange.fail(problem.code);
        let response = problem.into_response(exchange.correlation_id());
        written(finished(response, exchange), date(bare))
    }
}

/// The `Date` that hyper has set.
fn date(bare: &[u8]) -> Option<HeaderValue> {
    let text = std::str::from_utf8(bare).ok()?;
    let mut lines = text.split("\r\n");
    lines.find_map(|line| HeaderValue::from_str(line.strip_prefix("date: ")?).ok())
}

/// The bytes of an answer whose body is at hand.
fn written(response: Response<Body>, date: Option<HeaderValue>) -> Vec<u8> {
    let (mut parts, body) = response.into_parts();
    let body = body.collect().now_or_never().and_then(Result::ok);
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let headers = &mut parts.headers;
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    if let Some(date) = date {
        headers.insert(DATE, date);
    }
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_str()).into_bytes();
    for (name, value) in &parts.headers {
        for text in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(text);
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\
                        date: Sun, 22 Nov 2026 00:40:13 GMT\r\n\r\n";

    #[test]
    fn only_what_hyper_says_by_itself_is_taken_for_it() {
        assert_eq!(find(BARE.as_bytes()), Some(0));
        let behind = format!("ok{BARE}");
        assert_eq!(find(behind.as_bytes()), Some(2));
        for (from, to) in [
            ("400 Bad Request", "200 OK"),
            ("400 Bad Request", "404 Not Found"),
            ("content-length: 0", "content-length: 1"),
            (
                "content-length: 0",
                "x-correlation-id: 1\r\ncontent-length: 0",
            ),
            ("content-length: 0\r\n", ""),
            ("GMT\r\n\r\n", "GMT\r\n\r\n."),
        ] {
            assert_eq!(find(BARE.replace(from, to).as_bytes()), None, "{from} {to}");
        }
    }
}
