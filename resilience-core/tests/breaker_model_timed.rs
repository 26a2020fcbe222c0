//! Time window, slow calls, modes, cancelled calls and changes of settings: for any history the
//! breaker equals the plainest code that could be right.

use std::time::Duration;

use proptest::prelude::*;
use resilience_core::{breaker::*, clock::ManualClock};

const SEGMENT: u64 = 10;
const MINIMUM: u64 = 4;
const PERMITS: u32 = 2;
const RESET: u64 = 50;

#[derive(Clone, Debug)]
enum Step {
    Acquire,
    End(usize, bool),
    Drop(usize),
    Wait(u64),
    Mode(Mode),
    Reset,
    SlowCall(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let modes = prop_oneof![
        3 => Just(Mode::Automatic),
        1 => Just(Mode::ForcedOpen),
        1 => Just(Mode::ForcedClosed),
        1 => Just(Mode::Disabled),
        2 => Just(Mode::ObserveOnly),
    ];
    prop_oneof![
        30 => Just(Step::Acquire),
        30 => (0..6_usize, any::<bool>()).prop_map(|(i, ok)| Step::End(i, ok)),
        5 => (0..6_usize).prop_map(Step::Drop),
        20 => (0..60_u64).prop_map(Step::Wait),
        2 => modes.prop_map(Step::Mode),
        1 => Just(Step::Reset),
        2 => prop_oneof![Just(20_u64), Just(40)].prop_map(Step::SlowCall),
    ]
}

fn config(slow: u64) -> Config {
    Config::builder()
        .count_window(None)
        .time_window(Duration::from_millis(SEGMENT * 10))
        .minimum_calls(MINIMUM as u32)
        .slow_call(Duration::from_millis(slow))
        .on_cancel(OnCancel::FailureWhenSlow)
        .half_open_permits(PERMITS)
        .reset_timeout(Duration::from_millis(RESET))
        .max_reset_timeout(Duration::from_millis(RESET * 4))
        .build()
        .unwrap()
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Call,
    Probe,
    Uncounted,
    Unjudged,
}

#[derive(Clone, Copy, Debug)]
struct Ticket {
    kind: Kind,
    era: u32,
    at: u64,
}

struct Model {
    mode: Mode,
    state: State,
    era: u32,
    /// Segment, failed, slow.
    window: Vec<(u64, bool, bool)>,
    slow: u64,
    until: u64,
    openings: u32,
    spent: u32,
    out: u32,
    stale: u64,
    rejected: u64,
    would_have_refused: u64,
    causes: Vec<Cause>,
}

impl Model {
    fn enter(&mut self, state: State, cause: Cause) {
        self.era += 1;
        self.state = state;
        self.causes.push(cause);
        (self.spent, self.out) = (0, 0);
        if state == State::Closed {
            self.openings = 0;
            self.window.clear();
        }
    }

    fn open(&mut self, cause: Cause, now: u64) {
        self.enter(State::Open, cause);
        self.until = now + (RESET << self.openings).min(RESET * 4);
        self.openings += 1;
    }

    fn acquire(&mut self, now: u64) -> Option<Ticket> {
        let kind = match self.mode {
            Mode::Disabled => Kind::Uncounted,
            Mode::ForcedOpen => {
                self.rejected += 1;
                return None;
            }
            _ => self.kind(now),
        };
        if kind == Kind::Unjudged {
            if self.mode != Mode::ObserveOnly {
                self.rejected += 1;
                return None;
            }
            self.would_have_refused += 1;
        }
        Some(Ticket {
            kind,
            era: self.era,
            at: now,
        })
    }

    fn kind(&mut self, now: u64) -> Kind {
        match self.state {
            State::Closed => return Kind::Call,
            State::Open if now >= self.until => self.enter(State::HalfOpen, Cause::ResetTimeout),
            State::HalfOpen if self.spent == PERMITS && now >= self.until => {
                // Those that are out are lost; those that failed stay spent.
                let spent = self.spent - self.out;
                self.enter(State::HalfOpen, Cause::LeaseExpired);
                self.spent = spent;
            }
            _ => {}
        }
        if self.state != State::HalfOpen || self.spent == PERMITS {
            return Kind::Unjudged;
        }
        self.spent += 1;
        self.out += 1;
        self.until = now + RESET;
        Kind::Probe
    }

