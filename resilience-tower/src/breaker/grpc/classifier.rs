use std::time::Duration;

use ::http::{HeaderMap, Response, StatusCode};
use http_body::Body;
use resilience_core::breaker::{Classify, Outcome};

use crate::breaker::http::{ClassifyBody, OnBodyEnd};
use crate::breaker::{BreakerLayer, http};
use crate::refusal::{GRPC_RETRY_PUSHBACK_MS, GRPC_STATUS};

/// Judges gRPC responses by their status code.
///
/// | code | outcome | because |
/// |---|---|---|
/// | 0 `OK` | success | |
/// | 1 `CANCELLED` | ignored | the caller went away; the upstream may be well or ill |
/// | 2 `UNKNOWN` | failure | an error that the server has no name for, such as an exception |
/// | 4 `DEADLINE_EXCEEDED` | failure | too slow for the caller |
/// | 8 `RESOURCE_EXHAUSTED` | overloaded | the server asks for less |
/// | 13 `INTERNAL`, 15 `DATA_LOSS` | failure | the server is broken, and says so |
/// | 14 `UNAVAILABLE` | failure; overloaded with a pushback | it cannot take calls now |
/// | 3 `INVALID_ARGUMENT`, 5 `NOT_FOUND`, 6 `ALREADY_EXISTS`, 7 `PERMISSION_DENIED`, 9 `FAILED_PRECONDITION`, 11 `OUT_OF_RANGE`, 12 `UNIMPLEMENTED`, 16 `UNAUTHENTICATED` | success | the server answered, and the fault is the caller's |
/// | 10 `ABORTED` | success | two callers met; the server keeps them apart |
/// | any other, or text that is no code | as `UNKNOWN` | the gRPC specification says so |
///
/// Where the status is: in the headers of a response without messages ("Trailers-Only"), else in
/// the trailers of the body. A body that ends without it is `UNKNOWN`. A response that is not
/// HTTP 200 and has no status is from something in between (a proxy), and is mapped as
/// [the gRPC project says][mapping]: 400 internal, 401 unauthenticated, 403 permission denied,
/// 404 unimplemented, 429, 502, 503 and 504 unavailable, others unknown; unavailable with a
/// `Retry-After` is overloaded. No response at all is a failure.
///
/// How long to stay away is read from `grpc-retry-pushback-ms` ([gRFC A6]) beside the status;
/// one that is negative or no number asks not to retry at all, and gives no duration.
///
/// [mapping]: https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
/// [gRFC A6]: https://github.com/grpc/proposal/blob/master/A6-client-retries.md
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct GrpcClassifier {
    // Bit n stands for code n. A code in neither set is a success.
    failures: u32,
    ignored: u32,
}

impl GrpcClassifier {
    /// The table above.
    pub const fn new() -> Self {
        Self {
            failures: 1 << UNKNOWN
                | 1 << DEADLINE_EXCEEDED
                | 1 << RESOURCE_EXHAUSTED
                | 1 << INTERNAL
                | 1 << UNAVAILABLE
                | 1 << DATA_LOSS,
            ignored: 1 << CANCELLED,
        }
    }

    /// Counts `code` as a failure; a number or a `tonic::Code`.
    ///
    /// Numbers that are no code (negative, or above 16) stand for `UNKNOWN`, here and below.
    pub fn failure(mut self, code: impl Into<i32>) -> Self {
        let bit = bit(code.into());
        self.failures |= bit;
        self.ignored &= !bit;
        self
    }

    /// Counts `code` as a success.
    pub fn success(mut self, code: impl Into<i32>) -> Self {
        let bit = bit(code.into());
        self.failures &= !bit;
        self.ignored &= !bit;
        self
    }

    /// Counts `code` as nothing.
    pub fn ignore(mut self, code: impl Into<i32>) -> Self {
        let bit = bit(code.into());
        self.failures &= !bit;
        self.ignored |= bit;
        self
    }

