//! What the fields say of a quota and of a decision: plain numbers.

use std::time::Duration;

use resilience_core::rate_limit::Quota;

const SECOND: u64 = 1_000_000_000;
/// The largest integer of a structured field (RFC 9651, section 3.3.1).
const LARGEST: u64 = 999_999_999_999_999;

/// `q` and `w`: permits, and the seconds in which they come back.
///
/// A quota keeps the time between two permits rounded up to whole nanoseconds, so three per second
/// take 1.000000002 s. Less than a nanosecond per permit is taken for that rounding.
pub(super) fn window(quota: Quota) -> (u64, u64) {
    let interval = nanos(quota.replenish_interval()).max(1);
    let burst = u64::from(quota.burst_size());
    // The fewest whole seconds that are more than what the burst takes, each interval being up to
    // a nanosecond too long.
    let seconds = burst.saturating_mul(interval - 1) / SECOND + 1;
    let window = seconds.saturating_mul(SECOND);
    // As many as come back in that time, by the same leave.
    let most = (window - 1).checked_div(interval - 1).unwrap_or(u64::MAX);
    let permits = window.div_ceil(interval).min(most).max(burst);
    (permits.min(LARGEST), seconds)
}

/// `t` of an admitted call: the seconds in which `remaining` permits come back, or else the next.
pub(super) fn effective_window(remaining: u32, reset_after: Duration, quota: Quota) -> u64 {
    let interval = nanos(quota.replenish_interval());
    let wait = if remaining > 0 {
        interval.saturating_mul(remaining.into())
    } else {
        // All but one of the burst come back after the next one.
        let after = interval.saturating_mul(u64::from(quota.burst_size()).saturating_sub(1));
        nanos(reset_after).saturating_sub(after)
    };
    wait.div_ceil(SECOND).clamp(1, LARGEST)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(permits: u32, seconds: u64, burst: u32) -> Quota {
        let quota = Quota::new(permits, Duration::from_secs(seconds)).unwrap();
        quota.burst(burst).unwrap()
    }

    #[test]
    fn a_window_is_what_was_configured_or_the_next_whole_second() {
        for (permits, seconds, burst, expected) in [
            (100, 60, 100, (100, 60)),
            (10, 1, 10, (10, 1)),
            (3, 1, 3, (3, 1)),
            (7, 60, 7, (7, 60)),
            (1_000_000, 1, 1_000_000, (1_000_000, 1)),
            (1_000_000_000, 1, 1_000_000_000, (1_000_000_000, 1)),
            (1, 86_400, 1, (1, 86_400)),
            // A burst of its own: the window is the time in which it comes back.
            (100, 60, 20, (20, 12)),
            (100, 60, 200, (200, 120)),
            (3, 1, 10, (12, 4)),
            // It comes back within a second: what comes back in one.
            (1_000, 1, 10, (1_000, 1)),
            (7, 60, 2, (2, 18)),
        ] {
            let quota = quota(permits, seconds, burst);
            assert_eq!(
                window(quota),
                expected,
                "{permits} per {seconds} s, {burst}"
            );
        }
    }

    #[test]
    fn the_effective_window_is_that_of_the_permits_left() {
        let quota = quota(100, 60, 100);
        let minute = Duration::from_secs(60);
        assert_eq!(effective_window(100, Duration::ZERO, quota), 60);
        assert_eq!(effective_window(50, minute / 2, quota), 30);
        assert_eq!(effective_window(1, minute * 99 / 100, quota), 1);
        // None left: the next comes after 0.6 s, or 0.1 s.
        assert_eq!(effective_window(0, minute, quota), 1);
        let slow = super::tests::quota(1, 60, 1);
        assert_eq!(effective_window(0, minute, slow), 60);
        assert_eq!(effective_window(0, Duration::from_millis(1), slow), 1);
    }
}