    /// `None`: dropped.
    fn end(&mut self, ticket: Ticket, ok: Option<bool>, now: u64) {
        let slow = now - ticket.at > self.slow;
        let ok = match ok {
            None if slow => Some(false),
            ok => ok,
        };
        match (ticket.kind, ok) {
            (Kind::Uncounted | Kind::Unjudged, _) | (Kind::Call, None) => {}
            _ if ticket.era != self.era => self.stale += 1,
            (Kind::Call, Some(ok)) => {
                self.window.push((now / SEGMENT, !ok, slow));
                let (calls, failures, slow_calls) = self.counts(now);
                let judged = !ok || slow || calls == MINIMUM;
                if judged && calls >= MINIMUM && self.mode != Mode::ForcedClosed {
                    if failures * 2 >= calls {
                        self.open(Cause::FailureRate, now);
                    } else if slow_calls * 2 >= calls {
                        self.open(Cause::SlowCallRate, now);
                    }
                }
            }
            (Kind::Probe, None) => {
                self.spent -= 1;
                self.out -= 1;
            }
            (Kind::Probe, Some(ok)) if ok && !slow => {
                self.enter(State::Closed, Cause::ProbesSucceeded);
            }
            (Kind::Probe, Some(_)) => {
                self.out -= 1;
                if self.spent - self.out == PERMITS {
                    self.open(Cause::ProbeFailed, now);
                }
            }
        }
    }

    fn counts(&self, now: u64) -> (u64, u64, u64) {
        let inside = |call: &&(u64, bool, bool)| call.0 + 10 > now / SEGMENT;
        let count = |of: fn(&(u64, bool, bool)) -> bool| {
            self.window.iter().filter(inside).filter(|c| of(c)).count() as u64
        };
        (count(|_| true), count(|c| c.1), count(|c| c.2))
    }

    fn set_mode(&mut self, mode: Mode) {
        if mode == self.mode {
            return;
        }
        let state = match (self.mode, mode) {
            (_, Mode::ForcedOpen) => State::Open,
            (Mode::ForcedOpen, Mode::Automatic) => State::HalfOpen,
            _ => State::Closed,
        };
        self.mode = mode;
        self.enter(state, Cause::ByHand);
        self.until = 0;
    }
}

proptest! {
    #[test]
    fn the_timed_breaker_equals_a_plain_model(steps in prop::collection::vec(step(), 0..300)) {
        let clock = ManualClock::new();
        let breaker = CircuitBreaker::with_clock("model", config(20), clock.clone());
        let (_subscription, events) = breaker.subscribe_channel(10_000);
        let mut model = Model {
            mode: Mode::Automatic,
            state: State::Closed,
            era: 0,
            window: Vec::new(),
            slow: 20,
            until: 0,
            openings: 0,
            spent: 0,
            out: 0,
            stale: 0,
            rejected: 0,
            would_have_refused: 0,
            causes: Vec::new(),
        };
        let mut permits: Vec<(OwnedPermit, Ticket)> = Vec::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Acquire => match (breaker.try_acquire_owned(), model.acquire(now)) {
                    (Ok(permit), Some(ticket)) => {
                        prop_assert_eq!(permit.is_probe(), ticket.kind == Kind::Probe);
                        permits.push((permit, ticket));
                    }
                    (Err(rejected), None) if model.mode == Mode::ForcedOpen => {
                        prop_assert_eq!(rejected.reason(), Reason::ForcedOpen);
                    }
                    (Err(rejected), None) => {
                        let wait = Duration::from_millis(model.until.saturating_sub(now));
                        prop_assert_eq!(rejected.retry_after(), wait);
                    }
                    (real, model) => prop_assert!(false, "{real:?} but the model {model:?}"),
                },
                Step::End(index, ok) if index < permits.len() => {
                    let (permit, ticket) = permits.swap_remove(index);
                    permit.record(if ok { Outcome::Success } else { Outcome::Failure });
                    model.end(ticket, Some(ok), now);
                }
                Step::Drop(index) if index < permits.len() => {
                    let (permit, ticket) = permits.swap_remove(index);
                    drop(permit);
                    model.end(ticket, None, now);
                }
                Step::Wait(millis) => {
                    now += millis;
                    clock.set(Duration::from_millis(now));
                }
                Step::Mode(mode) => {
                    breaker.set_mode(mode);
                    model.set_mode(mode);
                }
                Step::Reset => {
                    breaker.reset();
                    model.mode = Mode::Automatic;
                    model.enter(State::Closed, Cause::ByHand);
                }
                Step::SlowCall(slow) => {
                    breaker.set_config(config(slow));
                    model.slow = slow;
                }
                _ => {}
            }
            let snapshot = breaker.snapshot();
            prop_assert_eq!((snapshot.state, snapshot.mode), (model.state, model.mode));
            prop_assert_eq!(snapshot.generation, model.era);
            prop_assert_eq!(snapshot.stale, model.stale);
            prop_assert_eq!(snapshot.rejected, model.rejected);
            prop_assert_eq!(snapshot.would_have_refused, model.would_have_refused);
            prop_assert_eq!(snapshot.permits_out, model.out);
            prop_assert_eq!(snapshot.openings, model.openings);
            if model.state == State::Closed {
                let seen = (snapshot.calls, snapshot.failures, snapshot.slow_calls);
                prop_assert_eq!(seen, model.counts(now));
            }
            let causes: Vec<_> = events.try_iter().map(|event| event.cause).collect();
            prop_assert_eq!(causes, std::mem::take(&mut model.causes));
        }
    }
}
