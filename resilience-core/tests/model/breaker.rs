//! A breaker in plain code: lists instead of rings, fields instead of words, one thread.
//!
//! Follows the rules that the documentation of `breaker` states. Included by the fuzz target that
//! compares a breaker with it. All times are nanoseconds of the breaker's clock.

use std::{collections::VecDeque, time::Duration};

use resilience_core::breaker::{
    Cause, Config, Mode, OnCancel, OpenedBy, Outcome, Reason, Snapshot, State, WindowCounts,
};

const SEGMENTS: u64 = 10;
const MOST_OPENINGS: u32 = 63;

/// The right to one call.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    era: u32,
    kind: Kind,
    /// When it was given, if a setting needed that then.
    at: Option<u64>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Call,
    Probe,
    /// Admitted while disabled.
    Uncounted,
    /// Admitted while observing, for it would have been refused.
    Unjudged,
}

impl Ticket {
    pub fn is_probe(&self) -> bool {
        self.kind == Kind::Probe
    }

    pub fn is_unjudged(&self) -> bool {
        self.kind == Kind::Unjudged
    }

    /// When it was given, if somebody else remembers.
    pub fn stamped(&mut self, at: Option<u64>) {
        self.at = self.at.or(at);
    }

    pub fn at(&self) -> Option<u64> {
        self.at
    }
}

/// A change that subscribers are told.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub from: State,
    pub to: State,
    pub mode: Mode,
    pub generation: u32,
    pub cause: Cause,
    pub counts: Counts,
    pub open_for: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    pub calls: u64,
    pub failures: u64,
    pub slow: u64,
}

#[derive(Clone, Copy, Debug)]
struct Ended {
    failed: bool,
    slow: bool,
    segment: u64,
}

#[derive(Clone, Debug)]
pub struct Breaker {
    config: Config,
    mode: Mode,
    state: State,
    era: u32,
    openings: u32,
    /// Half-open: given out, not ended, succeeded.
    spent: u32,
    out: u32,
    good: u32,
    /// When the wait of this era ends, and how long it was.
    deadline: u64,
    wait: u64,
    /// Until when the upstream asked to be left alone in this era.
    asked_until: u64,
    /// The era whose outcomes the windows hold.
    window_era: u32,
    places: VecDeque<Ended>,
    timed: Vec<Ended>,
    /// The segment of time that runs, and by how much the clock stepped back.
    segment: u64,
    skew: u64,
    rejected: u64,
    would_have_refused: u64,
    stale: u64,
    opened_by: OpenedBy,
    changes: Vec<Change>,
}

impl Breaker {
    pub fn new(config: Config, now: u64) -> Self {
        Self::with(config, Mode::Automatic, 0, now)
    }

    /// One that runs beside another and refuses nothing.
    pub fn shadow(config: Config, era: u32, now: u64) -> Self {
        Self::with(config, Mode::ObserveOnly, era, now)
    }

