//! The record as the extensions of a response tell it.

use http::Extensions;

use super::Admission;

impl Admission {
    /// What was decided, by the extensions of a response.
    ///
    /// A stack leaves the record itself. The response that a single layer made of its refusal
    /// (`into_response`, `into_grpc_response` and their kin) has the typed refusal, which says all
    /// that the record does and is looked up here, so that a refusal allocates for one value and not
    /// for two. `None` if no policy says anything: for an answer of the service within, and for a
    /// shared call that panicked.
    ///
    /// The extensions of a request are read in the same way, for who keeps a record or a refusal
    /// there.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "breaker")] {
    /// use std::convert::Infallible;
    ///
    /// use http::{Request, Response};
    /// use resilience_core::breaker::{CircuitBreaker, Mode};
    /// use resilience_tower::admission::{Admission, Policy};
    /// use resilience_tower::breaker::BreakerLayer;
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # tokio_test::block_on(async {
    /// let breaker = CircuitBreaker::new("payments");
    /// breaker.set_mode(Mode::ForcedOpen);
    /// let payments = ServiceBuilder::new()
    ///     .layer(BreakerLayer::from_handle(breaker).http().into_response())
    ///     .service(service_fn(async |_: Request<String>| {
    ///         Ok::<_, Infallible>(Response::new(String::from("paid")))
    ///     }));
    /// let response = payments.oneshot(Request::default()).await.unwrap();
    /// let refused = Admission::of(response.extensions()).unwrap();
    /// assert_eq!(refused.policy(), Some(Policy::Breaker));
    /// assert_eq!(refused.reason(), "forced_open");
    /// # });
    /// # }
    /// ```
    pub fn of(extensions: &Extensions) -> Option<Self> {
        if extensions.is_empty() {
            return None;
        }
        let record = extensions.get::<Self>().cloned();
        record.or_else(|| REFUSALS.iter().find_map(|look| look(extensions)))
    }
}

/// The refusals that responses are made of, one per policy.
const REFUSALS: &[fn(&Extensions) -> Option<Admission>] = &[
    #[cfg(feature = "adaptive")]
    refusal::<resilience_core::adaptive::Refused>,
    #[cfg(feature = "balance")]
    refusal::<crate::balance::Unavailable>,
    #[cfg(feature = "breaker")]
    refusal::<resilience_core::breaker::Rejected>,
    #[cfg(feature = "bulkhead")]
    refusal::<resilience_core::bulkhead::Refused>,
    #[cfg(feature = "coalesce")]
    unanswered,
    #[cfg(feature = "load-shed")]
    refusal::<resilience_core::load_shed::Shed>,
    #[cfg(feature = "rate-limit")]
    refusal::<crate::rate_limit::Refusal>,
    #[cfg(feature = "rate-limit")]
    limited,
    #[cfg(feature = "read-write")]
    refusal::<crate::read_write::Refusal>,
    #[cfg(feature = "timeout")]
    refusal::<resilience_core::deadline::TimeUp>,
];

#[allow(dead_code)] // without a policy
fn refusal<R>(extensions: &Extensions) -> Option<Admission>
where
    R: Clone + Into<Admission> + Send + Sync + 'static,
{
    extensions.get::<R>().cloned().map(Into::into)
}

/// A refusal, but not a panic.
#[cfg(feature = "coalesce")]
fn unanswered(extensions: &Extensions) -> Option<Admission> {
    let unanswered = extensions.get::<crate::coalesce::http::Unanswered>()?;
    unanswered.refused().map(Into::into)
}

/// Of a limit whose error became a response by [`IntoResponse`](crate::refusal::IntoResponse), and
/// not by its own answer.
#[cfg(feature = "rate-limit")]
fn limited(extensions: &Extensions) -> Option<Admission> {
    use super::Decided;
    use crate::rate_limit::Error;

    let limited = extensions.get::<Error<std::convert::Infallible>>();
    limited.and_then(Decided::admission)
}
