use std::time::SystemTime;

use ::http::header::RETRY_AFTER;
use ::http::{HeaderMap, Response, StatusCode};
use http_body::Body;
use resilience_core::breaker::{Classify, Outcome};

use super::{ClassifyBody, retry_after};
use crate::breaker::{BreakerLayer, OnResult};

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
/// As a [`ClassifyBody`] (`BreakerLayer::classify_body`) a success at the head becomes final
/// only when the body ends, and a body that breaks off is a failure; the other rows are
/// decided at the head.
///
/// `Retry-After` is read by [`retry_after`] in both of its forms. Only a response with an
/// HTTP-date and no `Date` field of its own makes the classifier read the system's clock.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HttpClassifier;

impl HttpClassifier {
    /// The outcome of a response with this head, for clients whose responses are not
    /// [`Response`]s (reqwest).
    pub fn outcome(status: StatusCode, headers: &HeaderMap) -> Outcome {
        let overloaded = match status {
            StatusCode::TOO_MANY_REQUESTS => true,
            StatusCode::SERVICE_UNAVAILABLE => headers.contains_key(RETRY_AFTER),
            _ => false,
        };
        if overloaded {
            Outcome::Overloaded {
                retry_after: retry_after(headers, received_at),
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

impl<B: Body> ClassifyBody<B> for HttpClassifier {
    fn head(&self, response: &Response<B>) -> Option<Outcome> {
        let outcome = Self::outcome(response.status(), response.headers());
        (outcome != Outcome::Success).then_some(outcome)
    }

    fn end(&self, _: Option<&HeaderMap>) -> Outcome {
        Outcome::Success
    }
}

impl<J, P> BreakerLayer<J, P> {
    /// Judges HTTP calls by the status of their responses; see [`HttpClassifier`].
    ///
    /// Without it a layer knows nothing of HTTP, and `Ok` is a success whatever its status.
    pub fn http(self) -> BreakerLayer<OnResult<HttpClassifier>, P> {
        self.classify(HttpClassifier)
    }
}

/// The time of day, which a response without `Date` is taken to be from (RFC 9110,
/// section 6.6.1).
#[allow(clippy::disallowed_methods)] // the one place of this crate that reads it
pub(in crate::breaker) fn received_at() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn classify(status: u16, headers: &[(&str, &str)]) -> Outcome {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
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
        assert_eq!(classify(429, &[("retry-after", "7")]), overloaded(Some(7)));
        assert_eq!(
            classify(503, &[("retry-after", "120")]),
            overloaded(Some(120))
        );
        assert_eq!(
            classify(503, &[("retry-after", "soon")]),
            overloaded(None),
            "it chose to refuse, whatever it meant to say"
        );
        assert_eq!(classify(500, &[("retry-after", "120")]), Outcome::Failure);
    }

    #[test]
    fn a_retry_after_date_counts_from_the_date_of_the_response() {
        let headers = [
            ("date", "Fri, 31 Dec 1999 23:59:00 GMT"),
            ("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT"),
        ];
        assert_eq!(classify(503, &headers), overloaded(Some(59)));
        // Without one it counts from today, and is long over.
        assert_eq!(classify(503, &headers[1..]), overloaded(Some(0)));
    }
}
