//! One bucket: pure functions on the time at which it will be full again.

use std::time::Duration;

use super::{Admitted, Limited, quota::Quota};

/// Decides a call of cost `n` at `now` on a bucket that is full at `full_at`: the new time if it
/// is admitted.
#[inline]
pub(super) fn decide(full_at: u64, n: u32, now: u64, quota: &Quota) -> Result<u64, Limited> {
    if n == 0 {
        return Ok(full_at);
    }
    // A burst is 1 at least, so a call of cost 1 does not ask.
    if n > 1 && n > quota.burst_size() {
        return Err(limited(full_at, now, quota, None));
    }
    // No overflow: both clock and burst are capped (see `quota`), and n is within the burst. It
    // wraps only for a quota that was read half and half, whose answer is thrown away.
    let cost = quota.interval().wrapping_mul(n.into());
    let next = full_at.max(now).wrapping_add(cost);
    let missing = next.wrapping_sub(now);
    if missing <= quota.fill() {
        return Ok(next);
    }
    let wait = missing - quota.fill();
    Err(limited(full_at, now, quota, Some(wait)))
}

/// The new time when `nanos` of filling are given back at `now`: never before `now`, for a bucket
/// is not more than full, and a clock that steps back afterwards is to find no credit.
#[inline]
pub(super) fn given_back(full_at: u64, nanos: u64, now: u64) -> u64 {
    full_at.saturating_sub(nanos).max(now).min(full_at)
}

/// The new time when the time to fill the bucket changes at `now` from `from` to `to`: the share
/// that is missing stays, rounded up. A full bucket stays full, an empty one stays empty.
///
/// What is missing beyond the whole bucket (after the clock has stepped back) is time to be made
/// up, and stays as it is. Never answers `full_at` itself where another time says the same, so
/// that a bucket at rest is not mistaken for the one before.
pub(super) fn rescaled(full_at: u64, now: u64, from: u64, to: u64) -> u64 {
    let missing = full_at.saturating_sub(now);
    if missing == 0 {
        return (full_at + 1).min(now);
    }
    // At most `to`, which fits.
    let share = (u128::from(missing.min(from)) * u128::from(to)).div_ceil(u128::from(from));
    now + share as u64 + missing.saturating_sub(from)
}

/// Filling time `nanos` of a bucket that takes `from` to fill, as the same share of one that takes
/// `to`, rounded down.
pub(super) fn share(nanos: u64, from: u64, to: u64) -> u64 {
    let share = u128::from(nanos) * u128::from(to) / u128::from(from);
    u64::try_from(share).unwrap_or(u64::MAX)
}

#[inline]
fn remaining(full_at: u64, now: u64, quota: &Quota) -> u32 {
    let free = quota.fill().saturating_sub(full_at.saturating_sub(now));
    // Never divides by 0; but said so that a caller who does not look pays for no check.
    let free = free.checked_div(quota.interval()).unwrap_or(0);
    u32::try_from(free).unwrap_or(u32::MAX)
}

#[inline]
pub(super) fn admitted(full_at: u64, now: u64, quota: &Quota) -> Admitted {
    Admitted {
        burst: quota.burst_size(),
        remaining: remaining(full_at, now, quota),
        reset_after: Duration::from_nanos(full_at.saturating_sub(now)),
    }
}

// Inlined like the rest, so that a caller who looks at no figure pays for no division.
#[inline]
pub(super) fn limited(full_at: u64, now: u64, quota: &Quota, wait: Option<u64>) -> Limited {
    Limited {
        burst: quota.burst_size(),
        remaining: remaining(full_at, now, quota),
        retry_after: wait.map(Duration::from_nanos),
        reset_after: Duration::from_nanos(full_at.saturating_sub(now)),
    }
}
