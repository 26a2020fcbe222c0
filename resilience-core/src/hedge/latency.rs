//! The latency of attempts, as it is now.

use std::time::Duration;

use super::{
    buckets::{Buckets, Ended, Estimate},
    config::Config,
};
use crate::primitive::{AtomicU64, Ordering};

/// Counts attempts, forgets old ones, and keeps what they say in words that are read at once.
#[derive(Debug)]
pub(super) struct Latency {
    buckets: Buckets,
    /// When the counts are halved next, in nanoseconds of the policy's clock.
    turn: AtomicU64,
    /// The estimate: nanoseconds, 0 while too few are measured.
    quantile: AtomicU64,
    median: AtomicU64,
    samples: AtomicU64,
}

impl Latency {
    pub(super) fn new(now: u64, config: &Config) -> Self {
        Self {
            buckets: Buckets::new(),
            turn: AtomicU64::new(now.saturating_add(nanos(config.window()))),
            quantile: AtomicU64::new(0),
            median: AtomicU64::new(0),
            samples: AtomicU64::new(0),
        }
    }

    /// Counts an attempt that ended at `now`. Whether the estimate was worked out for it.
    #[inline]
    pub(super) fn record(&self, now: u64, took: u64, ended: Ended, config: &Config) -> bool {
        let turned = self.turn(now, config);
        let due = self.buckets.record(took, ended) || turned;
        if due {
            self.work_out(config);
        }
        due
    }

    /// Forgets what is too old at `now`. Whether the estimate was worked out for it.
    #[inline]
    pub(super) fn forget(&self, now: u64, config: &Config) -> bool {
        let turned = self.turn(now, config);
        if turned {
            self.work_out(config);
        }
        turned
    }

    /// The measured quantile, unless there are too few attempts.
    #[inline]
    pub(super) fn quantile(&self) -> Option<Duration> {
        // ORDERING: Relaxed. Each word is worked out on its own; a stale one is that of a moment
        // earlier.
        known(self.quantile.load(Ordering::Relaxed))
    }

    /// The time that half of the attempts take at most.
    pub(super) fn median(&self) -> Option<Duration> {
        known(self.median.load(Ordering::Relaxed))
    }

    /// Attempts that count, when the estimate was worked out last.
    pub(super) fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// Halves the counts once per window that is over, and answers whether it was this call that
    /// did.
    #[inline]
    fn turn(&self, now: u64, config: &Config) -> bool {
        let turn = self.turn.load(Ordering::Relaxed);
        let window = nanos(config.window());
        // Nearly always so: no window is over, and none lies far ahead.
        let within = now < turn && turn - now <= window;
        !within && self.turn_from(turn, now, window)
    }

    #[cold]
    fn turn_from(&self, turn: u64, now: u64, window: u64) -> bool {
        // A turn too far ahead is that of a longer window, or the clock stepped back: then nothing
        // is over.
        let over = now.checked_sub(turn).map(|late| 1 + late / window);
        let next = now.saturating_add(window);
        // ORDERING: Relaxed. One caller takes each turn; the counts are halved by
        // read-modify-write and need no order beside it.
        let won = self
            .turn
            .compare_exchange(turn, next, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if let Some(times) = over.filter(|_| won) {
            self.buckets.halve(u32::try_from(times).unwrap_or(u32::MAX));
        }
        won
    }

    /// Looks at all buckets; some hundred additions.
    #[cold]
    pub(super) fn work_out(&self, config: &Config) {
        let share = config.quantile().unwrap_or(0.5);
        let Estimate {
            samples,
            quantile,
            median,
        } = self.buckets.estimate(share);
        let enough = samples >= u64::from(config.min_samples());
        let word = |time: Duration| if enough { nanos(time) } else { 0 };
        self.samples.store(samples, Ordering::Relaxed);
        self.median.store(word(median), Ordering::Relaxed);
        let quantile = config.quantile().map_or(0, |_| word(quantile));
        self.quantile.store(quantile, Ordering::Relaxed);
    }

    #[cfg(all(test, resilience_loom))]
    pub(super) fn sum(&self) -> u64 {
        self.buckets.sum()
    }
}

fn known(nanos: u64) -> Option<Duration> {
    (nanos > 0).then(|| Duration::from_nanos(nanos))
}

fn nanos(span: Duration) -> u64 {
    // At most a day.
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
