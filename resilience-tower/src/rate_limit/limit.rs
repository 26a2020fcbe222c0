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
    /// Admits `request` now or refuses it, at once. Cost 0 is always admitted, if there is a key.
    ///
    /// # Errors
    ///
    /// [`Refusal`], which names the limit, with the exact wait.
    fn admit(&self, request: &Req, ask: Ask) -> Result<Admission, Refusal>;
}

/// What is asked of a limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Ask {
    /// What the call costs.
    pub cost: u32,
    /// Whether the quota is to be told with the answer; if not, it need not be read.
    pub quota: bool,
}

impl Ask {
    /// To admit a call of this cost.
    #[inline]
    pub fn new(cost: u32) -> Self {
        let quota = false;
        Self { cost, quota }
    }

    /// Whether to tell the quota; not by default.
    #[inline]
    #[must_use]
    pub fn with_quota(mut self, tell: bool) -> Self {
        self.quota = tell;
        self
    }

    /// The same at `factor` times the cost, up to `u32::MAX`.
    #[inline]
    #[must_use]
    pub fn times(mut self, factor: u32) -> Self {
        self.cost = self.cost.saturating_mul(factor);
        self
    }
}

/// An admitted call: the answer of the limit that has the least left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Admission {
    /// The place of the limit among several, from 0; 0 of one alone.
    pub place: usize,
    /// Its answer; `None` of a limit that does not tell one.
    pub admitted: Option<Admitted>,
    /// The quota it was decided by, if it was asked for. Read after the decision: of a quota that
    /// is changed in that moment, the new one.
    pub quota: Option<Quota>,
    /// What the call cost, as far as it can be given back: 0 of what a limit in Redis admitted out of
    /// a lease, or without Redis.
    pub cost: u32,
}

impl Admission {
    /// An admission by the limit at `place`, at `cost`.
    #[inline]
    pub fn new(
        place: usize,
        admitted: impl Into<Option<Admitted>>,
        quota: Option<Quota>,
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
    fn admit(&self, _: &Req, ask: Ask) -> Result<Admission, Refusal> {
        let answer = self.try_acquire_n(ask.cost);
        let quota = ask.quota.then(|| self.quota());
        match answer {
            Ok(admitted) => Ok(Admission::new(0, admitted, quota, ask.cost)),
            Err(limited) => Err(Refusal::limited(0, limited, quota)),
        }
    }
}

impl<Req> Limit<Req> for LeasedRateLimiter {
    #[inline]
    fn admit(&self, _: &Req, ask: Ask) -> Result<Admission, Refusal> {
        let answer = self.try_acquire_n(ask.cost);
        let quota = ask.quota.then(|| self.quota());
        match answer {
            Ok(()) => Ok(Admission::new(0, None, quota, ask.cost)),
            Err(limited) => Err(Refusal::limited(0, limited, quota)),
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
