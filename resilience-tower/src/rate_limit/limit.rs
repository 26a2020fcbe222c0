use resilience_core::rate_limit::{Admitted, Check, LeasedRateLimiter, Quota, RateLimiter};

use super::{NoKey, Refusal};

/// What a [`RateLimit`](super::RateLimit) asks before each call.
///
/// | limit | counts |
/// |---|---|
/// | [`RateLimiter`] | all calls together |
/// | [`LeasedRateLimiter`] | the same, in blocks per thread; tells admitted calls no figures |
/// | [`Keyed`](super::keyed::Keyed) | the calls of each key |
/// | [`All`](super::All) of several | against every one of them, all or none |
/// | [`WithCost`](super::WithCost) of another | as that one, each call with its own cost |
pub trait Limit<Req> {
    /// Admits `request` now at a cost of `n`, or refuses it, at once. Cost 0 is always admitted,
    /// if there is a key.
    ///
    /// # Errors
    ///
    /// [`Refusal`], which names the limit, with the exact wait.
    fn admit(&self, request: &Req, n: u32) -> Result<Admission, Refusal>;
}

/// An admitted call: the answer of the limit that has the least left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Admission {
    /// The place of the limit among several, from 0; 0 of one alone.
    pub place: usize,
    /// Its answer; `None` of a limit that does not tell one.
    pub admitted: Option<Admitted>,
    /// The quota it was decided by. Read after the decision: of a quota that is changed in that
    /// moment, the new one.
    pub quota: Quota,
    /// What the call cost.
    pub cost: u32,
}

impl Admission {
    /// An admission by the limit at `place`, at `cost`.
    #[inline]
    pub fn new(
        place: usize,
        admitted: impl Into<Option<Admitted>>,
        quota: Quota,
        cost: u32,
    ) -> Self {
        Self {
            place,
            admitted: admitted.into(),
            quota,
            cost,
        }
    }
}

/// The quotas behind a limit, as they are advertised: one per place.
pub trait Quotas {
    /// The quotas in force, in the order of their places.
    fn quotas(&self) -> Vec<Quota>;
}

/// A limit that can be one of several, see [`All`](super::All).
pub trait Part<Req>: Quotas {
    /// Runs `f` with this limit and the cost `n`, for the key of `request`.
    ///
    /// # Errors
    ///
    /// [`NoKey`], when the limit is one per key and the request has none; `f` did not run.
    fn with_check<T>(
        &self,
        request: &Req,
        n: u32,
        f: impl FnOnce(&dyn Check) -> T,
    ) -> Result<T, NoKey>;

    /// The quota that counts for `request`.
    fn quota_for(&self, request: &Req) -> Quota;
}

impl<Req> Limit<Req> for RateLimiter {
    #[inline]
    fn admit(&self, _: &Req, n: u32) -> Result<Admission, Refusal> {
        match self.try_acquire_n(n) {
            Ok(admitted) => Ok(Admission::new(0, admitted, self.quota(), n)),
            Err(limited) => Err(Refusal::limited(0, limited, self.quota())),
        }
    }
}

impl<Req> Limit<Req> for LeasedRateLimiter {
    #[inline]
    fn admit(&self, _: &Req, n: u32) -> Result<Admission, Refusal> {
        match self.try_acquire_n(n) {
            Ok(()) => Ok(Admission::new(0, None, self.quota(), n)),
            Err(limited) => Err(Refusal::limited(0, limited, self.quota())),
        }
    }
}

impl Quotas for LeasedRateLimiter {
    fn quotas(&self) -> Vec<Quota> {
        vec![self.quota()]
    }
}

impl Quotas for RateLimiter {
    fn quotas(&self) -> Vec<Quota> {
        vec![self.quota()]
    }
}

impl<Req> Part<Req> for RateLimiter {
    fn with_check<T>(&self, _: &Req, n: u32, f: impl FnOnce(&dyn Check) -> T) -> Result<T, NoKey> {
        Ok(f(&self.cost(n)))
    }

    fn quota_for(&self, _: &Req) -> Quota {
        self.quota()
    }
}
