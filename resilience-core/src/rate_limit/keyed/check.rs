//! A key among several limits that are checked at once.

use std::{
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use super::{
    super::{
        Admitted, Limited, cell,
        check::{Check, Part, Taken},
        quota::Quota,
    },
    Core, KeyedRateLimiter,
    fills::Terms,
};

/// A key of a [`KeyedRateLimiter`] and a cost, for [`check_all`](crate::rate_limit::check_all()).
#[derive(Clone, Copy, Debug)]
pub struct KeyedCost<'a> {
    core: &'a Core,
    /// Tells limiters apart.
    limiter: usize,
    hash: u64,
    n: u32,
    quota: Option<Quota>,
}

impl<K: Hash + ?Sized, S: BuildHasher> KeyedRateLimiter<K, S> {
    /// `key` at cost `n`, for [`check_all`](crate::rate_limit::check_all()), by the common quota.
    ///
    /// # Examples
    ///
    /// ```
    /// use resilience_core::rate_limit::{KeyedRateLimiter, Quota, RateLimiter, check_all};
    ///
    /// let all = RateLimiter::new(Quota::per_second(100)?);
    /// let each = KeyedRateLimiter::<str>::new(Quota::per_second(1)?, 1000);
    /// assert!(check_all(&[&all, &each.cost("ada", 1)]).is_ok());
    /// let refused = check_all(&[&all, &each.cost("ada", 1)]).unwrap_err();
    /// assert_eq!(refused.refused_by, 1);
    /// assert_eq!(all.snapshot().remaining, 99);
    /// # Ok::<(), resilience_core::rate_limit::QuotaError>(())
    /// ```
    pub fn cost(&self, key: &K, n: u32) -> KeyedCost<'_> {
        KeyedCost {
            core: &self.inner.core,
            limiter: Arc::as_ptr(&self.inner).addr(),
            hash: self.inner.hash(key),
            n,
            quota: None,
        }
    }

    /// As [`cost`](Self::cost), by this quota instead of the common one.
    pub fn cost_with(&self, key: &K, n: u32, quota: Quota) -> KeyedCost<'_> {
        KeyedCost {
            quota: Some(quota),
            ..self.cost(key, n)
        }
    }
}

impl KeyedCost<'_> {
    fn terms(&self) -> Terms {
        match self.quota {
            Some(quota) => self.core.table.fills.terms(quota),
            None => self.core.quota.load(),
        }
    }
}

impl Check for KeyedCost<'_> {}

impl Part for KeyedCost<'_> {
    fn bucket(&self) -> (usize, u64) {
        (self.limiter, self.hash)
    }

    fn cost(&self) -> u32 {
        self.n
    }

    fn peek(&self, n: u32) -> Result<Admitted, Limited> {
        self.core.peek(self.hash, n, &self.terms())
    }

    fn take(&self, n: u32) -> Result<(Admitted, Taken), Limited> {
        let terms = self.terms();
        let admitted = self.core.take(self.hash, n, &terms)?;
        let taken = Taken {
            // No overflow: n was admitted, so it is within the burst.
            nanos: terms.quota.interval() * u64::from(n),
            fill: terms.quota.fill(),
        };
        Ok((admitted, taken))
    }

    fn put_back(&self, taken: Taken) {
        let terms = self.terms();
        let nanos = cell::share(taken.nanos, taken.fill, terms.quota.fill());
        self.core.give_back(self.hash, nanos, &terms);
    }
}
