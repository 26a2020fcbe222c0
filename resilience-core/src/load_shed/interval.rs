//! The interval that runs: the least that was seen in it.

use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::level::Shown;
use crate::primitive::{AtomicU64, Ordering};

/// Nothing was seen.
const NOTHING: u64 = u64::MAX;

/// Written by every call, and taken by the one that ends the interval.
#[derive(Debug)]
pub(super) struct Interval {
    /// When it began, and how long it lasts, in nanoseconds; changed under the lock of the level.
    began: AtomicU64,
    lasts: AtomicU64,
    /// The shortest delay, in nanoseconds.
    delay: Least,
    /// The fewest calls at once that a call found.
    calls: Least,
    cpu: Cpu,
}

/// The least of what was seen.
#[derive(Debug)]
struct Least(CachePadded<AtomicU64>);

impl Least {
    fn new() -> Self {
        Self(CachePadded::new(AtomicU64::new(NOTHING)))
    }

    // ORDERING: Relaxed. A value that comes while the interval ends counts in one of the two, and
    // publishes nothing.
    #[inline]
    fn see(&self, value: u64) {
        // Most are not the least: not writing keeps the cache line shared.
        if value < self.0.load(Ordering::Relaxed) {
            self.0.fetch_min(value, Ordering::Relaxed);
        }
    }

    fn take(&self) -> Option<u64> {
        let value = self.0.swap(NOTHING, Ordering::Relaxed);
        (value != NOTHING).then_some(value)
    }
}

/// The share of the CPU that was told last, and when: `[milliseconds: 48 | 65 535ths: 16]`, most
/// significant first, so that no share is read with the time of another. 48 bits of milliseconds
/// last about 8 900 years.
#[derive(Debug)]
struct Cpu(AtomicU64);

const SHARE_BITS: u32 = 16;

impl Cpu {
    // ORDERING: Relaxed. The word is all there is of it.
    fn see(&self, share: f64, now: u64) {
        let word = match known(share) {
            // Rounded down: what is not above what is borne is not above it here either.
            Some(share) => (now / MILLI) << SHARE_BITS | (share * f64::from(u16::MAX)) as u64,
            None => NOTHING,
        };
        self.0.store(word, Ordering::Relaxed);
    }

    fn told(&self, now: u64, counts: Duration) -> Option<f64> {
        let word = self.0.load(Ordering::Relaxed);
        if word == NOTHING {
            return None;
        }
        // A clock that stepped back makes it too old as well.
        let age = now.checked_sub((word >> SHARE_BITS) * MILLI)?;
        (age <= nanos(counts)).then(|| f64::from(word as u16) / f64::from(u16::MAX))
    }
}

const MILLI: u64 = 1_000_000;

/// A share of the CPU, if it can be one.
pub(super) fn known(share: f64) -> Option<f64> {
    (share.is_finite() && share >= 0.0).then(|| share.min(1.0))
}

impl Interval {
    pub(super) fn new(now: u64, lasts: Duration) -> Self {
        Self {
            began: AtomicU64::new(now),
            lasts: AtomicU64::new(nanos(lasts)),
            delay: Least::new(),
            calls: Least::new(),
            cpu: Cpu(AtomicU64::new(NOTHING)),
        }
    }

    #[inline]
    pub(super) fn see_delay(&self, delay: Duration) {
        self.delay.see(nanos(delay).min(NOTHING - 1));
    }

    #[inline]
    pub(super) fn see_calls(&self, calls: u64) {
        self.calls.see(calls);
    }

    #[inline]
    pub(super) fn see_cpu(&self, share: f64, now: u64) {
        self.cpu.see(share, now);
    }

    /// The share of the CPU that was told last, unless that is longer ago than `counts`.
    pub(super) fn cpu(&self, now: u64, counts: Duration) -> Option<f64> {
        self.cpu.told(now, counts)
    }

    /// Whether it is over. A clock that stepped back by more than an interval ends it too.
    #[inline]
    pub(super) fn is_over(&self, now: u64) -> bool {
        // ORDERING: Relaxed. Who takes it for over looks again under the lock.
        let began = self.began.load(Ordering::Relaxed);
        let lasts = self.lasts.load(Ordering::Relaxed);
        now.saturating_sub(began) >= lasts || began.saturating_sub(now) > lasts
    }

    /// Ends it, under the lock, and begins the next one: what it showed, and how many more have
    /// passed since in which nothing was seen.
    pub(super) fn next(&self, now: u64, limit: Option<u32>, cpu: Option<f64>) -> (Shown, u64) {
        let began = self.began.load(Ordering::Relaxed);
        let missed = (now.saturating_sub(began) / self.lasts.load(Ordering::Relaxed)).max(1) - 1;
        self.began.store(now, Ordering::Relaxed);
        let calls = self.calls.take();
        let shown = Shown {
            delay: self.delay.take().map(|delay| delay as f64),
            calls: calls
                .zip(limit)
                .map(|(calls, limit)| (calls as f64, f64::from(limit))),
            cpu,
        };
        (shown, missed)
    }

    /// Under the lock.
    pub(super) fn set_length(&self, lasts: Duration) {
        self.lasts.store(nanos(lasts), Ordering::Relaxed);
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
