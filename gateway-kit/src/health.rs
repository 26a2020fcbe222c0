//! Active health checks, for whatever can be checked.
//!
//! The gateway checks the endpoints of an upstream by them; they stand alone as well: a
//! [`Tally`] is the rule, [`watch`] asks again and again.
//!
//! ```
//! use gateway_kit::health::Tally;
//!
//! // Healthy at first; unhealthy by two bad checks in a row, healthy again by three good ones.
//! let mut tally = Tally::new(3, 2, true);
//! assert_eq!(tally.record(false), None);
//! assert_eq!(tally.record(true), None);
//! assert_eq!(tally.record(false), None);
//! assert_eq!(tally.record(false), Some(false));
//! assert!(!tally.is_healthy());
//! ```

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Tells from checks in a row whether something is healthy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tally {
    good: u32,
    bad: u32,
    healthy: bool,
    /// Checks in a row that speak against `healthy`.
    against: u32,
    /// No check was recorded yet, and it is unhealthy for want of one.
    untried: bool,
}

impl Tally {
    /// `good` checks in a row make healthy, `bad` ones unhealthy (each 1 at least). What is
    /// unhealthy for want of a check is healthy after its first good one.
    pub const fn new(good: u32, bad: u32, healthy: bool) -> Self {
        Self {
            good,
            bad,
            healthy,
            against: 0,
            untried: !healthy,
        }
    }

    /// Records a check; the new verdict if it changes by this.
    pub const fn record(&mut self, good: bool) -> Option<bool> {
        let untried = std::mem::replace(&mut self.untried, false);
        if good == self.healthy {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        let enough = match good {
            true if untried => 1,
            true => self.good,
            false => self.bad,
        };
        if self.against < enough {
            return None;
        }
        self.against = 0;
        self.healthy = good;
        Some(good)
    }

    /// The verdict.
    pub const fn is_healthy(&self) -> bool {
        self.healthy
    }
}

/// When checks are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The time between two checks.
    pub interval: Duration,
    /// How far each wait is off the interval at random, as a share of it; 0 to 1.
    pub jitter: f64,
    /// The longest that a check may take; one that takes longer is bad.
    pub timeout: Duration,
}

/// Checks at once and then again and again, and tells `changed` each new verdict of `tally`. A
/// check is bad if it ends with an error, whose text goes into the log, or takes too long.
///
/// # Cancel safety
/// Ends when it is dropped, with the check that runs.
pub async fn watch<P, F, E>(
    name: &str,
    schedule: Schedule,
    mut tally: Tally,
    mut probe: P,
    mut changed: impl FnMut(bool),
) -> Infallible
where
    P: FnMut() -> F,
    F: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    loop {
        let good = match tokio::time::timeout(schedule.timeout, probe()).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::debug!(name, %error, "bad health check");
                false
            }
            Err(_) => {
                tracing::debug!(name, error = "too slow", "bad health check");
                false
            }
        };
        if let Some(healthy) = tally.record(good) {
            changed(healthy);
        }
        tokio::time::sleep(spread(schedule.interval, schedule.jitter)).await;
    }
}

/// The interval, more or less by `jitter`.
fn spread(interval: Duration, jitter: f64) -> Duration {
    // Seeded anew each time; no more than spreading is asked of it.
    let random = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
    let factor = 1.0 + jitter.clamp(0.0, 1.0) * (2.0 * random - 1.0);
    interval.mul_f64(factor.clamp(0.0, 2.0))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn only_checks_in_a_row_change_the_verdict() {
        let mut tally = Tally::new(2, 3, true);
        let checks = [
            (false, None),
            (false, None),
            (true, None),
            (false, None),
            (false, None),
            (false, Some(false)),
            (false, None),
            (true, None),
            (false, None),
            (true, None),
            (true, Some(true)),
            (true, None),
        ];
        for (index, (good, wanted)) in checks.into_iter().enumerate() {
            assert_eq!(tally.record(good), wanted, "{index}");
        }
    }

    #[test]
    fn what_was_never_checked_is_healthy_after_its_first_good_check() {
        let mut tally = Tally::new(5, 1, false);
        assert_eq!(tally.record(true), Some(true));
        let mut tally = Tally::new(2, 1, false);
        assert_eq!(tally.record(false), None);
        assert_eq!(tally.record(true), None);
        assert_eq!(tally.record(true), Some(true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_takes_too_long_is_a_bad_one() {
        let seen = RefCell::new(Vec::new());
        let started = tokio::time::Instant::now();
        let schedule = Schedule {
            interval: Duration::from_secs(5),
            jitter: 0.0,
            timeout: Duration::from_secs(2),
        };
        let mut slow = [true, true, false, true].into_iter();
        let probe = || {
            let slow = slow.next();
            async move {
                match slow {
                    Some(true) => std::future::pending().await,
                    Some(false) => Ok(()),
                    None => Err("down"),
                }
            }
        };
        let changed = |healthy| {
            seen.borrow_mut()
                .push((healthy, started.elapsed().as_secs()))
        };
        let tally = Tally::new(1, 2, true);
        let watching = watch("x", schedule, tally, probe, changed);
        let _ = tokio::time::timeout(Duration::from_secs(60), watching).await;
        // Two seconds of waiting and five in between; then at once, too slow, and an error.
        assert_eq!(*seen.borrow(), [(false, 9), (true, 14), (false, 26)]);
    }

    #[test]
    fn waits_are_spread_around_the_interval() {
        for _ in 0..1000 {
            let wait = spread(Duration::from_secs(10), 0.1).as_secs_f64();
            assert!((9.0..=11.0).contains(&wait), "{wait}");
        }
        assert_eq!(
            spread(Duration::from_secs(10), 0.0),
            Duration::from_secs(10)
        );
    }
}
