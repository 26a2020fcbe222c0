//! The time by which a budget is filled: it can stand still.

use std::time::Duration;

use crate::{
    clock::SharedClock,
    primitive::{AtomicU64, Ordering},
    rate_limit::Ticks,
};

/// `[stands still: 1 | time: 63]`: the time at which it stands, or how far behind the clock it runs.
#[derive(Debug)]
pub(super) struct Pace {
    word: AtomicU64,
    ticks: Ticks,
    /// The reading of the clock from which `ticks` count.
    origin: Duration,
}

const STILL: u64 = 1 << 63;

impl Pace {
    /// At the clock's time, running or not.
    pub(super) fn new(clock: SharedClock, runs: bool) -> Self {
        let (ticks, origin) = Ticks::with_origin(clock);
        let word = if runs { 0 } else { STILL | ticks.now() };
        Self {
            word: AtomicU64::new(word),
            ticks,
            origin,
        }
    }

    #[inline]
    pub(super) fn now(&self) -> u64 {
        self.of(|| self.ticks.now())
    }

    /// The time when the clock reads `now`.
    #[inline]
    pub(super) fn at(&self, now: Duration) -> u64 {
        self.of(|| Ticks::at(now.saturating_sub(self.origin)))
    }

    #[inline]
    fn of(&self, ticks: impl FnOnce() -> u64) -> u64 {
        // ORDERING: Relaxed. One word says all; who reads it before a change counts as before.
        let word = self.word.load(Ordering::Relaxed);
        if word & STILL != 0 {
            word & !STILL
        } else {
            ticks().saturating_sub(word)
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.word.load(Ordering::Relaxed) & STILL == 0
    }

    /// Stands still at the time of now. One caller at a time.
    pub(super) fn stop(&self) {
        self.word.store(STILL | self.now(), Ordering::Relaxed);
    }

    /// Runs on from where it stands. One caller at a time.
    pub(super) fn run(&self) {
        let behind = self.ticks.now().saturating_sub(self.now());
        self.word.store(behind, Ordering::Relaxed);
    }
}
