//! The shared part of a breaker: atomics around the pure transitions.

use std::{sync::Arc, time::Duration};

use crossbeam_utils::CachePadded;

use super::{
    classify::Outcome,
    config::{Config, OnCancel},
    error::{Reason, Rejected, ShortName},
    events::{Cause, Events, Transition},
    permit::Admitted,
    snapshot::Snapshot,
    state::{Admission, State, Word, open_for},
    stripes::{Counter, Striped},
    window::{Mark, Window},
};
use crate::{
    clock::{Clock, SharedClock},
    primitive::{AtomicU64, Ordering, fence},
};

/// Bits of the value in a generation-tagged word; the tag is the rest.
const VALUE_BITS: u32 = 52;
const VALUE_MASK: u64 = (1 << VALUE_BITS) - 1;
const TAG_MASK: u64 = u64::MAX >> VALUE_BITS;

/// Words that change only with the state, and the settings that every call needs: one line,
/// read by every call and seldom written.
#[derive(Debug)]
struct Words {
    state: AtomicU64,
    /// `[generation: 12 | microseconds: 52]`: reset deadline of an open generation, lease of a
    /// half-open one. 52 bits of microseconds last 142 years.
    deadline: AtomicU64,
    /// `[generation: 12 | place: 52]`: where the window of a closed generation begins.
    start: AtomicU64,
    minimum_calls: u64,
    /// Whether a permit remembers when it was given, see [`OnCancel::FailureAfter`].
    timed: bool,
}

#[derive(Debug)]
pub(super) struct Inner {
    words: CachePadded<Words>,
    window: CachePadded<Window>,
    counters: Striped,
    events: Arc<Events>,
    config: Config,
    clock: SharedClock,
    name: Arc<str>,
    short_name: ShortName,
    seed: u64,
}

/// What made the breaker open.
#[derive(Clone, Copy)]
struct Judged {
    cause: Cause,
    calls: u64,
    failures: u64,
    rate: Option<f64>,
}

