//! How long to wait before the next attempt.

use std::time::Duration;

use crate::{
    random::unit,
    settings::{ConfigError, LONGEST, check, span},
};

/// How a wait varies from call to call, so that those who failed together do not come back
/// together.
///
/// The formulas are those of [Exponential Backoff And Jitter] (Brooker, AWS Architecture Blog,
/// 2015). *Step* is the base doubled with each retry, up to the cap.
///
/// [Exponential Backoff And Jitter]: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Jitter {
    /// The step itself: all come back at once. For tests.
    None,
    /// Anything from 0 to the step. The default: least load on an upstream in trouble.
    #[default]
    Full,
    /// Half the step, and up to as much again.
    Equal,
    /// From the base to three times the wait before, up to the cap.
    Decorrelated,
}

/// Exponential backoff, checked.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use resilience_core::retry::{Backoff, Jitter};
///
/// let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1))?
///     .jitter(Jitter::None);
/// let waits: Vec<_> = (1..=5).map(|retry| backoff.step(retry).as_millis()).collect();
/// assert_eq!(waits, [100, 200, 400, 800, 1000]);
/// # Ok::<(), resilience_core::retry::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Unchecked"))]
#[must_use]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    jitter: Jitter,
}

#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    #[serde(with = "humantime_serde")]
    base: Duration,
    #[serde(with = "humantime_serde")]
    cap: Duration,
    #[serde(default)]
    jitter: Jitter,
}

#[cfg(feature = "serde")]
impl TryFrom<Unchecked> for Backoff {
    type Error = ConfigError;

    fn try_from(unchecked: Unchecked) -> Result<Self, ConfigError> {
        let backoff = Self::new(unchecked.base, unchecked.cap)?;
        Ok(backoff.jitter(unchecked.jitter))
    }
}

impl Default for Backoff {
    /// 50 ms, up to 2 s, full jitter.
    fn default() -> Self {
        Self {
            base: Duration::from_millis(50),
            cap: Duration::from_secs(2),
            jitter: Jitter::Full,
        }
    }
}

impl Backoff {
    /// Waits from `base`, doubled with each retry, to `cap`; full jitter.
    ///
    /// # Errors
    ///
    /// When `base` is over a day, or `cap` is below `base` or over a day.
    pub fn new(base: Duration, cap: Duration) -> Result<Self, ConfigError> {
        span("base", base, Duration::ZERO)?;
        let inside = (base..=LONGEST).contains(&cap);
        check("cap", format_args!("{cap:?}"), inside, || {
            format!("{base:?} (the base) to 1 day")
        })?;
        Ok(Self {
            base,
            cap,
            jitter: Jitter::default(),
        })
    }

    /// How waits vary.
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The wait before retry number `retry` (the first is 1) without jitter.
    pub fn step(&self, retry: u32) -> Duration {
        let doublings = retry.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.cap)
    }

    /// The wait before retry number `retry` (the first is 1), which followed a wait of
    /// `previous` (zero before the first), by 64 random bits.
    pub fn wait(&self, retry: u32, previous: Duration, random: u64) -> Duration {
        let part = unit(random);
        let step = self.step(retry);
        match self.jitter {
            Jitter::None => step,
            Jitter::Full => step.mul_f64(part),
            Jitter::Equal => step / 2 + (step / 2).mul_f64(part),
            Jitter::Decorrelated => {
                let most = previous.max(self.base).saturating_mul(3).min(self.cap);
                let room = most.saturating_sub(self.base);
                (self.base + room.mul_f64(part)).min(self.cap)
            }
        }
    }
}

#[cfg(all(test, not(resilience_loom)))]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(1);

    fn backoff(jitter: Jitter) -> Backoff {
        Backoff::new(BASE, CAP).unwrap().jitter(jitter)
    }

    /// The least and the most of retry `retry` after `previous`.
    fn range(jitter: Jitter, retry: u32, previous: Duration) -> (u128, u128) {
        let wait = |random| backoff(jitter).wait(retry, previous, random);
        let (least, most) = (wait(0), wait(u64::MAX));
        (
            least.as_millis(),
            (most + Duration::from_nanos(1)).as_millis(),
        )
    }

    #[test]
    fn each_jitter_keeps_its_published_range() {
        let zero = Duration::ZERO;
        assert_eq!(range(Jitter::None, 3, zero), (400, 400));
        assert_eq!(range(Jitter::Full, 3, zero), (0, 400));
        assert_eq!(range(Jitter::Equal, 3, zero), (200, 400));
        assert_eq!(range(Jitter::Decorrelated, 1, zero), (100, 300));
        let previous = Duration::from_millis(250);
        assert_eq!(range(Jitter::Decorrelated, 2, previous), (100, 750));
        assert_eq!(range(Jitter::Decorrelated, 3, CAP), (100, 1000));
    }

    #[test]
    fn no_wait_is_above_the_cap_however_many_retries() {
        for jitter in [
            Jitter::None,
            Jitter::Full,
            Jitter::Equal,
            Jitter::Decorrelated,
        ] {
            for retry in [1, 5, 31, 32, 33, 64, u32::MAX] {
                let wait = backoff(jitter).wait(retry, Duration::MAX, u64::MAX);
                assert!(wait <= CAP, "{jitter:?} {retry} {wait:?}");
            }
        }
    }

    #[test]
    fn a_base_of_zero_waits_for_nothing() {
        let backoff = Backoff::new(Duration::ZERO, Duration::ZERO).unwrap();
        assert_eq!(backoff.wait(9, CAP, u64::MAX), Duration::ZERO);
        let backoff = backoff.jitter(Jitter::Decorrelated);
        assert_eq!(backoff.wait(9, CAP, u64::MAX), Duration::ZERO);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let error = Backoff::new(CAP, BASE).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cap is 100ms, allowed: 1s (the base) to 1 day"
        );
        let error = Backoff::new(Duration::MAX, Duration::MAX).unwrap_err();
        assert_eq!(error.field, "base");
        assert!(Backoff::new(BASE, LONGEST + BASE).is_err());
    }
}
