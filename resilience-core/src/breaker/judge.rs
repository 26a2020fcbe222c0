//! When a closed breaker opens, and what its windows hold.

use std::time::Duration;

use super::{
    config::Config,
    events::Cause,
    inner::{Inner, Judged},
    snapshot::{Snapshot, WindowCounts},
    state::{Gear, State, Word},
    tagged::{tag, tagged, value},
    time::Counts,
};
use crate::primitive::{Ordering, fence};

/// Why the windows are judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trigger {
    /// A failure or a slow call. `failed` is the place of a failure.
    Adverse { failed: Option<u64> },
    /// A success that makes the calls of the count window minimum calls.
    Minimum,
    /// A success while the time window is watched.
    Watch,
}

impl Inner {
    /// Opens if a threshold is crossed in `generation`.
    #[cold]
    #[inline(never)]
    pub(super) fn evaluate(&self, generation: u32, trigger: Trigger, asked: Option<Duration>) {
        // ORDERING: SeqCst fence. Each outcome is written before its evaluation reads the others,
        // so of two outcomes that cross the threshold together at least one sees both.
        fence();
        loop {
            let word = self.word();
            let by_itself = !matches!(word.gear, Gear::ForcedClosed | Gear::Disabled);
            if word.generation != generation || word.state != State::Closed || !by_itself {
                return;
            }
            let config = self.config.load();
            let Some(judged) = self.judge(&config, word, trigger) else {
                return;
            };
            let next = word.open();
            if self.change(word, next) {
                return self.opened(word, next, judged, asked);
            }
            // Another opened, or only the gear has changed.
        }
    }

    /// The first threshold that is crossed, in the order: in a row, count, failure rate, slow
    /// rate; the count window before the time window.
    fn judge(&self, config: &Config, word: Word, trigger: Trigger) -> Option<Judged> {
        let count = match trigger {
            Trigger::Watch => None,
            _ => self.counted(config),
        };
        let time = match trigger {
            Trigger::Minimum => None,
            _ => self.timed(config, word.generation),
        };
        if let Trigger::Adverse {
            failed: Some(place),
        } = trigger
            && let Some(enough) = config.consecutive_failures()
        {
            let end = self.places.peek();
            let run = self.places.marks().run(place, self.start(), end, enough);
            if run >= enough {
                let counts = count.or(time).unwrap_or(Counts {
                    calls: run.into(),
                    failures: run.into(),
                    slow: 0,
                });
                return Some(judged(config, Cause::ConsecutiveFailures, counts));
            }
        }
        let windows = [count, time];
        let mut both = windows.iter().flatten();
        if let Some(enough) = config.failure_count()
            && matches!(trigger, Trigger::Adverse { .. })
            && let Some(counts) = both.find(|counts| counts.failures >= enough.into())
        {
            return Some(judged(config, Cause::FailureCount, *counts));
        }
        for (cause, threshold) in [
            (Cause::FailureRate, config.failure_rate()),
            (Cause::SlowCallRate, config.slow_call_rate()),
        ] {
            let rate = |counts: &&Counts| match cause {
                Cause::FailureRate => rate(config, counts.calls, counts.failures),
                _ => rate(config, counts.calls, counts.slow),
            };
            if let Some(threshold) = threshold
                && let Some(counts) = windows
                    .iter()
                    .flatten()
                    .find(|counts| rate(counts).is_some_and(|rate| rate >= threshold))
            {
                return Some(judged(config, cause, *counts));
            }
        }
        match trigger {
            Trigger::Minimum => self.aim_again(config, word, count),
            _ => self.watch(config, word, time),
        }
    }

    /// Holes among the first places: the window has fewer calls than places. The call that will
    /// make them minimum calls is so much later.
    fn aim_again(&self, config: &Config, word: Word, count: Option<Counts>) -> Option<Judged> {
        let missing = u64::from(config.minimum_calls()).saturating_sub(count?.calls);
        if missing > 0 {
            let seen = self.words.evaluate_at.load(Ordering::Acquire);
            if let Some(place) = value(seen, word.generation) {
                let next = tagged(word.generation, place + missing);
                let _ = self.words.evaluate_at.compare_exchange(
                    seen,
                    next,
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                );
            }
        }
        None
    }

