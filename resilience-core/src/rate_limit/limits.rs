//! Several limits as one handle.

use std::sync::Arc;

use super::{AllAdmitted, NotAll, RateLimiter, check};

/// Several limits that a call has to meet together, 10 a second and 100 a minute for example;
/// clones are handles on the same ones.
///
/// All or none, with the guarantees of [`check_all`](super::check_all()).
///
/// # Examples
///
/// ```
/// use resilience_core::rate_limit::{Limits, Quota, RateLimiter};
///
/// let quotas = [Quota::per_second(10)?, Quota::per_minute(100)?];
/// let limits: Limits = quotas.into_iter().map(RateLimiter::new).collect();
/// let admitted = limits.try_acquire().unwrap().unwrap();
/// assert_eq!((admitted.tightest, admitted.admitted.remaining), (0, 9));
/// # Ok::<(), resilience_core::rate_limit::QuotaError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Limits {
    limiters: Arc<[RateLimiter]>,
}

impl Limits {
    /// The limits, in the order that answers count them in.
    pub fn limiters(&self) -> &[RateLimiter] {
        &self.limiters
    }

    /// Admits one call by all limits now, or refuses it at once and takes from none.
    ///
    /// # Errors
    ///
    /// [`NotAll`], with the longest wait of all.
    pub fn try_acquire(&self) -> Result<Option<AllAdmitted>, NotAll> {
        self.try_acquire_n(1)
    }

    /// As [`try_acquire`](Self::try_acquire), for a call of cost `n` to each. `None` if there is no
    /// limit.
    ///
    /// # Errors
    ///
    /// [`NotAll`], with the longest wait of all.
    pub fn try_acquire_n(&self, n: u32) -> Result<Option<AllAdmitted>, NotAll> {
        let limiters = &self.limiters;
        check::each(limiters.len(), |place| limiters[place].cost(n))
    }

    /// Gives `n` permits back to each, as [`RateLimiter::refund`] does.
    pub fn refund(&self, n: u32) {
        self.limiters.iter().for_each(|limiter| limiter.refund(n));
    }
}

impl FromIterator<RateLimiter> for Limits {
    fn from_iter<I: IntoIterator<Item = RateLimiter>>(limiters: I) -> Self {
        Self {
            limiters: limiters.into_iter().collect(),
        }
    }
}
