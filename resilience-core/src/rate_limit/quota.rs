//! How much is allowed.

use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
/// Longest time to fill an empty bucket: a year. Keeps all sums far from overflow.
const LONGEST_FILL: u64 = 365 * 86_400 * 1_000_000_000;
/// Bits of a time; a limiter keeps other things in the rest of its word.
pub(super) const TIME_BITS: u32 = 60;
/// Times past this (34 years after the limiter was made) read as this; a clock there stands still
/// and gives no credit. Leaves room for the longest fill.
const LATEST: u64 = (1 << TIME_BITS) - 1 - 2 * LONGEST_FILL;

/// A rate and a burst, checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Unchecked"))]
pub struct Quota {
    pub(super) interval: u64,
    /// Interval × burst, at most a year.
    pub(super) fill: u64,
    pub(super) burst: u32,
}

#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    permits: u32,
    #[serde(with = "humantime_serde")]
    per: Duration,
    burst: Option<u32>,
}

#[cfg(feature = "serde")]
impl TryFrom<Unchecked> for Quota {
    type Error = QuotaError;

    fn try_from(unchecked: Unchecked) -> Result<Self, QuotaError> {
        let quota = Self::new(unchecked.permits, unchecked.per)?;
        match unchecked.burst {
            Some(burst) => quota.burst(burst),
            None => Ok(quota),
        }
    }
}

impl Quota {
    /// `permits` per second, and as many at once.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn per_second(permits: u32) -> Result<Self, QuotaError> {
        Self::new(permits, Duration::from_secs(1))
    }

    /// `permits` per minute, and as many at once.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn per_minute(permits: u32) -> Result<Self, QuotaError> {
        Self::new(permits, Duration::from_secs(60))
    }

    /// `permits` per `per` (up to a day), and as many at once. The time between two permits is
    /// rounded up to whole nanoseconds.
    ///
    /// # Errors
    ///
    /// When `permits` is 0, `per` is 0 or over a day, or there is more than one permit per
    /// nanosecond.
    pub fn new(permits: u32, per: Duration) -> Result<Self, QuotaError> {
        if permits == 0 {
            return Err(QuotaError::new("permits", permits, "1 or more"));
        }
        if per.is_zero() || per > DAY {
            let value = format!("{per:?}");
            return Err(QuotaError::new("per", value, "over 0, up to 1 day"));
        }
        // At most a day, see above.
        let per = per.as_nanos() as u64;
        if u64::from(permits) > per {
            return Err(QuotaError::new(
                "permits",
                permits,
                "one per nanosecond at most",
            ));
        }
        Self::checked(per.div_ceil(u64::from(permits)), permits)
    }

    /// The same rate with `burst` permits at once.
    ///
    /// # Errors
    ///
    /// When `burst` is 0, or so large that the bucket takes over a year to fill.
    pub fn burst(self, burst: u32) -> Result<Self, QuotaError> {
        Self::checked(self.interval, burst)
    }

    fn checked(interval: u64, burst: u32) -> Result<Self, QuotaError> {
        let most = LONGEST_FILL / interval;
        if burst == 0 || u64::from(burst) > most {
            let allowed = format!("1 to {}", most.min(u64::from(u32::MAX)));
            return Err(QuotaError::new("burst", burst, allowed));
        }
        Ok(Self::unchecked(interval, burst))
    }

    /// For policies that have checked already: `interval` × `burst` is a year at most.
    pub(crate) const fn unchecked(interval: u64, burst: u32) -> Self {
        Self {
            interval,
            fill: interval * burst as u64,
            burst,
        }
    }

    /// The most that is admitted at once.
    #[inline]
    pub fn burst_size(&self) -> u32 {
        self.burst
    }

    /// The time in which one permit comes back.
    pub fn replenish_interval(&self) -> Duration {
        Duration::from_nanos(self.interval)
    }

    /// The time in which an empty bucket becomes full: the burst times the
    /// [`replenish_interval`](Self::replenish_interval).
    pub fn fill_time(&self) -> Duration {
        Duration::from_nanos(self.fill())
    }

    #[inline]
    pub(super) fn interval(&self) -> u64 {
        self.interval
    }

    /// In nanoseconds; at most a year.
    #[inline]
    pub(super) fn fill(&self) -> u64 {
        self.fill
    }

    /// Of values that were a quota's before; of two different ones if it changes at this moment,
    /// which the caller has to find out.
    #[inline]
    pub(super) fn from_parts(interval: u64, burst: u32) -> Self {
        Self {
            interval,
            fill: interval.wrapping_mul(burst.into()),
            burst,
        }
    }
}

/// A time in nanoseconds, kept so low that no sum with a quota overflows.
#[inline]
pub(super) fn capped(nanos: u64) -> u64 {
    if nanos > LATEST { latest() } else { nanos }
}

/// Apart, so that a call whose time is in range takes a branch rather than a longer computation.
#[cold]
fn latest() -> u64 {
    LATEST
}

/// A quota that cannot be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field} is {value}, allowed: {allowed}")]
#[non_exhaustive]
pub struct QuotaError {
    /// The setting.
    pub field: &'static str,
    /// The value it was given.
    pub value: String,
    /// The values it may have.
    pub allowed: String,
}

impl QuotaError {
    pub(super) fn new(
        field: &'static str,
        value: impl ToString,
        allowed: impl Into<String>,
    ) -> Self {
        Self {
            field,
            value: value.to_string(),
            allowed: allowed.into(),
        }
    }
}