    /// Has the successes judge the time window until it holds minimum calls, or nothing adverse.
    ///
    /// A success counts itself and then looks at the watch, without a barrier between the two. So
    /// a success that races the failure that begins the watch may go unjudged; the next outcome
    /// of any kind judges.
    fn watch(&self, config: &Config, word: Word, time: Option<Counts>) -> Option<Judged> {
        let few = |counts: Counts| {
            counts.calls < config.minimum_calls().into() && counts.failures + counts.slow > 0
        };
        let on = u64::from(word.generation) + 1;
        let watching = self.words.watch.load(Ordering::Relaxed) == on;
        let wanted = few(time?);
        if watching == wanted {
            return None;
        }
        // ORDERING: Relaxed between fences: what was counted before the watch was seen is summed
        // below, and what is counted after it sees the watch.
        self.words
            .watch
            .store(if wanted { on } else { 0 }, Ordering::Relaxed);
        fence();
        let counts = self.timed(config, word.generation)?;
        if !wanted && few(counts) {
            self.words.watch.store(on, Ordering::Relaxed);
        }
        let rate = |part| rate(config, counts.calls, part);
        let reached = |rate: Option<f64>, threshold: Option<f64>| {
            rate.zip(threshold).is_some_and(|(rate, at)| rate >= at)
        };
        if !wanted {
            None
        } else if reached(rate(counts.failures), config.failure_rate()) {
            Some(judged(config, Cause::FailureRate, counts))
        } else if reached(rate(counts.slow), config.slow_call_rate()) {
            Some(judged(config, Cause::SlowCallRate, counts))
        } else {
            None
        }
    }

    /// What the count window holds.
    fn counted(&self, config: &Config) -> Option<Counts> {
        let window = config.count_window()?;
        let marks = self.places.marks();
        let end = self.places.peek();
        let first = marks.first(self.start(), end, window);
        let count = marks.count(first, end);
        Some(Counts {
            calls: end.saturating_sub(first).saturating_sub(count.holes),
            failures: count.failures,
            slow: count.slow,
        })
    }

    /// What the time window holds.
    fn timed(&self, config: &Config, generation: u32) -> Option<Counts> {
        config.time_window()?;
        let now = self.clock.nanos();
        let number = self.words.face.number(tag(generation), now, &self.clock)?;
        Some(self.time.count(number))
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let word = self.word();
        let config = self.config.load();
        let closed = word.state == State::Closed;
        let count = self.counted(&config).filter(|_| closed);
        let time = self.timed(&config, word.generation).filter(|_| closed);
        let shown = |counts: Counts| WindowCounts {
            calls: counts.calls,
            failures: counts.failures,
            slow_calls: counts.slow,
            failure_rate: rate(&config, counts.calls, counts.failures),
            slow_call_rate: config
                .slow_call()
                .and_then(|_| rate(&config, counts.calls, counts.slow)),
        };
        let (count, time) = (count.map(shown), time.map(shown));
        let mut window = count.or(time).unwrap_or_default();
        if word.state == State::HalfOpen {
            window.failures = word.failures().into();
            window.calls = window.failures + u64::from(word.successes);
        }
        let in_a_row = config.count_window().is_some() || config.consecutive_failures().is_some();
        let run = if closed && in_a_row {
            let end = self.places.peek();
            let last = end.saturating_sub(1);
            self.places.marks().run(last, self.start(), end, u32::MAX)
        } else {
            0
        };
        let counters = &self.counters;
        Snapshot {
            state: word.state,
            mode: word.gear.mode(),
            generation: word.generation,
            calls: window.calls,
            failures: window.failures,
            slow_calls: window.slow_calls,
            consecutive_failures: run,
            failure_rate: window.failure_rate,
            slow_call_rate: window.slow_call_rate,
            count_window: count,
            time_window: time,
            permits_out: word.outstanding,
            openings: word.openings,
            opened_by: counters.opened_by(),
            rejected: counters.sum(super::counters::Counter::Rejected),
            would_have_refused: counters.sum(super::counters::Counter::WouldHaveRefused),
            stale: counters.sum(super::counters::Counter::Stale),
            lost_events: self.events.lost(),
            retry_after: self.retry_after(&config, word),
        }
    }

    fn retry_after(&self, config: &Config, word: Word) -> Option<Duration> {
        let waits = match word.state {
            State::Closed => false,
            State::HalfOpen => word.spent >= config.half_open_permits(),
            State::Open if word.gear == Gear::ForcedOpen => return Some(config.reset_timeout()),
            State::Open => true,
        };
        let deadline = waits.then(|| self.deadline(word.generation)).flatten()?;
        let now = self.clock.nanos();
        let remaining = self.remaining(word.generation, deadline, now);
        Some(Duration::from_nanos(remaining))
    }
}

fn rate(config: &Config, calls: u64, part: u64) -> Option<f64> {
    (calls >= u64::from(config.minimum_calls())).then(|| part as f64 / calls as f64)
}

fn judged(config: &Config, cause: Cause, counts: Counts) -> Judged {
    Judged {
        cause,
        counts,
        failure_rate: rate(config, counts.calls, counts.failures),
        slow_call_rate: config
            .slow_call()
            .and_then(|_| rate(config, counts.calls, counts.slow)),
    }
}
