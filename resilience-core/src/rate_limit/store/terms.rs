use std::time::Duration;

use super::slots;
use crate::rate_limit::{
    Admitted, Limited, cell,
    quota::{Quota, QuotaError},
};

/// A quota, as a store and those that ask it must know it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Terms {
    pub(super) quota: Quota,
    /// Of the bucket in the store.
    pub(super) common: Quota,
    /// 0 when each call is decided by the store.
    pub(super) lease: u64,
    /// The largest block.
    pub(super) most: u32,
}

/// A store counts in double-precision numbers: sums of two such times are exact to 1 ns.
const LONGEST_FILL: Duration = Duration::from_secs(30 * 86_400);
const SHORTEST_LEASE: Duration = Duration::from_millis(1);

impl Terms {
    /// Every call is decided by the store.
    ///
    /// # Errors
    ///
    /// When the bucket takes over 30 days to fill.
    pub fn exact(quota: Quota) -> Result<Self, QuotaError> {
        let fill = quota.fill_time();
        if fill > LONGEST_FILL {
            let burst = quota.burst_size();
            let allowed = "what comes back in 30 days";
            return Err(QuotaError::new("burst", burst, allowed));
        }
        Ok(Self {
            quota,
            common: quota,
            lease: 0,
            most: quota.burst_size(),
        })
    }

    /// The store gives blocks, to be spent within `lease`: 1 ms to a quarter of the time in which
    /// the burst comes back.
    ///
    /// What comes back in a lease is kept back from the burst. A call may cost at most
    /// [`max_cost`](Self::max_cost).
    ///
    /// # Errors
    ///
    /// When `lease` is out of its range, the burst is 1, or the bucket takes over 30 days to fill.
    pub fn leased(quota: Quota, lease: Duration) -> Result<Self, QuotaError> {
        let exact = Self::exact(quota)?;
        let longest = quota.fill_time() / 4;
        if lease < SHORTEST_LEASE || lease > longest {
            let allowed = format!("{SHORTEST_LEASE:?} to {longest:?} (a quarter of the fill time)");
            return Err(QuotaError::new("lease", format!("{lease:?}"), allowed));
        }
        // At most 30 days, see above.
        let lease = lease.as_nanos() as u64;
        let back = lease.div_ceil(quota.interval());
        // At most a quarter of the burst, and one.
        let burst = u64::from(quota.burst_size()).saturating_sub(back);
        if burst == 0 {
            return Err(QuotaError::new("burst", quota.burst_size(), "2 or more"));
        }
        let common = quota.burst(burst as u32)?;
        let quarter = lease / 4 / quota.interval();
        let most = quarter.clamp(1, burst.min(slots::MOST)) as u32;
        Ok(Self {
            common,
            lease,
            most,
            ..exact
        })
    }

    /// The quota that all processes together keep to.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// The quota of the bucket in the store.
    pub fn common(&self) -> Quota {
        self.common
    }

    /// How long a block may be spent; `None` when each call is decided by the store.
    pub fn lease(&self) -> Option<Duration> {
        (self.lease > 0).then(|| Duration::from_nanos(self.lease))
    }

    /// The most that one call may cost.
    pub fn max_cost(&self) -> u32 {
        let most = self.common.burst_size();
        if self.lease > 0 {
            most.min(slots::MOST as u32)
        } else {
            most
        }
    }

    /// What a call of cost `n` is told that the store, of whose bucket `missing` nanoseconds of
    /// filling are then missing, admitted.
    pub fn admitted(&self, missing: u64) -> Admitted {
        cell::admitted(missing.min(self.common.fill()), 0, &self.common)
    }

    /// What a call of cost `n` is told that the store did not admit.
    pub fn limited(&self, n: u32, missing: u64) -> Limited {
        let missing = missing.min(self.common.fill());
        let wait = (n <= self.max_cost()).then(|| {
            let needs = missing + self.common.interval() * u64::from(n);
            needs.saturating_sub(self.common.fill())
        });
        Limited {
            burst: self.quota.burst_size(),
            ..cell::limited(missing, 0, &self.common, wait)
        }
    }

    /// How long a process may spend a block, by its own clock.
    pub(super) fn life(&self) -> u64 {
        self.lease - self.lease.div_ceil(64)
    }

    /// What a block should last, and how long to wait after one that was cut short.
    pub(super) fn pace(&self) -> u64 {
        self.lease / 4
    }
}
