//! Waits: reset deadlines and leases, in nanoseconds of the clock.

use std::time::Duration;

use super::{
    inner::{Inner, exchange},
    state::{State, Word, nanos, open_for},
    tagged::{VALUE_MASK, micros, tagged, value},
};
use crate::{
    primitive::{AtomicU64, Ordering},
    settings::LONGEST,
};

impl Inner {
    /// Lets the wait of `generation` end `wait` after `now`, or later if it is to end later.
    pub(super) fn set_deadline(&self, generation: u32, now: u64, wait: u64) {
        self.raise(&self.words.wait, generation, micros(wait));
        let deadline = micros(now.saturating_add(wait));
        self.raise(&self.words.deadline, generation, deadline);
    }

    #[inline]
    pub(super) fn deadline(&self, generation: u32) -> Option<u64> {
        // ORDERING: Relaxed. The tag says whether the value is of this generation; it publishes
        // nothing else.
        let word = self.words.deadline.load(Ordering::Relaxed);
        // 52 bits times a thousand fit.
        value(word, generation).map(|micros| micros * 1000)
    }

    /// How long a caller at `now` must wait for `deadline`. Longer than the whole wait means that
    /// the clock stepped back: then the wait begins anew, and no step keeps a breaker open for
    /// longer than that.
    #[inline]
    pub(super) fn remaining(&self, generation: u32, deadline: u64, now: u64) -> u64 {
        let remaining = deadline.saturating_sub(now);
        let whole = self.words.wait.load(Ordering::Relaxed);
        match value(whole, generation) {
            Some(whole) if remaining > whole * 1000 + 1000 => {
                self.begin_wait_anew(generation, deadline, now, whole * 1000)
            }
            _ => remaining,
        }
    }

    #[cold]
    fn begin_wait_anew(&self, generation: u32, deadline: u64, now: u64, whole: u64) -> u64 {
        let seen = tagged(generation, deadline / 1000);
        let next = tagged(generation, micros(now.saturating_add(whole)));
        let _ = exchange(&self.words.deadline, seen, next);
        whole
    }

    /// The deadline of `word`, set here if its writer has not come to it: one that stalls, or
    /// whose clock panics, must not leave the breaker open (or a probe out) for ever.
    pub(super) fn deadline_or_help(&self, word: Word, now: u64) -> u64 {
        if let Some(deadline) = self.deadline(word.generation) {
            return deadline;
        }
        let wait = match word.state {
            State::Closed => return u64::MAX,
            State::HalfOpen => nanos(self.config.load().lease()),
            // The wait that the writer will come to. If it does come, its own `raise` can only
            // lengthen this one.
            State::Open => self.open_for(word, now),
        };
        self.set_deadline(word.generation, now, wait);
        self.deadline(word.generation)
            .unwrap_or_else(|| now.saturating_add(wait))
    }

    /// The upstream asked a call of `generation` to stay away for so long.
    #[cold]
    pub(super) fn ask(&self, generation: u32, wait: Duration) {
        let until = self.clock.nanos().saturating_add(nanos(wait.min(LONGEST)));
        self.raise(&self.words.asked, generation, micros(until));
    }

    /// How long a breaker that opens to `word` stays open from `now`: not for less than any call of
    /// the generation before it was asked to.
    pub(super) fn open_for(&self, word: Word, now: u64) -> u64 {
        let asked = self.words.asked.load(Ordering::Acquire);
        let asked = value(asked, word.generation.wrapping_sub(1))
            .map(|until| Duration::from_nanos((until * 1000).saturating_sub(now)));
        let seed = self.seed ^ u64::from(word.generation);
        open_for(&self.config.load(), word.openings, seed, asked)
    }

    /// Raises a tagged word to `to`, while the state is of `generation`.
    fn raise(&self, at: &AtomicU64, generation: u32, to: u64) {
        let next = tagged(generation, to);
        loop {
            let seen = at.load(Ordering::Acquire);
            let raised = value(seen, generation).is_some_and(|value| value >= next & VALUE_MASK);
            if raised || !self.stands(generation) || exchange(at, seen, next) {
                return;
            }
        }
    }
}
