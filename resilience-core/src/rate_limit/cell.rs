//! One bucket: a pure decision on the theoretical arrival time, and the word around it.

use std::time::Duration;

use super::{Admitted, Limited, quota::Quota};
use crate::primitive::{AtomicU64, Ordering};

/// Decides a call of cost `n` at `now`: the new arrival time if it is admitted.
#[inline]
pub(super) fn decide(tat: u64, n: u32, now: u64, quota: &Quota) -> Result<u64, Limited> {
    let burst = quota.interval() * u64::from(quota.burst_size());
    let base = tat.max(now);
    if n > quota.burst_size() {
        return Err(limited(tat, now, quota, None));
    }
    // No overflow: both clock and burst are capped (see `quota`), and n is within the burst.
    let next = base + quota.interval() * u64::from(n);
    // The second part matters only after the clock has stepped back past the whole burst.
    if next - now <= burst || n == 0 {
        return Ok(if n == 0 { tat } else { next });
    }
    Err(limited(tat, now, quota, Some(next - now - burst)))
}

#[inline]
fn remaining(tat: u64, now: u64, quota: &Quota) -> u32 {
    let burst = quota.interval() * u64::from(quota.burst_size());
    let free = burst.saturating_sub(tat.saturating_sub(now)) / quota.interval();
    u32::try_from(free).unwrap_or(u32::MAX)
}

#[inline]
pub(super) fn admitted(tat: u64, now: u64, quota: &Quota) -> Admitted {
    Admitted {
        limit: quota.burst_size(),
        remaining: remaining(tat, now, quota),
        reset_after: Duration::from_nanos(tat.saturating_sub(now)),
    }
}

// Inlined like the rest, so that a caller who looks at no figure pays for no division.
#[inline]
fn limited(tat: u64, now: u64, quota: &Quota, wait: Option<u64>) -> Limited {
    Limited {
        limit: quota.burst_size(),
        remaining: remaining(tat, now, quota),
        retry_after: wait.map(Duration::from_nanos),
        reset_after: Duration::from_nanos(tat.saturating_sub(now)),
    }
}

#[derive(Debug)]
pub(super) struct Cell {
    tat: AtomicU64,
}

impl Cell {
    pub(super) fn new() -> Self {
        Self {
            tat: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn try_acquire(&self, n: u32, now: u64, quota: &Quota) -> Result<Admitted, Limited> {
        // ORDERING: Relaxed. The word is the whole state and publishes no other memory.
        let mut tat = self.tat.load(Ordering::Relaxed);
        loop {
            let next = decide(tat, n, now, quota)?;
            if next == tat {
                return Ok(admitted(next, now, quota));
            }
            match self
                .tat
                .compare_exchange_weak(tat, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Ok(admitted(next, now, quota)),
                Err(seen) => tat = seen,
            }
        }
    }
}
