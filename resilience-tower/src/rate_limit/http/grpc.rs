use http::{HeaderName, HeaderValue, Response};

use crate::rate_limit::{Admission, Answer, Keep, RateLimitLayer, Reason, Refusal};
use crate::refusal::{self, RefusalBody};

const RESOURCE_EXHAUSTED: u8 = 8;
const PERMISSION_DENIED: u8 = 7;
const UNAVAILABLE: u8 = 14;

/// Tells refusals as gRPC responses without messages ("trailers only"): HTTP 200, and
///
/// | refused | `grpc-status` | `grpc-retry-pushback-ms` ([gRFC A6]) |
/// |---|---|---|
/// | for now | 8 (resource exhausted) | the wait, rounded up and never 0 |
/// | for ever (its cost is above the burst) | 8 | -1: do not retry |
/// | without a key | 7 (permission denied) | none |
/// | while the limit's store gives no answer | 14 (unavailable) | until it is asked again |
///
/// The typed [`Refusal`] is in the extensions of the response. Admitted calls pass untouched.
///
/// [gRFC A6]: https://github.com/grpc/proposal/blob/master/A6-client-retries.md
#[derive(Clone, Copy, Debug, Default)]
pub struct GrpcAnswer;

impl Keep for GrpcAnswer {
    type Note = ();
    type Kept = Refusal;

    const QUOTA: bool = false;

    fn note(&self, _: &Admission) {}

    fn keep(&self, refusal: &Refusal) -> Refusal {
        *refusal
    }
}

impl<B, E> Answer<Response<B>, E> for GrpcAnswer {
    type Response = Response<RefusalBody<B>>;
    type Error = E;

    fn admitted(&self, (): (), result: Result<Response<B>, E>) -> Result<Self::Response, E> {
        result.map(|response| response.map(RefusalBody::inner))
    }

    fn refused(&self, refusal: &Refusal) -> Result<Self::Response, E> {
        let mut response = match (refusal.figures(), refusal.reason) {
            (Some(limited), _) => {
                let wait = limited.retry_after;
                let mut response = refusal::grpc(RESOURCE_EXHAUSTED, "rate limit reached", wait);
                if wait.is_none() {
                    let never = HeaderValue::from_static("-1");
                    response.headers_mut().insert(PUSHBACK, never);
                }
                response
            }
            (None, Reason::Outage(outage)) => {
                let wait = Some(outage.retry_after);
                refusal::grpc(UNAVAILABLE, "the rate limit cannot be asked", wait)
            }
            (None, _) => refusal::grpc(
                PERMISSION_DENIED,
                "the request names nobody it could be counted for",
                None,
            ),
        };
        response.extensions_mut().insert(*refusal);
        Ok(response.map(RefusalBody::refusal))
    }

    fn not_ready(&self, error: E) -> E {
        error
    }
}

const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

impl<L> RateLimitLayer<L> {
    /// Answers refusals as a gRPC server does, by [`GrpcAnswer`]; the service's error is the inner
    /// service's alone.
    pub fn into_grpc_response(self) -> RateLimitLayer<L, GrpcAnswer> {
        self.answer(GrpcAnswer)
    }
}
