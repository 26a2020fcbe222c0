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
    /// A success that is the first of a segment, or comes while the time window is low.
    Watch,
}

impl Inner {
    /// Opens if a threshold is crossed in `generation`.
    #[cold]
    #[inline(never)]
    pub(super) fn evaluate(&self, generation: u32, trigger: Trigger) {
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
                return self.opened(word, next, judged);
            }
            // Another opened, or only the gear has changed.
        }
    }

    /// The first threshold that is crossed, in the order: in a row, count, failure rate, slow
    /// rate; the count window before the time window.
    fn judge(&self, config: &Config, word: Word, trigger: Trigger) -> Option<Judged> {
        match trigger {
            Trigger::Minimum => {
                let count = self.counted(config)?;
                let judged = by_rate(config, &[Some(count)]);
                if judged.is_none() {
                    self.aim_again(config, word, count);
                }
                judged
            }
            Trigger::Watch => self.watch(config, word),
            Trigger::Adverse { failed } => self.judge_adverse(config, word, failed),
        }
    }

    fn judge_adverse(&self, config: &Config, word: Word, failed: Option<u64>) -> Option<Judged> {
        let windows = [
            self.counted(config),
            self.timed(config, word.generation)
                .map(|(_, counts)| counts),
        ];
        let in_a_row = config.consecutive_failures().zip(failed);
        if let Some((enough, place)) = in_a_row {
            let end = self.places.peek();
            let run = self.places.marks().run(place, self.start(), end, enough);
            if run >= enough {
                let [count, time] = windows;
                let run = Counts {
                    calls: run.into(),
                    failures: run.into(),
                    slow: 0,
                };
                let counts = count.or(time).unwrap_or(run);
                return Some(judged(config, Cause::ConsecutiveFailures, counts));
            }
        }
        let enough = |counts: &&Counts| {
            config
                .failure_count()
                .is_some_and(|enough| counts.failures >= enough.into())
        };
        if let Some(counts) = windows.iter().flatten().find(enough) {
            return Some(judged(config, Cause::FailureCount, *counts));
        }
        by_rate(config, &windows).or_else(|| self.watch_from_now_on(config, word))
    }

    /// Holes among the first places: the window has fewer calls than places. The call that will
    /// make them minimum calls is so much later.
    fn aim_again(&self, config: &Config, word: Word, count: Counts) {
        let missing = u64::from(config.minimum_calls()).saturating_sub(count.calls);
        let seen = self.words.evaluate_at.load(Ordering::Acquire);
        if let Some(place) = value(seen, word.generation)
            && missing > 0
        {
            let next = tagged(word.generation, place + missing);
            let at = &self.words.evaluate_at;
            let _ = at.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// A success looks at the time window, and judges if it is the one that makes its calls
    /// minimum calls: they were fewer before, because the window was low or because this is the
    /// first look since older calls have left.
    ///
    /// A success counts itself and then looks at the watch, without a barrier between the two. So
    /// a success that races the adverse outcome that makes the window low may go unjudged; the
    /// next outcome of any kind judges.
    fn watch(&self, config: &Config, word: Word) -> Option<Judged> {
        let seen = self.words.watch.load(Ordering::Relaxed);
        let (number, counts) = self.timed(config, word.generation)?;
        let low = is_low(config, counts);
        // ORDERING: Relaxed. An adverse outcome that has made it low since the look wins.
        let _ = self.words.watch.compare_exchange(
            seen,
            number << 1 | u64::from(low),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        let was_low = seen & 1 == 1 && seen != u64::MAX;
        let reached = was_low || counts.calls == config.minimum_calls().into();
        by_rate(config, &[Some(counts)]).filter(|_| reached)
    }

    /// After an adverse outcome that did not open: successes look if the time window is low.
    fn watch_from_now_on(&self, config: &Config, state: Word) -> Option<Judged> {
        let (number, counts) = self.timed(config, state.generation)?;
        let low = is_low(config, counts);
        let word = number << 1 | u64::from(low);
        self.words.watch.store(word, Ordering::Relaxed);
        if !low {
            return None;
        }
        // ORDERING: SeqCst fence. A success that did not see the watch is counted below, one that
        // is not counted sees the watch (but for the race that `watch` names).
        fence();
        let (_, counts) = self.timed(config, state.generation)?;
        by_rate(config, &[Some(counts)])
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

    /// The segment that runs, and what the time window that ends with it holds.
    fn timed(&self, config: &Config, generation: u32) -> Option<(u64, Counts)> {
        config.time_window()?;
        let now = self.clock.nanos();
        let number = self.words.face.number(tag(generation), now, &self.clock)?;
        Some((number, self.time.count(number)))
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let word = self.word();
        let config = self.config.load();
        let closed = word.state == State::Closed;
        let count = self.counted(&config).filter(|_| closed);
        let time = self.timed(&config, word.generation);
        let time = time.map(|(_, counts)| counts).filter(|_| closed);
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

/// The first rate that reached its threshold.
fn by_rate(config: &Config, windows: &[Option<Counts>]) -> Option<Judged> {
    let reached = |part: u64, calls: u64, threshold: Option<f64>| {
        rate(config, calls, part)
            .zip(threshold)
            .is_some_and(|(rate, at)| rate >= at)
    };
    let mut windows = windows.iter().flatten();
    let failed = |c: &&Counts| reached(c.failures, c.calls, config.failure_rate());
    let slow = |c: &&Counts| reached(c.slow, c.calls, config.slow_call_rate());
    if let Some(counts) = windows.clone().find(failed) {
        return Some(judged(config, Cause::FailureRate, *counts));
    }
    let counts = windows.find(slow)?;
    Some(judged(config, Cause::SlowCallRate, *counts))
}

/// Something adverse is in the time window, and too few calls to judge it by a rate.
fn is_low(config: &Config, counts: Counts) -> bool {
    let by_rate = config.failure_rate().is_some() || config.slow_call_rate().is_some();
    by_rate && counts.calls < config.minimum_calls().into() && counts.failures + counts.slow > 0
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
