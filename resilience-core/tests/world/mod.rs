//! A breaker, random histories of it, and what an observer from outside knows.

// Each test that includes this uses a part of it.
#![allow(dead_code)]

use std::{
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::prelude::*;
use resilience_core::{breaker::*, clock::ManualClock};

pub(crate) const PERMITS: u32 = 3;
pub(crate) const RESET: u64 = 100;
pub(crate) const LEASE: u64 = 70;
pub(crate) const MAX_RESET: u64 = 400;
pub(crate) const COUNT: usize = 8;
pub(crate) const SPAN: u64 = 200;
pub(crate) const SLOW: u64 = 20;

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The kinds of window and of threshold; each opens soon.
pub(crate) fn kinds() -> Vec<ConfigBuilder> {
    let base = || {
        Config::builder()
            .minimum_calls(4)
            .half_open_permits(PERMITS)
            .success_threshold(2)
            .reset_timeout(millis(RESET))
            .max_reset_timeout(millis(MAX_RESET))
            .lease(millis(LEASE))
    };
    let count = || base().count_window(COUNT as u32);
    let time = || base().count_window(None).time_window(millis(SPAN));
    vec![
        count(),
        time(),
        count().time_window(millis(SPAN)),
        count().slow_call(millis(SLOW)),
        time().slow_call(millis(SLOW)).failure_rate(None),
        count().failure_rate(None).failure_count(3),
        time().failure_rate(None).failure_count(3),
        base()
            .count_window(None)
            .failure_rate(None)
            .consecutive_failures(2),
        count().consecutive_failures(2).probe_failures(0),
        count()
            .on_cancel(OnCancel::Failure)
            .half_open_failure_rate(1.0)
            .success_threshold(None),
        count()
            .on_cancel(OnCancel::FailureAfter(millis(SLOW)))
            .jitter(0.5),
    ]
}

pub(crate) fn config() -> impl Strategy<Value = Config> {
    let built = |config: ConfigBuilder| config.build().unwrap();
    proptest::sample::select(kinds().into_iter().map(built).collect::<Vec<_>>())
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Success,
    Failure,
    Overloaded(u64),
    Ignored,
    Dropped,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Acquire,
    End(usize, End),
    /// The permit is never seen again.
    Lose(usize),
    Wait(u64),
    Mode(Mode),
    Reset,
    Config(Config),
}

pub(crate) fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        3 => Just(End::Success),
        5 => Just(End::Failure),
        1 => (0..2 * MAX_RESET).prop_map(End::Overloaded),
        1 => Just(End::Ignored),
        1 => Just(End::Dropped),
    ]
}

/// Calls, outcomes and time.
pub(crate) fn traffic() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => Just(Step::Acquire),
        10 => (0..6_usize, end()).prop_map(|(index, end)| Step::End(index, end)),
        1 => (0..6_usize).prop_map(Step::Lose),
        4 => (0..SPAN / 2).prop_map(Step::Wait),
    ]
}

/// Traffic, and a hand at the switches.
pub(crate) fn anything() -> impl Strategy<Value = Step> {
    let modes = [
        Mode::Automatic,
        Mode::ForcedOpen,
        Mode::ForcedClosed,
        Mode::Disabled,
        Mode::ObserveOnly,
    ];
    prop_oneof![
        40 => traffic(),
        2 => proptest::sample::select(modes.to_vec()).prop_map(Step::Mode),
        1 => Just(Step::Reset),
    ]
}

pub(crate) fn many<S: Strategy<Value = Step>>(step: S) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step, 0..250)
}

pub(crate) struct Held {
    pub(crate) permit: OwnedPermit,
    pub(crate) generation: u32,
    /// The mode that admitted it.
    pub(crate) mode: Mode,
    pub(crate) probe: Option<usize>,
    pub(crate) at: u64,
}

/// A probe of the present half-open period.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) at: u64,
    pub(crate) ended: Option<u64>,
    pub(crate) given_back: bool,
}