    /// The outcome of `code`; `fields` stand beside it.
    fn outcome(self, code: u8, fields: &HeaderMap) -> Outcome {
        let bit = 1 << code;
        if self.ignored & bit != 0 {
            return Outcome::Ignored;
        }
        if self.failures & bit == 0 {
            return Outcome::Success;
        }
        match (code, pushback(fields)) {
            (RESOURCE_EXHAUSTED, retry_after) => Outcome::Overloaded { retry_after },
            (UNAVAILABLE, retry_after @ Some(_)) => Outcome::Overloaded { retry_after },
            _ => Outcome::Failure,
        }
    }

    fn at_head(self, status: StatusCode, headers: &HeaderMap) -> Option<Outcome> {
        if let Some(code) = code(headers) {
            return Some(self.outcome(code, headers));
        }
        if status == StatusCode::OK {
            return None;
        }
        let code = from_http(status);
        let outcome = self.outcome(code, headers);
        let retry_after = (code == UNAVAILABLE && outcome == Outcome::Failure)
            .then(|| http::retry_after(headers, http::received_at))
            .flatten();
        Some(match retry_after {
            Some(_) => Outcome::Overloaded { retry_after },
            None => outcome,
        })
    }
}

impl Default for GrpcClassifier {
    fn default() -> Self {
        Self::new()
    }
}

/// At the head alone: a response whose status is still to come is a success.
impl<B, E> Classify<Response<B>, E> for GrpcClassifier {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        result.map_or(Outcome::Failure, |response| {
            self.at_head(response.status(), response.headers())
                .unwrap_or(Outcome::Success)
        })
    }
}

impl<B: Body> ClassifyBody<B> for GrpcClassifier {
    fn head(&self, response: &Response<B>) -> Option<Outcome> {
        self.at_head(response.status(), response.headers())
    }

    fn end(&self, trailers: Option<&HeaderMap>) -> Outcome {
        let none = HeaderMap::new();
        let trailers = trailers.unwrap_or(&none);
        self.outcome(code(trailers).unwrap_or(UNKNOWN), trailers)
    }
}

impl<J, P> BreakerLayer<J, P> {
    /// Judges gRPC calls by their status, in the headers or the trailers; see
    /// [`GrpcClassifier`].
    pub fn grpc(self) -> BreakerLayer<OnBodyEnd<GrpcClassifier>, P> {
        self.classify_body(GrpcClassifier::new())
    }
}

/// The code in `grpc-status`, if the field is there.
fn code(fields: &HeaderMap) -> Option<u8> {
    let mut values = fields.get_all(GRPC_STATUS).iter();
    let value = values.next()?;
    let known = match (value.as_bytes(), values.next()) {
        ([one @ b'0'..=b'9'], None) => one - b'0',
        ([b'1', unit @ b'0'..=b'6'], None) => 10 + unit - b'0',
        _ => UNKNOWN,
    };
    Some(known)
}

/// What a client makes of an HTTP status without a gRPC status.
fn from_http(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502 | 503 | 504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

fn pushback(fields: &HeaderMap) -> Option<Duration> {
    let value = fields.get(GRPC_RETRY_PUSHBACK_MS)?;
    http::digits(value.as_bytes()).map(Duration::from_millis)
}

fn bit(code: i32) -> u32 {
    match code {
        0..=16 => 1 << code,
        _ => 1 << UNKNOWN,
    }
}

const CANCELLED: u8 = 1;
const UNKNOWN: u8 = 2;
const DEADLINE_EXCEEDED: u8 = 4;
const PERMISSION_DENIED: u8 = 7;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
pub(super) const UNAVAILABLE: u8 = 14;
const DATA_LOSS: u8 = 15;
const UNAUTHENTICATED: u8 = 16;

#[cfg(test)]
#[path = "classifier_tests.rs"]
mod tests;