impl Inner {
    pub(super) fn new(name: &str, config: Config, clock: SharedClock) -> Self {
        let kept = config
            .count_window()
            .max(config.consecutive_failures().unwrap_or(0));
        Self {
            words: CachePadded::new(Words {
                state: AtomicU64::new(Word::NEW.pack()),
                deadline: AtomicU64::new(0),
                start: AtomicU64::new(0),
                minimum_calls: config.minimum_calls().into(),
                timed: matches!(config.on_cancel(), OnCancel::FailureAfter(_)),
            }),
            window: CachePadded::new(Window::new(kept)),
            counters: Striped::default(),
            events: Arc::default(),
            config,
            clock,
            name: name.into(),
            short_name: ShortName::new(name),
            seed: fnv(name),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn events(&self) -> &Arc<Events> {
        &self.events
    }

    pub(super) fn state(&self) -> State {
        self.word().state
    }

    fn word(&self) -> Word {
        Word::unpack(self.packed())
    }

    #[inline]
    fn packed(&self) -> u64 {
        // ORDERING: Acquire, pairs with the Release of `change`: who sees a generation sees the
        // start of its window.
        self.words.state.load(Ordering::Acquire)
    }

    fn change(&self, from: Word, to: Word) -> bool {
        self.words
            .state
            .compare_exchange(from.pack(), to.pack(), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    // ---- admission

    #[inline]
    pub(super) fn admit(&self) -> Result<Admitted, Rejected> {
        match Word::closed_generation(self.packed()) {
            // Nothing here reads the clock, so that it is small enough to be inlined.
            Some(generation) if !self.words.timed => Ok(Admitted {
                generation,
                probe: false,
                at: None,
            }),
            _ => self.admit_slowly(),
        }
    }

    #[cold]
    #[inline(never)]
    fn admit_slowly(&self) -> Result<Admitted, Rejected> {
        let now = self.clock.now();
        loop {
            let word = self.word();
            let deadline = self.deadline_or_help(word, now);
            let (next, admission) = word.acquire(now, deadline, &self.config);
            match admission {
                Admission::Call => return Ok(self.admitted(word.generation, false, now)),
                Admission::Refused => {
                    self.counters.add(Counter::Rejected);
                    return Err(self.rejected(word, deadline, now));
                }
                Admission::Probe => {
                    let lease = now.saturating_add(self.config.lease());
                    // Before the exchange: once this probe is counted as out, its lease stands,
                    // and an older one cannot write it off.
                    if next.generation == word.generation {
                        self.raise(&self.words.deadline, word.generation, micros(lease));
                    }
                    if !self.change(word, next) {
                        continue;
                    }
                    self.raise(&self.words.deadline, next.generation, micros(lease));
                    if word.state == State::Open {
                        self.emit(word, next, Judged::new(Cause::ResetTimeout, 0, 0), None);
                    }
                    return Ok(self.admitted(next.generation, true, now));
                }
            }
        }
    }

    fn admitted(&self, generation: u32, probe: bool, now: Duration) -> Admitted {
        Admitted {
            generation,
            probe,
            at: self.words.timed.then_some(now),
        }
    }

    fn rejected(&self, word: Word, deadline: Duration, now: Duration) -> Rejected {
        Rejected {
            name: self.short_name,
            state: word.state,
            reason: match word.state {
                State::HalfOpen => Reason::ProbesSpent,
                _ => Reason::Open,
            },
            retry_after: deadline.saturating_sub(now),
        }
    }

    // ---- outcomes

    #[inline]
    pub(super) fn settle(&self, admitted: Admitted, outcome: Outcome) {
        match (outcome, admitted.probe) {
            (Outcome::Ignored, false) => {}
            (Outcome::Success, false) => self.call_succeeded(admitted.generation),
            (Outcome::Failure, false) => self.call_failed(admitted.generation, None),
            (Outcome::Overloaded { retry_after }, false) => {
                self.call_failed(admitted.generation, retry_after);
            }
            (outcome, true) => self.probe_ended(admitted, outcome),
        }
    }

    #[cold]
    pub(super) fn abandon(&self, admitted: Admitted) {
        let failed = std::thread::panicking()
            || match self.config.on_cancel() {
                OnCancel::Ignore => false,
                OnCancel::Failure => true,
                OnCancel::FailureAfter(long) => admitted
                    .at
                    .is_some_and(|at| self.clock.now().saturating_sub(at) >= long),
            };
        let outcome = if failed {
            Outcome::Failure
        } else {
            Outcome::Ignored
        };
        self.settle(admitted, outcome);
    }

    #[inline]
    fn call_succeeded(&self, generation: u32) {
        if let Some(place) = self.place(generation)
            && place + 1 - self.start().min(place) == self.words.minimum_calls
        {
            self.evaluate(generation, None, None);
        }
    }

    fn call_failed(&self, generation: u32, asked: Option<Duration>) {
        if let Some(place) = self.place(generation) {
            self.window.mark(place, Mark::Failure);
            self.evaluate(generation, Some(place), asked);
        }
    }

    /// Takes a place in the window of `generation`, or counts the outcome as stale.
    #[inline]
    fn place(&self, generation: u32) -> Option<u64> {
        if Word::generation_of(self.packed()) != generation {
            self.counters.add(Counter::Stale);
            return None;
        }
        let place = self.window.take();
        // The generation may have ended since the first look, and the place belong to the window
        // of a later one. `take` is a barrier against `begin_window`: if the generation still
        // stands here, no later window had begun when the place was taken.
        if Word::generation_of(self.packed()) != generation {
            self.leave_hole(place);
            return None;
        }
        Some(place)
    }

    #[cold]
    fn leave_hole(&self, place: u64) {
        self.window.mark(place, Mark::Hole);
        self.counters.add(Counter::Stale);
    }

    /// Opens if a threshold is crossed in `generation`.
    #[cold]
    fn evaluate(&self, generation: u32, failed: Option<u64>, asked: Option<Duration>) {
        // ORDERING: SeqCst fence. Each outcome is written before its evaluation reads the others,
        // so of two outcomes that cross the threshold together at least one sees both.
        fence();
        let word = self.word();
        if word.generation != generation {
            return;
        }
        let end = self.window.peek();
        if let Some(judged) = self.judge(failed, end) {
            let next = word.open();
            if self.change(word, next) {
                self.opened(word, next, judged, asked);
            }
        }
    }

    fn judge(&self, failed: Option<u64>, end: u64) -> Option<Judged> {
        let (calls, failures) = self.counted(end);
        let rate = self.rate(calls, failures);
        let judged = |cause| Judged {
            cause,
            calls,
            failures,
            rate,
        };
        if let (Some(enough), Some(place)) = (self.config.consecutive_failures(), failed)
            && self.window.run(place, self.start(), end, enough) >= enough
        {
            return Some(judged(Cause::ConsecutiveFailures));
        }
        let threshold = self.config.failure_rate()?;
        (rate? >= threshold).then(|| judged(Cause::FailureRate))
    }

    /// Calls and failures in the window that ends before `end`.
    fn counted(&self, end: u64) -> (u64, u64) {
        let first = self
            .window
            .first(self.start(), end, self.config.count_window());
        let count = self.window.count(first, end);
        let calls = end.saturating_sub(first).saturating_sub(count.holes);
        (calls, count.failures)
    }

    fn rate(&self, calls: u64, failures: u64) -> Option<f64> {
        (calls >= u64::from(self.config.minimum_calls())).then(|| failures as f64 / calls as f64)
    }

    fn probe_ended(&self, admitted: Admitted, outcome: Outcome) {
        loop {
            let word = self.word();
            if word.generation != admitted.generation {
                return self.counters.add(Counter::Stale);
            }
            let (next, asked) = match outcome {
                Outcome::Success => (word.probe_succeeded(&self.config), None),
                Outcome::Ignored => (word.probe_abandoned(), None),
                Outcome::Failure => (word.probe_failed(&self.config), None),
                Outcome::Overloaded { retry_after } => {
                    (word.probe_failed(&self.config), retry_after)
                }
            };
            if next.state == State::Closed {
                self.begin_window(next.generation);
            }
            if !self.change(word, next) {
                continue;
            }
            let failures = u64::from(word.failures());
            let calls = failures + u64::from(word.successes) + 1;
            return match next.state {
                State::HalfOpen => {}
                State::Open => {
                    let judged = Judged::new(Cause::ProbeFailed, calls, failures + 1);
                    self.opened(word, next, judged, asked);
                }
                State::Closed => {
                    let judged = Judged::new(Cause::ProbesSucceeded, calls, failures);
                    self.emit(word, next, judged, None);
                }
            };
        }
    }

    /// Sets where the window of closed generation `generation` begins, before anyone is admitted
    /// in it; the first to come for a generation decides.
    fn begin_window(&self, generation: u32) {
        let tag = u64::from(generation) & TAG_MASK;
        // ORDERING: Acquire and Release; `end` is the barrier, see `call_ended`.
        let seen = self.words.start.load(Ordering::Acquire);
        if newer(tag, seen >> VALUE_BITS) {
            let start = tag << VALUE_BITS | self.window.end() & VALUE_MASK;
            let _ =
                self.words
                    .start
                    .compare_exchange(seen, start, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    #[inline]
    fn start(&self) -> u64 {
        self.words.start.load(Ordering::Acquire) & VALUE_MASK
    }

    // ---- deadlines

    fn deadline(&self, generation: u32) -> Option<Duration> {
        // ORDERING: Relaxed. The tag says whether the value is of this generation; it publishes
        // nothing else.
        let word = self.words.deadline.load(Ordering::Relaxed);
        (word >> VALUE_BITS == u64::from(generation) & TAG_MASK)
            .then(|| Duration::from_micros(word & VALUE_MASK))
    }

    /// The deadline of `word`, set here if its writer has not come to it: one that stalls, or
    /// whose clock panics, must not leave the breaker open (or a probe out) for ever.
    fn deadline_or_help(&self, word: Word, now: Duration) -> Duration {
        if let Some(deadline) = self.deadline(word.generation) {
            return deadline;
        }
        let wait = match word.state {
            State::Closed => return Duration::MAX,
            State::HalfOpen => self.config.lease(),
            // The wait that the writer will come to, except for what an upstream asked of it. If
            // it does come, its own `raise` can only lengthen this one.
            State::Open => self.open_for(word, None),
        };
        let deadline = now.saturating_add(wait);
        self.raise(&self.words.deadline, word.generation, micros(deadline));
        self.deadline(word.generation).unwrap_or(deadline)
    }

    fn open_for(&self, word: Word, asked: Option<Duration>) -> Duration {
        let seed = self.seed ^ u64::from(word.generation);
        open_for(&self.config, word.openings, seed, asked)
    }

    /// Raises a tagged word to `value`, unless it is of a newer generation.
    fn raise(&self, at: &AtomicU64, generation: u32, value: u64) {
        let tag = u64::from(generation) & TAG_MASK;
        let next = tag << VALUE_BITS | value;
        let mut seen = at.load(Ordering::Relaxed);
        while newer(tag, seen >> VALUE_BITS)
            || (tag == seen >> VALUE_BITS && value > seen & VALUE_MASK)
        {
            match at.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    // ---- events

    fn opened(&self, from: Word, to: Word, judged: Judged, asked: Option<Duration>) {
        let wait = self.open_for(to, asked);
        let deadline = self.clock.now().saturating_add(wait);
        self.raise(&self.words.deadline, to.generation, micros(deadline));
        self.emit(from, to, judged, Some(wait));
    }

    fn emit(&self, from: Word, to: Word, judged: Judged, open_for: Option<Duration>) {
        self.events.emit(&Transition {
            breaker: Arc::clone(&self.name),
            from: from.state,
            to: to.state,
            generation: to.generation,
            cause: judged.cause,
            calls: judged.calls,
            failures: judged.failures,
            failure_rate: judged.rate,
            open_for,
        });
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let word = self.word();
        let end = self.window.peek();
        let (calls, failures, run) = match word.state {
            State::Closed => {
                let (calls, failures) = self.counted(end);
                let last = end.saturating_sub(1);
                let run = self.window.run(last, self.start(), end, u32::MAX);
                (calls, failures, run)
            }
            State::HalfOpen => {
                let failures = word.failures();
                (u64::from(failures + word.successes), u64::from(failures), 0)
            }
            State::Open => (0, 0, 0),
        };
        let rate = match word.state {
            State::Closed => self.rate(calls, failures),
            _ => None,
        };
        let waits = match word.state {
            State::Closed => false,
            State::HalfOpen => word.spent >= self.config.half_open_permits(),
            State::Open => true,
        };
        let retry_after = waits
            .then(|| self.deadline(word.generation))
            .flatten()
            .map(|deadline| deadline.saturating_sub(self.clock.now()));
        Snapshot {
            state: word.state,
            generation: word.generation,
            calls,
            failures,
            consecutive_failures: run,
            failure_rate: rate,
            permits_out: word.outstanding,
            openings: word.openings,
            rejected: self.counters.sum(Counter::Rejected),
            stale: self.counters.sum(Counter::Stale),
            retry_after,
        }
    }
}

impl Judged {
    fn new(cause: Cause, calls: u64, failures: u64) -> Self {
        Self {
            cause,
            calls,
            failures,
            rate: None,
        }
    }
}

/// Whether tag `a` comes after tag `b`; tags wrap.
fn newer(a: u64, b: u64) -> bool {
    let ahead = a.wrapping_sub(b) & TAG_MASK;
    ahead != 0 && ahead <= TAG_MASK >> 1
}

/// Whole microseconds, rounded up so that a deadline never comes early.
fn micros(time: Duration) -> u64 {
    let micros = time.as_nanos().div_ceil(1000);
    u64::try_from(micros).unwrap_or(u64::MAX).min(VALUE_MASK)
}

/// FNV-1a; the seed of the jitter.
fn fnv(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
