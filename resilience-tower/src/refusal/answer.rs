//! The two forms of a refusal on the wire.

use std::fmt::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::Json;

/// `application/problem+json` (RFC 9457) with `title` from the status and `Retry-After`
/// (RFC 9110, section 10.2.3) in whole seconds: rounded up, so that nobody comes too early,
/// and never 0, which would ask for a busy loop.
pub(crate) fn problem(
    status: StatusCode,
    retry_after: Option<Duration>,
    mut json: Json,
) -> Response<Bytes> {
    json.number("status", status.as_u16().into());
    if let Some(title) = status.canonical_reason() {
        json.text("title", title);
    }
    let seconds = retry_after.map(whole_seconds);
    if let Some(seconds) = seconds {
        json.number("retry_after", seconds);
    }
    let mut response = Response::new(json.finish());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let media_type = HeaderValue::from_static("application/problem+json");
    headers.insert(CONTENT_TYPE, media_type);
    if let Some(seconds) = seconds {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// A gRPC answer without a message ("Trailers-Only" in the gRPC-over-HTTP/2 specification):
/// HTTP 200 and the status in the headers. `pushback` is told in `grpc-retry-pushback-ms`
/// (gRFC A6), in whole milliseconds rounded up.
pub(crate) fn grpc(
    code: u8,
    message: impl fmt::Display,
    pushback: Option<Duration>,
) -> Response<Bytes> {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, u16::from(code).into());
    let mut encoded = PercentEncoded(Vec::with_capacity(96));
    // Neither can fail: the buffer grows, and what is in it is visible ASCII.
    let written = write!(encoded, "{message}").is_ok();
    let value = HeaderValue::from_maybe_shared(Bytes::from(encoded.0));
    if let (true, Ok(message)) = (written, value) {
        headers.insert(GRPC_MESSAGE, message);
    }
    if let Some(pushback) = pushback {
        headers.insert(GRPC_RETRY_PUSHBACK_MS, whole_millis(pushback).into());
    }
    let mut response = Response::new(Bytes::new());
    *response.headers_mut() = headers;
    response
}

/// Whole seconds, rounded up, never 0.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    let started = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(started).max(1)
}

/// Whole milliseconds, rounded up, never 0, at most what the 32-bit field holds.
fn whole_millis(wait: Duration) -> i32 {
    let millis = wait.as_nanos().div_ceil(1_000_000).max(1);
    i32::try_from(millis).unwrap_or(i32::MAX)
}

/// The encoding of `grpc-message`: bytes outside 0x20–0x7E and `%` become `%XX`.
struct PercentEncoded(Vec<u8>);

impl fmt::Write for PercentEncoded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        for byte in text.bytes() {
            if matches!(byte, b' '..=b'~') && byte != b'%' {
                self.0.push(byte);
            } else {
                let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
                self.0.extend([b'%', HEX[high], HEX[low]]);
            }
        }
        Ok(())
    }
}

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub(crate) const GRPC_RETRY_PUSHBACK_MS: HeaderName =
    HeaderName::from_static("grpc-retry-pushback-ms");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up_and_never_zero() {
        for (nanos, seconds) in [(0, 1), (1, 1), (1_000_000_000, 1), (1_000_000_001, 2)] {
            assert_eq!(whole_seconds(Duration::from_nanos(nanos)), seconds);
        }
        assert_eq!(whole_seconds(Duration::MAX), u64::MAX);
    }

    #[test]
    fn milliseconds_are_rounded_up_and_fit_the_field() {
        for (nanos, millis) in [(0, 1), (1, 1), (1_000_000, 1), (1_000_001, 2)] {
            assert_eq!(whole_millis(Duration::from_nanos(nanos)), millis);
        }
        assert_eq!(whole_millis(Duration::MAX), i32::MAX);
    }

    #[test]
    fn a_message_with_any_text_is_percent_encoded() {
        let response = grpc(14, "100% é\n", None);
        assert_eq!(response.headers()[GRPC_MESSAGE], "100%25 %C3%A9%0A");
        assert!(!response.headers().contains_key(GRPC_RETRY_PUSHBACK_MS));
    }
}