/// A breaker, and what an observer from outside knows of it.
pub(crate) struct World {
    pub(crate) breaker: CircuitBreaker,
    pub(crate) clock: ManualClock,
    pub(crate) now: u64,
    pub(crate) held: Vec<Held>,
    pub(crate) events: Arc<Mutex<Vec<Transition>>>,
    pub(crate) told: usize,
    pub(crate) probes: Vec<Probe>,
    /// Outcomes of the present generation: when, failed, slow.
    pub(crate) window: Vec<(u64, bool, bool)>,
    pub(crate) window_of: u32,
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        let clock = ManualClock::new();
        let breaker = CircuitBreaker::with_clock("invariant", config, clock.clone());
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&events);
        let push = move |event: &Transition| sink.lock().unwrap().push(event.clone());
        breaker.subscribe(push).forget();
        Self {
            breaker,
            clock,
            now: 0,
            held: Vec::new(),
            events,
            told: 0,
            probes: Vec::new(),
            window: Vec::new(),
            window_of: 0,
        }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::Acquire => self.acquire(),
            Step::End(index, end) if *index < self.held.len() => {
                let held = self.held.swap_remove(*index);
                self.end(held, *end);
            }
            Step::Lose(index) if *index < self.held.len() => {
                mem::forget(self.held.swap_remove(*index).permit);
            }
            Step::Wait(by) => {
                self.now += by;
                self.clock.set(millis(self.now));
            }
            Step::Mode(mode) => self.breaker.set_mode(*mode),
            Step::Reset => self.breaker.reset(),
            Step::Config(config) => self.breaker.set_config(config.clone()),
            _ => {}
        }
        self.notice();
    }

    pub(crate) fn acquire(&mut self) {
        let Ok(permit) = self.breaker.try_acquire_owned() else {
            return;
        };
        // A probe may have begun a period.
        self.notice();
        let probe = permit.is_probe().then(|| {
            self.probes.push(Probe {
                at: self.now,
                ended: None,
                given_back: false,
            });
            self.probes.len() - 1
        });
        let snapshot = self.breaker.snapshot();
        self.held.push(Held {
            permit,
            generation: snapshot.generation,
            mode: snapshot.mode,
            probe,
            at: self.now,
        });
    }

    pub(crate) fn end(&mut self, held: Held, end: End) {
        let before = self.breaker.snapshot();
        let config = self.breaker.config();
        let took = millis(self.now - held.at);
        let counts = match (end, config.on_cancel()) {
            (End::Success, _) => Some(false),
            (End::Failure | End::Overloaded(_), _) => Some(true),
            (End::Dropped, OnCancel::Failure) => Some(true),
            (End::Dropped, OnCancel::FailureAfter(long)) => (took >= long).then_some(true),
            _ => None,
        };
        match end {
            End::Success => held.permit.success(),
            End::Failure => held.permit.failure(),
            End::Overloaded(wait) => held.permit.record(Outcome::Overloaded {
                retry_after: Some(millis(wait)),
            }),
            End::Ignored => held.permit.ignore(),
            End::Dropped => drop(held.permit),
        }
        if let Some(probe) = held.probe.and_then(|index| self.probes.get_mut(index)) {
            probe.ended = Some(self.now);
            probe.given_back = counts.is_none();
        }
        let here = held.generation == before.generation && before.state == State::Closed;
        if let (true, Some(failed), true) = (here, counts, before.mode != Mode::Disabled) {
            let slow = config.slow_call().is_some_and(|slow| took > slow);
            self.window.push((self.now, failed, slow));
        }
    }

    /// Takes in what subscribers were told.
    pub(crate) fn notice(&mut self) {
        let events = self.events.lock().unwrap();
        for event in &events[self.told..] {
            if event.to == State::HalfOpen && event.cause != Cause::LeaseExpired {
                self.probes.clear();
                // Those still out are of an older period.
                self.held.iter_mut().for_each(|held| held.probe = None);
            }
        }
        self.told = events.len();
        let generation = self.breaker.snapshot().generation;
        if generation != self.window_of {
            self.window.clear();
            self.window_of = generation;
        }
    }
}

pub(crate) fn cases() -> ProptestConfig {
    if cfg!(miri) {
        ProptestConfig::with_cases(2)
    } else {
        ProptestConfig::default()
    }
}