    fn with(config: Config, mode: Mode, era: u32, now: u64) -> Self {
        let mut breaker = Self {
            config,
            mode,
            state: State::Closed,
            era,
            openings: 0,
            spent: 0,
            out: 0,
            good: 0,
            deadline: 0,
            wait: 0,
            asked_until: 0,
            window_era: era,
            places: VecDeque::new(),
            timed: Vec::new(),
            segment: 0,
            skew: 0,
            rejected: 0,
            would_have_refused: 0,
            stale: 0,
            opened_by: OpenedBy::default(),
            changes: Vec::new(),
        };
        breaker.segment = now / breaker.segment_length();
        breaker
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn generation(&self) -> u32 {
        self.era
    }

    /// Takes the changes since the last look.
    pub fn changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    // ---- admission

    /// Admits a call or refuses it with reason and wait.
    pub fn acquire(&mut self, now: u64) -> Result<Ticket, (Reason, u64)> {
        if self.mode == Mode::Disabled {
            return Ok(self.ticket(Kind::Uncounted, now));
        }
        if self.mode == Mode::ForcedOpen {
            self.rejected += 1;
            return Err((Reason::ForcedOpen, nanos(self.config.reset_timeout())));
        }
        match self.state {
            State::Closed => Ok(self.ticket(Kind::Call, now)),
            State::Open if now < self.deadline => self.refuse(Reason::Open, now),
            State::Open => {
                self.enter(State::HalfOpen);
                (self.spent, self.out, self.good) = (0, 0, 0);
                Ok(self.probe(Some(Cause::ResetTimeout), State::Open, now))
            }
            State::HalfOpen if self.spent < self.config.half_open_permits() => {
                Ok(self.probe(None, State::HalfOpen, now))
            }
            State::HalfOpen if now >= self.deadline => {
                // Those that are out are lost. If none is out, a change of settings has left the
                // period without a way to end, and it begins anew.
                (self.spent, self.good) = match self.out {
                    0 => (0, 0),
                    out => (self.spent.saturating_sub(out), self.good),
                };
                self.out = 0;
                self.enter(State::HalfOpen);
                Ok(self.probe(Some(Cause::LeaseExpired), State::HalfOpen, now))
            }
            State::HalfOpen => self.refuse(Reason::ProbesSpent, now),
            _ => unreachable!("there are three states"),
        }
    }

    fn probe(&mut self, cause: Option<Cause>, from: State, now: u64) -> Ticket {
        self.spent += 1;
        self.out += 1;
        let lease = nanos(self.config.lease());
        self.wait_for(lease, now);
        self.begin_window();
        if let Some(cause) = cause {
            self.tell(from, cause, Counts::default(), None);
        }
        self.ticket(Kind::Probe, now)
    }

    fn refuse(&mut self, reason: Reason, now: u64) -> Result<Ticket, (Reason, u64)> {
        let wait = self.remaining(now);
        if self.mode == Mode::ObserveOnly {
            self.would_have_refused += 1;
            return Ok(self.ticket(Kind::Unjudged, now));
        }
        self.rejected += 1;
        Err((reason, wait))
    }

    /// Whether a call would be refused; takes nothing.
    pub fn would_refuse(&self, now: u64) -> bool {
        let waits = match self.state {
            State::Closed => false,
            State::HalfOpen => self.spent >= self.config.half_open_permits(),
            _ => true,
        };
        waits && now < self.deadline
    }

    fn ticket(&self, kind: Kind, now: u64) -> Ticket {
        Ticket {
            era: self.era,
            kind,
            at: self.needs_times().then_some(now),
        }
    }

    fn needs_times(&self) -> bool {
        let timed_cancel = matches!(
            self.config.on_cancel(),
            OnCancel::FailureAfter(_) | OnCancel::FailureWhenSlow
        );
        timed_cancel || self.config.slow_call().is_some()
    }

    // ---- outcomes

    /// The call ended.
    pub fn end(&mut self, ticket: Ticket, outcome: Outcome, now: u64) {
        let ran = ticket.at.map(|at| now.saturating_sub(at));
        let slow = match (self.config.slow_call(), ran) {
            (Some(longest), Some(ran)) => ran > nanos(longest),
            _ => false,
        };
        let (failed, asked) = match outcome {
            Outcome::Success => (false, None),
            Outcome::Overloaded { retry_after } => (true, retry_after),
            _ => (true, None),
        };
        let counted = matches!(ticket.kind, Kind::Call | Kind::Probe);
        if counted
            && ticket.era == self.era
            && let Some(asked) = asked
        {
            let day = Duration::from_secs(86_400);
            let until = micros(now.saturating_add(nanos(asked.min(day))));
            self.asked_until = self.asked_until.max(until);
        }
        match ticket.kind {
            Kind::Uncounted | Kind::Unjudged => {}
            Kind::Call if outcome == Outcome::Ignored => {}
            _ if ticket.era != self.era => self.stale += 1,
            Kind::Call => self.book(failed, slow, now),
            Kind::Probe if outcome == Outcome::Ignored => {
                self.out -= 1;
                self.spent -= 1;
            }
            Kind::Probe => self.probe_ended(failed, slow, now),
        }
    }

    /// The permit was dropped.
    pub fn cancel(&mut self, ticket: Ticket, now: u64) {
        // Without a start time it is no failure by its time.
        let ran = ticket.at.map(|at| now.saturating_sub(at));
        let failed = match self.config.on_cancel() {
            OnCancel::Failure => true,
            OnCancel::FailureAfter(long) => ran.is_some_and(|ran| ran >= nanos(long)),
            OnCancel::FailureWhenSlow => ran
                .zip(self.config.slow_call())
                .is_some_and(|(ran, slow)| ran > nanos(slow)),
            _ => false,
        };
        let outcome = if failed {
            Outcome::Failure
        } else {
            Outcome::Ignored
        };
        self.end(ticket, outcome, now);
    }

    /// As [`cancel`](Self::cancel), of a generation that is over.
    pub fn stale_cancel(&mut self, ticket: Ticket, now: u64) {
        let before = self.era;
        self.cancel(
            Ticket {
                era: before.wrapping_sub(1),
                ..ticket
            },
            now,
        );
    }

    /// An outcome of a generation that is over.
    pub fn stale(&mut self, ticket: Ticket, outcome: Outcome) {
        let counts = matches!(ticket.kind, Kind::Call | Kind::Probe);
        if counts && (outcome != Outcome::Ignored || ticket.is_probe()) {
            self.stale += 1;
        }
    }

    fn probe_ended(&mut self, failed: bool, slow: bool, now: u64) {
        self.out -= 1;
        let ended = self.spent - self.out;
        if !failed && !slow {
            self.good += 1;
            if self.good >= self.config.success_threshold() {
                let failures = (ended - self.good).into();
                self.enter(State::Closed);
                self.openings = 0;
                (self.spent, self.out, self.good) = (0, 0, 0);
                self.begin_window();
                let counts = Counts {
                    calls: ended.into(),
                    failures,
                    slow: 0,
                };
                self.tell(State::HalfOpen, Cause::ProbesSucceeded, counts, None);
            }
        } else if ended - self.good > self.config.probe_failures() {
            let counts = Counts {
                calls: ended.into(),
                failures: (ended - self.good).into(),
                slow: slow.into(),
            };
            self.open(Cause::ProbeFailed, counts, now);
        }
    }

    fn book(&mut self, failed: bool, slow: bool, now: u64) {
        let few = self.few(now);
        let places = self.takes_places();
        let segment = self.segment_of(now).unwrap_or_default();
        let ended = Ended {
            failed,
            slow,
            segment,
        };
        if places {
            self.places.push_back(ended);
            self.forget();
        }
        if self.config.time_window().is_some() {
            self.timed.push(ended);
        }
        // A plain success is judged only by the windows whose minimum calls it completes.
        let now_enough = self.few(now).map(|few| !few);
        let judged = [0, 1].map(|which| failed || slow || few[which] && now_enough[which]);
        if self.mode != Mode::ForcedClosed
            && let Some((cause, counts)) = self.judge(judged, failed && places, failed || slow, now)
        {
            self.open(cause, counts, now);
        }
    }

    /// Whether count and time window have fewer than minimum calls.
    fn few(&mut self, now: u64) -> [bool; 2] {
        let minimum = self.config.minimum_calls().into();
        self.windows(now)
            .map(|counts| counts.is_some_and(|counts| counts.calls < minimum))
    }

    fn judge(
        &mut self,
        judged: [bool; 2],
        in_a_row: bool,
        adverse: bool,
        now: u64,
    ) -> Option<(Cause, Counts)> {
        let all = self.windows(now);
        let windows: Vec<Counts> = (0..2)
            .filter(|which| judged[*which])
            .filter_map(|which| all[which])
            .collect();
        let run = self.run();
        if let Some(enough) = self.config.consecutive_failures().filter(|_| in_a_row)
            && run >= enough
        {
            let alone = Counts {
                calls: enough.into(),
                failures: enough.into(),
                slow: 0,
            };
            return Some((
                Cause::ConsecutiveFailures,
                windows.first().copied().unwrap_or(alone),
            ));
        }
        if let Some(enough) = self.config.failure_count().filter(|_| adverse)
            && let Some(counts) = windows.iter().find(|c| c.failures >= enough.into())
        {
            return Some((Cause::FailureCount, *counts));
        }
        let reached = |part: u64, counts: &Counts, threshold: Option<f64>| {
            let rate = rate(&self.config, counts.calls, part);
            rate.zip(threshold).is_some_and(|(rate, at)| rate >= at)
        };
        if let Some(counts) = windows
            .iter()
            .find(|counts| reached(counts.failures, counts, self.config.failure_rate()))
        {
            return Some((Cause::FailureRate, *counts));
        }
        windows
            .iter()
            .find(|counts| reached(counts.slow, counts, self.config.slow_call_rate()))
            .map(|counts| (Cause::SlowCallRate, *counts))
    }

    // ---- windows

    fn takes_places(&self) -> bool {
        self.config.count_window().is_some()
            || self.config.consecutive_failures().is_some()
            || self.config.time_window().is_none()
    }

    fn remembered(&self) -> usize {
        // One even without a window: what is switched on later may hold the last call.
        let calls = self.config.count_window().unwrap_or(1);
        calls.max(self.config.consecutive_failures().unwrap_or(1)) as usize
    }

    fn forget(&mut self) {
        while self.places.len() > self.remembered() {
            self.places.pop_front();
        }
    }

    /// Failures at the end, without a success after them.
    fn run(&self) -> u32 {
        self.places.iter().rev().take_while(|e| e.failed).count() as u32
    }

    /// What count and time window hold.
    fn windows(&mut self, now: u64) -> [Option<Counts>; 2] {
        let count = self.config.count_window().map(|size| {
            let skipped = self.places.len().saturating_sub(size as usize);
            sum(self.places.iter().skip(skipped))
        });
        let time = self.config.time_window().and_then(|_| {
            let last = self.segment_of(now)?;
            Some(sum(self
                .timed
                .iter()
                .filter(|ended| ended.segment + SEGMENTS > last)))
        });
        [count, time]
    }

    fn segment_length(&self) -> u64 {
        let window = self.config.time_window();
        nanos(window.unwrap_or(Duration::from_secs(10))).div_ceil(SEGMENTS)
    }

    /// The segment that runs; `None` while there is no window. A clock that steps back goes on from
    /// the beginning of the segment that was reached.
    fn segment_of(&mut self, now: u64) -> Option<u64> {
        if self.window_era != self.era {
            return None;
        }
        let length = self.segment_length();
        let shifted = now.saturating_add(self.skew);
        if shifted / length < self.segment {
            self.skew += self.segment * length - shifted;
        } else {
            self.segment = shifted / length;
        }
        Some(self.segment)
    }

    fn begin_window(&mut self) {
        if self.window_era != self.era {
            self.window_era = self.era;
            self.places.clear();
            self.timed.clear();
        }
    }

    // ---- changes of state

    fn enter(&mut self, state: State) {
        self.state = state;
        self.era += 1;
        (self.deadline, self.wait, self.asked_until) = (0, 0, 0);
    }

    fn open(&mut self, cause: Cause, counts: Counts, now: u64) {
        let from = self.state;
        let asked = self.asked_until.saturating_sub(now);
        self.enter(State::Open);
        (self.spent, self.out, self.good) = (0, 0, 0);
        self.openings = (self.openings + 1).min(MOST_OPENINGS);
        let by = &mut self.opened_by;
        match cause {
            Cause::ConsecutiveFailures => by.consecutive_failures += 1,
            Cause::FailureCount => by.failure_count += 1,
            Cause::FailureRate => by.failure_rate += 1,
            Cause::SlowCallRate => by.slow_call_rate += 1,
            _ => by.probe_failed += 1,
        }
        let doubled =
            nanos(self.config.reset_timeout()).saturating_mul(1 << (self.openings - 1).min(31));
        let day = Duration::from_secs(86_400);
        let wait = doubled
            .min(nanos(self.config.max_reset_timeout()))
            .max(asked.min(nanos(day)));
        self.wait_for(wait, now);
        self.tell(from, cause, counts, Some(wait));
    }

    /// The wait of this era ends so long after now, or later if it is to end later. Whole
    /// microseconds, rounded up.
    fn wait_for(&mut self, wait: u64, now: u64) {
        self.wait = self.wait.max(micros(wait));
        self.deadline = self.deadline.max(micros(now.saturating_add(wait)));
    }

    /// The rest of the wait. If it is longer than the whole wait the clock has stepped back, and
    /// the wait begins anew.
    fn remaining(&mut self, now: u64) -> u64 {
        let rest = self.deadline.saturating_sub(now);
        if rest <= self.wait + 1000 {
            return rest;
        }
        self.deadline = micros(now.saturating_add(self.wait));
        self.wait
    }

    fn tell(&mut self, from: State, cause: Cause, counts: Counts, open_for: Option<u64>) {
        self.changes.push(Change {
            from,
            to: self.state,
            mode: self.mode,
            generation: self.era,
            cause,
            counts,
            open_for,
        });
    }

    // ---- by hand

    pub fn set_mode(&mut self, mode: Mode) {
        if mode == self.mode {
            return;
        }
        let to = match (self.mode, mode) {
            (_, Mode::ForcedOpen) => State::Open,
            (Mode::ForcedOpen, Mode::Automatic) => State::HalfOpen,
            _ => State::Closed,
        };
        self.mode = mode;
        self.by_hand(to);
    }

    pub fn reset(&mut self) {
        self.mode = Mode::Automatic;
        self.by_hand(State::Closed);
    }

    fn by_hand(&mut self, to: State) {
        let from = self.state;
        self.enter(to);
        (self.spent, self.out, self.good) = (0, 0, 0);
        match to {
            State::Closed => {
                self.openings = 0;
                self.begin_window();
            }
            State::Open => self.opened_by.by_hand += 1,
            _ => {}
        }
        self.tell(from, Cause::ByHand, Counts::default(), None);
    }

    pub fn set_config(&mut self, config: Config, now: u64) {
        let new_time = config.time_window() != self.config.time_window();
        self.config = config;
        self.forget();
        if self.config.slow_call().is_none() {
            self.places.iter_mut().for_each(|ended| ended.slow = false);
        }
        if new_time {
            self.timed.clear();
            (self.segment, self.skew) = (now / self.segment_length(), 0);
        }
    }

    // ---- figures

    /// Whether the breaker shows what it should.
    pub fn check(&mut self, seen: &Snapshot, now: u64) {
        let closed = self.state == State::Closed;
        let windows = self.windows(now).map(|counts| counts.filter(|_| closed));
        let shown =
            windows.map(|counts| counts.map(|counts| (counts.calls, counts.failures, counts.slow)));
        let told = |counts: Option<WindowCounts>| {
            counts.map(|counts| (counts.calls, counts.failures, counts.slow_calls))
        };
        assert_eq!(seen.state, self.state);
        assert_eq!(seen.mode, self.mode);
        assert_eq!(seen.generation, self.era);
        assert_eq!(told(seen.count_window), shown[0], "count window");
        assert_eq!(told(seen.time_window), shown[1], "time window");
        let ended = self.spent - self.out;
        let first = match self.state {
            State::Closed => windows[0].or(windows[1]).unwrap_or_default(),
            State::HalfOpen => Counts {
                calls: ended.into(),
                failures: (ended - self.good).into(),
                slow: 0,
            },
            _ => Counts::default(),
        };
        assert_eq!(
            (seen.calls, seen.failures, seen.slow_calls),
            (first.calls, first.failures, first.slow)
        );
        let right = |part| {
            let rate = rate(&self.config, first.calls, part);
            rate.filter(|_| windows[0].or(windows[1]).is_some())
        };
        assert_eq!(seen.failure_rate, right(first.failures));
        let slow_on = self.config.slow_call().is_some();
        assert_eq!(seen.slow_call_rate, right(first.slow).filter(|_| slow_on));
        let run = if closed { self.run() } else { 0 };
        if self
            .config
            .count_window()
            .or(self.config.consecutive_failures())
            .is_some()
        {
            assert_eq!(seen.consecutive_failures, run, "in a row");
        }
        assert_eq!(seen.permits_out, self.out);
        assert_eq!(seen.openings, self.openings);
        assert_eq!(seen.opened_by, self.opened_by);
        assert_eq!(seen.rejected, self.rejected, "rejected");
        assert_eq!(seen.would_have_refused, self.would_have_refused);
        assert_eq!(seen.stale, self.stale, "stale");
        let retry_after = match self.state {
            _ if self.mode == Mode::ForcedOpen => Some(nanos(self.config.reset_timeout())),
            State::Open => Some(self.remaining(now)),
            State::HalfOpen if self.spent >= self.config.half_open_permits() => {
                Some(self.remaining(now))
            }
            _ => None,
        };
        assert_eq!(seen.retry_after.map(nanos), retry_after, "retry after");
    }
}

fn rate(config: &Config, calls: u64, part: u64) -> Option<f64> {
    (calls >= config.minimum_calls().into()).then(|| part as f64 / calls as f64)
}

fn sum<'a>(ended: impl Iterator<Item = &'a Ended>) -> Counts {
    ended.fold(Counts::default(), |sum, ended| Counts {
        calls: sum.calls + 1,
        failures: sum.failures + u64::from(ended.failed),
        slow: sum.slow + u64::from(ended.slow),
    })
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Whole microseconds, rounded up; at most 142 years.
fn micros(nanos: u64) -> u64 {
    nanos.div_ceil(1000).min((1 << 52) - 1) * 1000
}
