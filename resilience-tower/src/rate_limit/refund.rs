use std::fmt;

use resilience_core::rate_limit::RateLimiter;

use super::{Admission, Answer, Keep, RateLimitLayer, Refusal, WithCost};

/// A limit that can take permits back without knowing the request: one without keys.
pub trait Refund {
    /// Gives `n` permits back; never more than the burst is there.
    fn refund(&self, n: u32);
}

impl Refund for RateLimiter {
    fn refund(&self, n: u32) {
        Self::refund(self, n);
    }
}

/// What Redis took for a call alone; of a lease nothing is given back.
#[cfg(feature = "redis")]
impl Refund for super::redis::RedisLimiter {
    fn refund(&self, n: u32) {
        Self::refund(self, n);
    }
}

impl<L: Refund, F> Refund for WithCost<L, F> {
    fn refund(&self, n: u32) {
        self.limit().refund(n);
    }
}

/// Gives back what a call cost when its result says that it did not count; made by
/// [`RateLimitLayer::refund_if`].
#[derive(Clone)]
pub struct RefundIf<A, L, F> {
    answer: A,
    limit: L,
    rule: F,
}

impl<L: Refund + Clone, A> RateLimitLayer<L, A> {
    /// Gives back what a call cost when `rule`, a `Fn(Result<&Response, &Error>) -> bool` on what
    /// the inner service answered, says that it did not count: when a breaker further in refused
    /// it, say. To be called last; for limits without keys.
    ///
    /// A call that is dropped before it is answered keeps its cost, and so does one whose inner
    /// service panics. What was given back is no longer part of what "burst + rate × span" counts.
    /// Fields of the response tell the balance before it.
    ///
    /// # Examples
    ///
    /// ```
    /// use resilience_core::rate_limit::{Quota, RateLimiter};
    /// use resilience_tower::rate_limit::RateLimitLayer;
    /// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let limiter = RateLimiter::new(Quota::per_minute(2).unwrap());
    /// let layer = RateLimitLayer::new(limiter.clone())
    ///     .refund_if(|result: Result<&u32, &&str>| result.is_err_and(|error| *error == "not sent"));
    /// let mut client = ServiceBuilder::new()
    ///     .layer(layer)
    ///     .service(service_fn(async |n: u32| if n > 0 { Ok(n) } else { Err("not sent") }));
    ///
    /// assert!(client.ready().await.unwrap().call(0).await.is_err());
    /// assert_eq!(limiter.snapshot().remaining, 2);
    /// assert!(client.ready().await.unwrap().call(1).await.is_ok());
    /// assert_eq!(limiter.snapshot().remaining, 1);
    /// # }
    /// ```
    pub fn refund_if<F>(self, rule: F) -> RateLimitLayer<L, RefundIf<A, L, F>> {
        let limit = self.limit().clone();
        self.map_answer(|answer| RefundIf {
            answer,
            limit,
            rule,
        })
    }
}

impl<A: Keep, L, F> Keep for RefundIf<A, L, F> {
    type Note = (A::Note, u32);
    type Kept = A::Kept;

    const QUOTA: bool = A::QUOTA;

    #[inline]
    fn note(&self, admission: &Admission) -> Self::Note {
        (self.answer.note(admission), admission.cost)
    }

    #[inline]
    fn keep(&self, refusal: &Refusal) -> A::Kept {
        self.answer.keep(refusal)
    }
}

impl<Res, E, A, L, F> Answer<Res, E> for RefundIf<A, L, F>
where
    A: Answer<Res, E>,
    L: Refund,
    F: Fn(Result<&Res, &E>) -> bool,
{
    type Response = A::Response;
    type Error = A::Error;

    fn admitted(
        &self,
        (note, cost): Self::Note,
        result: Result<Res, E>,
    ) -> Result<A::Response, A::Error> {
        if (self.rule)(result.as_ref()) {
            self.limit.refund(cost);
        }
        self.answer.admitted(note, result)
    }

    fn refused(&self, kept: &A::Kept) -> Result<A::Response, A::Error> {
        self.answer.refused(kept)
    }

    fn not_ready(&self, error: E) -> A::Error {
        self.answer.not_ready(error)
    }
}

// By hand: closures have no `Debug`.
impl<A: fmt::Debug, L: fmt::Debug, F> fmt::Debug for RefundIf<A, L, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefundIf")
            .field("answer", &self.answer)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
