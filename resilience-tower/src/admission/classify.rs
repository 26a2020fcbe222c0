//! What the refusals of policies within say of the upstream: nothing.

use resilience_core::breaker::{Classify, Outcome};

use super::{Admission, Decided, Decision, Policy};

/// Judges by another classifier, and ignores what a policy within decided.
///
/// For a breaker (or a balancer, a retry, an adaptive limit) that stands outside of policies of one's
/// own: a call that a rate limit or a bulkhead refused never reached the upstream and says nothing
/// about it, and counted as a failure it would open the breaker for everybody.
///
/// | the error says | outcome |
/// |---|---|
/// | a policy refused the call | ignored |
/// | the time of the attempt was up | failure: the upstream was too slow |
/// | the deadline of the call came | ignored: it is the caller's |
/// | nothing of a policy | as the other classifier says |
///
/// Where the policies within answer by a response (`into_response`), see `IgnoreRefusedResponse`
/// (feature `http`).
///
/// # Examples
///
/// ```
/// # #[cfg(all(feature = "breaker", feature = "bulkhead"))] {
/// # tokio_test::block_on(async {
/// use resilience_core::breaker::ResultClassifier;
/// use resilience_core::bulkhead::{Bulkhead, Config};
/// use resilience_tower::admission::IgnoreRefused;
/// use resilience_tower::breaker::BreakerLayer;
/// use resilience_tower::bulkhead::BulkheadLayer;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// let full = Bulkhead::new(Config::builder().limit(1).build().unwrap());
/// let _permit = full.try_acquire_owned().unwrap();
/// let layer = BreakerLayer::new("payments").classify(IgnoreRefused(ResultClassifier));
/// let breaker = layer.handle().clone();
/// let payments = ServiceBuilder::new()
///     .layer(layer)
///     .layer(BulkheadLayer::new(full))
///     .service(service_fn(async |amount: u32| Ok::<_, std::io::Error>(amount)));
/// payments.oneshot(12).await.unwrap_err();
/// assert_eq!(breaker.snapshot().failures, 0);
/// # });
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct IgnoreRefused<C>(pub C);

impl<T, E: Decided, C: Classify<T, E>> Classify<T, E> for IgnoreRefused<C> {
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        let admission = result.err().and_then(Decided::admission);
        let decided = admission.as_ref().and_then(decided);
        decided.unwrap_or_else(|| self.0.classify(result))
    }
}

/// As [`IgnoreRefused`], where a response is made of the refusal: it goes by [`Admission::of`] of the
/// response's extensions.
///
/// A breaker around a whole server needs it: the 429 of a rate limit within is the server's own.
#[cfg(feature = "http")]
#[derive(Clone, Copy, Debug, Default)]
pub struct IgnoreRefusedResponse<C>(pub C);

#[cfg(feature = "http")]
impl<B, E, C> Classify<http::Response<B>, E> for IgnoreRefusedResponse<C>
where
    C: Classify<http::Response<B>, E>,
{
    fn classify(&self, result: Result<&http::Response<B>, &E>) -> Outcome {
        let decided = result.ok().and_then(by_extensions);
        decided.unwrap_or_else(|| self.0.classify(result))
    }
}

#[cfg(all(feature = "breaker", feature = "http"))]
impl<B, C> crate::breaker::http::ClassifyBody<B> for IgnoreRefusedResponse<C>
where
    B: http_body::Body,
    C: crate::breaker::http::ClassifyBody<B>,
{
    fn head(&self, response: &http::Response<B>) -> Option<Outcome> {
        by_extensions(response).or_else(|| self.0.head(response))
    }

    fn end(&self, trailers: Option<&http::HeaderMap>) -> Outcome {
        self.0.end(trailers)
    }

    fn broken(&self, error: &B::Error) -> Outcome {
        self.0.broken(error)
    }
}

#[cfg(feature = "http")]
fn by_extensions<B>(response: &http::Response<B>) -> Option<Outcome> {
    let admission = Admission::of(response.extensions())?;
    decided(&admission)
}

/// `None` when all policies let the call pass.
fn decided(admission: &Admission) -> Option<Outcome> {
    let admitted = admission.decision() == Decision::Admitted;
    (!admitted).then(|| about_the_upstream(admission))
}

/// Only an attempt that took too long says something about the upstream.
pub(crate) fn about_the_upstream(refused: &Admission) -> Outcome {
    match refused.policy() {
        Some(Policy::AttemptTimeout) => Outcome::Failure,
        _ => Outcome::Ignored,
    }
}
