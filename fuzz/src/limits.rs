//! Quotas, moves of time and answers of limiters.

use std::time::Duration;

use resilience_core::rate_limit::{Admitted, Limited, Quota};

use crate::{
    Choices,
    bucket::{Rate, Told},
};

pub const YEAR: u64 = 365 * 86_400 * 1_000_000_000;
/// Later the limiters' time stands still: 60 bits of nanoseconds less two years.
pub const LATEST: u128 = (1 << 60) - 1 - 2 * YEAR as u128;

/// The limiters' time, counted from `zero`.
pub fn shown(time: u64, zero: u64) -> u128 {
    u128::from(time.saturating_sub(zero)).min(LATEST)
}

/// Nanoseconds to move the clock by.
pub fn moved(choices: &mut Choices<'_>) -> Option<u64> {
    let scale = choices.one_of(&[1, 1_000, 1_000_000, 100_000_000, 60_000_000_000, 1 << 47])?;
    Some(u64::from(choices.byte()?) * scale)
}

pub fn quota(choices: &mut Choices<'_>) -> Option<Quota> {
    let permits = u32::from(choices.byte()?).max(1);
    let per = choices.one_of(&[
        Duration::from_nanos(1_000),
        Duration::from_millis(1),
        Duration::from_secs(1),
        Duration::from_secs(60),
        Duration::from_secs(86_400),
    ])?;
    let burst = u32::from(choices.byte()?).max(1);
    let quota = Quota::new(permits, per).and_then(|quota| quota.burst(burst));
    Some(quota.expect("far within the ranges"))
}

pub fn rate(quota: Quota) -> Rate {
    Rate {
        interval: quota.replenish_interval().as_nanos() as u64,
        burst: quota.burst_size(),
    }
}

pub fn told(real: Result<Admitted, Limited>) -> Told {
    match real {
        Ok(admitted) => Told {
            answer: Ok(()),
            remaining: admitted.remaining,
            reset_after: admitted.reset_after.as_nanos(),
        },
        Err(limited) => Told {
            answer: Err(limited.retry_after.map(|wait| wait.as_nanos())),
            remaining: limited.remaining,
            reset_after: limited.reset_after.as_nanos(),
        },
    }
}
