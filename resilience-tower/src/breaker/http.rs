//! What an HTTP response says about the upstream.

use std::time::Duration;

use ::http::header::RETRY_AFTER;
use ::http::{HeaderMap, Response, StatusCode};
use resilience_core::breaker::{Classify, Outcome};

/// Judges HTTP responses by status code.
///
/// | result | outcome |
/// |---|---|
/// | `Err` (no response: connect, TLS, timeout …) | failure |
/// | 429 | overloaded, with the `Retry-After` if it can be read |
/// | 503 with a `Retry-After` | overloaded, with the `Retry-After` if it can be read |
/// | any other 5xx, 503 without `Retry-After` | failure |
/// | everything else, 4xx included | success: the upstream answered, and the fault is the caller's |
///
/// `Retry-After` (RFC 9110, section 10.2.3) is read as delta-seconds. Its other form, an
/// HTTP-date, would need the wall clock, which this crate does not read: such a response is
/// overloaded without a duration. A number too large for 64 bits counts as the largest.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HttpClassifier;

impl HttpClassifier {
    fn outcome(status: StatusCode, headers: &HeaderMap) -> Outcome {
        let overloaded = match status {
            StatusCode::TOO_MANY_REQUESTS => true,
            StatusCode::SERVICE_UNAVAILABLE => headers.contains_key(RETRY_AFTER),
            _ => false,
        };
        if overloaded {
            Outcome::Overloaded {
                retry_after: retry_after(headers),
            }
        } else if status.is_server_error() {
            Outcome::Failure
        } else {
            Outcome::Success
        }
    }
}

impl<B, E> Classify<Response<B>, E> for HttpClassifier {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        result.map_or(Outcome::Failure, |response| {
            Self::outcome(response.status(), response.headers())
        })
    }
}

/// The delta-seconds of the only `Retry-After`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let mut values = headers.get_all(RETRY_AFTER).iter();
    let digits = values.next()?.as_bytes();
    // Two of them contradict each other; believe neither.
    if values.next().is_some() || digits.is_empty() {
        return None;
    }
    digits
        .iter()
        .try_fold(0_u64, |seconds, byte| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            Some(seconds.saturating_mul(10).saturating_add(digit))
        })
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(status: u16, retry_after: &[&str]) -> Outcome {
        let mut response = Response::builder().status(status);
        for value in retry_after {
            response = response.header(RETRY_AFTER, *value);
        }
        let response = response.body(()).unwrap();
        HttpClassifier.classify(Ok::<_, &()>(&response))
    }

    fn overloaded(retry_after: Option<u64>) -> Outcome {
        Outcome::Overloaded {
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn a_server_error_is_a_failure_and_a_client_error_is_not() {
        for status in [500, 501, 502, 503, 504, 599] {
            assert_eq!(classify(status, &[]), Outcome::Failure, "{status}");
        }
        for status in [100, 200, 204, 301, 400, 401, 404, 408, 428, 499] {
            assert_eq!(classify(status, &[]), Outcome::Success, "{status}");
        }
    }

    #[test]
    fn no_response_at_all_is_a_failure() {
        let outcome = HttpClassifier.classify(Err::<&Response<()>, _>(&"connection reset"));
        assert_eq!(outcome, Outcome::Failure);
    }

    #[test]
    fn too_many_requests_and_a_503_with_retry_after_are_overload() {
        assert_eq!(classify(429, &[]), overloaded(None));
        assert_eq!(classify(429, &["7"]), overloaded(Some(7)));
        assert_eq!(classify(503, &["120"]), overloaded(Some(120)));
        assert_eq!(classify(500, &["120"]), Outcome::Failure);
    }

    #[test]
    fn a_retry_after_that_is_not_one_run_of_digits_has_no_duration() {
        for value in [
            "",
            "-1",
            "+1",
            "1.5",
            "1s",
            "1, 2",
            "Fri, 31 Dec 1999 23:59:59 GMT",
        ] {
            assert_eq!(classify(503, &[value]), overloaded(None), "{value:?}");
        }
        assert_eq!(classify(429, &["1", "2"]), overloaded(None));
    }

    #[test]
    fn a_retry_after_beyond_64_bits_saturates() {
        assert_eq!(
            classify(429, &["99999999999999999999999"]),
            overloaded(Some(u64::MAX))
        );
    }
}
