use crate::rate_limit::quota::Quota;

/// What a store keeps of one limit, and the rule by which it grants.
///
/// A store that runs the rule itself, as a script or a procedure, must do as
/// [`grant`](Self::grant) does; its numbers may be double-precision ones.
///
/// ```text
/// at       micro   when it was written, by the store's clock
/// missing  nano    the filling that was missing then; never more than `of`
/// of       nano    the time to fill the bucket from empty, then
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Held {
    /// When it was written, in microseconds of the store's clock.
    pub at: u64,
    /// The nanoseconds of filling that were missing then.
    pub missing: u64,
    /// The nanoseconds that the bucket takes to fill from empty; 0 of one that was never used.
    pub of: u64,
}

/// A store's answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Grant {
    /// The permits that were granted; 0 when there were not as many as asked at least.
    pub permits: u32,
    /// The nanoseconds of filling that are missing now.
    pub missing: u64,
}

impl Held {
    /// Grants `least` to `want` permits at `now` (microseconds), or none.
    ///
    /// Above `least` a process gets at most a quarter of what is there, so that those that ask a
    /// little later find something. Under another quota than before, the missing share stays.
    /// `quota` must fill within 30 days.
    pub fn grant(&mut self, quota: Quota, least: u32, want: u32, now: u64) -> Grant {
        let (interval, fill) = (quota.interval(), quota.fill());
        let missing = self.missing(quota, now);
        let free = (fill - missing) / interval;
        let permits = if free < least.into() {
            0
        } else {
            // At most `want` or `least`, which fit.
            (free / 4).min(want.into()).max(least.into()) as u32
        };
        let missing = missing + interval * u64::from(permits);
        if permits > 0 || now < self.at {
            *self = Self {
                at: now,
                missing,
                of: fill,
            };
        }
        Grant { permits, missing }
    }

    /// Takes `n` permits back at `now` (microseconds), but no more than are missing.
    ///
    /// They are to have been granted for one call, which spent them at once: one that is spent out of
    /// a lease may not be granted again, see the [module](super).
    pub fn refund(&mut self, quota: Quota, n: u32, now: u64) {
        let back = quota.interval().saturating_mul(n.into());
        *self = Self {
            at: now,
            missing: self.missing(quota, now).saturating_sub(back),
            of: quota.fill(),
        };
    }

    /// The nanoseconds of filling that are missing at `now`; no credit for a clock that stepped back.
    fn missing(&self, quota: Quota, now: u64) -> u64 {
        let fill = quota.fill();
        let since = now.saturating_sub(self.at).saturating_mul(1000);
        let mut missing = self.missing.saturating_sub(since);
        if self.of != fill && self.of != 0 {
            // As a store with doubles for numbers counts.
            missing = (missing as f64 / self.of as f64 * fill as f64).ceil() as u64;
        }
        missing.min(fill)
    }
}
