//! How calls end.

use std::time::Duration;

use super::{
    classify::Outcome,
    config::OnCancel,
    counters::Counter,
    events::Cause,
    inner::{Inner, Judged, feature},
    judge::Trigger,
    permit::{Admitted, flag},
    state::{State, Word},
    tagged::{VALUE_BITS, VALUE_MASK, tag},
    window::Mark,
};
use crate::primitive::Ordering;

impl Inner {
    // So small for a constant outcome that the call would cost as much as the work.
    #[inline(always)]
    pub(super) fn settle(&self, admitted: Admitted, outcome: Outcome) {
        // A closed word in plain gear is its generation, and so is the key of a call that took the
        // short path: one comparison says that nothing has changed since it was admitted.
        if outcome == Outcome::Success && self.packed() == admitted.key {
            self.plain_success(admitted.generation());
        } else {
            // As words, in registers; see `Admitted`.
            self.settle_words(admitted.key, admitted.at, admitted.shadow, outcome);
        }
    }

    #[inline(never)]
    fn settle_words(&self, key: u64, at: u64, shadow: u64, outcome: Outcome) {
        self.settle_full(Admitted { key, at, shadow }, outcome);
    }

    #[inline(always)]
    fn plain_success(&self, generation: u32) {
        let taken = self.places.take();
        // The generation may have ended since the look at the word. If the place is still of its
        // window, the outcome counts as if it had come at the look.
        if taken >> VALUE_BITS != tag(generation) {
            self.leave_hole(taken & VALUE_MASK);
        } else if taken == self.words.evaluate_at.load(Ordering::Relaxed) {
            self.evaluate(generation, Trigger::Minimum);
        }
    }

    #[cold]
    fn leave_hole(&self, place: u64) {
        self.places.mark(place, [Mark::Hole]);
        self.counters.add(Counter::Stale);
    }

    #[inline]
    fn settle_full(&self, admitted: Admitted, outcome: Outcome) {
        if admitted.has(flag::SHADOW) {
            self.shadow_ends(admitted, Some(outcome));
        }
        if outcome == Outcome::Ignored && !admitted.has(flag::PROBE) {
            return;
        }
        if admitted.has(flag::UNCOUNTED | flag::UNJUDGED) {
            return;
        }
        let features = self.features();
        let slow_now = features & feature::SLOW != 0 && admitted.has(flag::STAMPED);
        // The clock before the state: a time that was read later than the end of a generation
        // never gets into its window.
        let now = if slow_now || features & feature::TIME != 0 {
            self.clock.nanos()
        } else {
            0
        };
        let slow =
            slow_now && now.saturating_sub(admitted.at) > self.words.slow.load(Ordering::Relaxed);
        // Before the outcome itself: whoever opens by it finds what was asked.
        if let Outcome::Overloaded {
            retry_after: Some(wait),
        } = outcome
        {
            self.ask(admitted.generation(), wait);
        }
        if admitted.has(flag::PROBE) {
            return self.probe_ended(admitted.generation(), outcome, slow);
        }
        self.book(
            admitted.generation(),
            outcome != Outcome::Success,
            slow,
            now,
        );
    }

    /// Counts the outcome of a closed call in the windows, and judges them if it must.
    #[inline]
    fn book(&self, generation: u32, failed: bool, slow: bool, now: u64) {
        if Word::generation_of(self.packed()) != generation {
            return self.counters.add(Counter::Stale);
        }
        let features = self.features();
        let mut taken = None;
        if features & feature::PLACES != 0 {
            let place = self.places.take();
            if place >> VALUE_BITS != tag(generation) {
                return self.leave_hole(place & VALUE_MASK);
            }
            taken = Some(place);
        }
        let mut watched = false;
        if features & feature::TIME != 0 {
            let number = self.words.face.number(tag(generation), now, &self.clock);
            if let Some(number) = number {
                self.time.add(number, failed, slow);
                watched = self.words.watch.load(Ordering::Relaxed) != number << 1;
            }
        }
        if failed || slow {
            self.book_adverse(generation, taken, failed, slow);
        } else if taken.is_some_and(|t| t == self.words.evaluate_at.load(Ordering::Relaxed)) {
            self.evaluate(generation, Trigger::Minimum);
        } else if watched {
            self.evaluate(generation, Trigger::Watch);
        }
    }

    #[cold]
    fn book_adverse(&self, generation: u32, taken: Option<u64>, failed: bool, slow: bool) {
        let place = taken.map(|taken| taken & VALUE_MASK);
        if let Some(place) = place {
            let failure = failed.then_some(Mark::Failure);
            let slow = slow.then_some(Mark::Slow);
            self.places.mark(place, failure.into_iter().chain(slow));
        }
        let failed = place.filter(|_| failed);
        self.evaluate(generation, Trigger::Adverse { failed });
    }

    fn probe_ended(&self, generation: u32, outcome: Outcome, slow: bool) {
        let config = self.config.load();
        loop {
            let word = self.word();
            if word.generation != generation {
                return self.counters.add(Counter::Stale);
            }
            let next = match outcome {
                Outcome::Ignored => word.probe_abandoned(),
                Outcome::Success if !slow => word.probe_succeeded(&config),
                _ => word.probe_failed(&config),
            };
            if next.state == State::Closed {
                self.begin_window(word.generation, next.generation);
            }
            if !self.change(word, next) {
                continue;
            }
            let failures = u64::from(word.failures());
            let calls = failures + u64::from(word.successes) + 1;
            return match next.state {
                State::HalfOpen => {}
                State::Open => {
                    let mut judged = Judged::new(Cause::ProbeFailed, calls, failures + 1);
                    judged.counts.slow = slow.into();
                    self.opened(word, next, judged);
                }
                State::Closed => {
                    let judged = Judged::new(Cause::ProbesSucceeded, calls, failures);
                    self.emit(word, next, judged, None);
                }
            };
        }
    }

    /// A permit was dropped without an outcome.
    #[cold]
    pub(super) fn abandon(&self, mut admitted: Admitted) {
        if admitted.has(flag::SHADOW) {
            self.shadow_ends(admitted, None);
            admitted.key &= !flag::SHADOW;
        }
        let ran = || {
            let stamped = admitted.has(flag::STAMPED);
            stamped.then(|| self.clock.nanos().saturating_sub(admitted.at))
        };
        let failed = std::thread::panicking() || {
            let config = self.config.load();
            match config.on_cancel() {
                OnCancel::Ignore => false,
                OnCancel::Failure => true,
                OnCancel::FailureAfter(long) => {
                    ran().is_some_and(|ran| Duration::from_nanos(ran) >= long)
                }
                OnCancel::FailureWhenSlow => ran()
                    .zip(config.slow_call())
                    .is_some_and(|(ran, slow)| Duration::from_nanos(ran) > slow),
            }
        };
        let outcome = if failed {
            Outcome::Failure
        } else {
            Outcome::Ignored
        };
        self.settle_full(admitted, outcome);
    }
}
