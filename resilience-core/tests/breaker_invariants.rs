//! What holds for any history, one property per invariant, in several kinds of window and mode.
//!
//! The invariants say less than the model test, and therefore still hold where a model would have
//! to be as clever as the breaker: modes, changes of settings, clocks that jump.

use std::{
    future::Future,
    mem,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use proptest::prelude::*;
use resilience_core::{breaker::*, clock::ManualClock};

const PERMITS: u32 = 3;
const RESET: u64 = 100;
const LEASE: u64 = 70;
const MAX_RESET: u64 = 400;
const COUNT: usize = 8;
const SPAN: u64 = 200;
const SLOW: u64 = 20;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The kinds of window and of threshold; each opens soon.
fn kinds() -> Vec<ConfigBuilder> {
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

fn config() -> impl Strategy<Value = Config> {
    let built = |config: ConfigBuilder| config.build().unwrap();
    proptest::sample::select(kinds().into_iter().map(built).collect::<Vec<_>>())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Success,
    Failure,
    Overloaded(u64),
    Ignored,
    Dropped,
}

#[derive(Clone, Debug)]
enum Step {
    Acquire,
    End(usize, End),
    /// The permit is never seen again.
    Lose(usize),
    Wait(u64),
    Mode(Mode),
    Reset,
    Config(Config),
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        3 => Just(End::Success),
        5 => Just(End::Failure),
        1 => (0..2 * MAX_RESET).prop_map(End::Overloaded),
        1 => Just(End::Ignored),
        1 => Just(End::Dropped),
    ]
}

/// Calls, outcomes and time.
fn traffic() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => Just(Step::Acquire),
        10 => (0..6_usize, end()).prop_map(|(index, end)| Step::End(index, end)),
        1 => (0..6_usize).prop_map(Step::Lose),
        4 => (0..SPAN / 2).prop_map(Step::Wait),
    ]
}

/// Traffic, and a hand at the switches.
fn anything() -> impl Strategy<Value = Step> {
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

fn many<S: Strategy<Value = Step>>(step: S) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step, 0..250)
}

struct Held {
    permit: OwnedPermit,
    generation: u32,
    /// The mode that admitted it.
    mode: Mode,
    probe: Option<usize>,
    at: u64,
}

/// A probe of the present half-open period.
#[derive(Clone, Copy, Debug)]
struct Probe {
    at: u64,
    ended: Option<u64>,
    given_back: bool,
}

/// A breaker, and what an observer from outside knows of it.
struct World {
    breaker: CircuitBreaker,
    clock: ManualClock,
    now: u64,
    held: Vec<Held>,
    events: Arc<Mutex<Vec<Transition>>>,
    told: usize,
    probes: Vec<Probe>,
    /// Outcomes of the present generation: when, failed, slow.
    window: Vec<(u64, bool, bool)>,
    window_of: u32,
}

impl World {
    fn new(config: Config) -> Self {
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

    fn step(&mut self, step: &Step) {
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

    fn acquire(&mut self) {
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

    fn end(&mut self, held: Held, end: End) {
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
    fn notice(&mut self) {
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

/// Whether `counts` are those of `outcomes`, give or take those in `doubtful`.
fn agrees(counts: WindowCounts, outcomes: &[(bool, bool)], doubtful: &[(bool, bool)]) -> bool {
    let within = |counted: u64, of: fn(&(bool, bool)) -> bool| {
        let sure = outcomes.iter().filter(|one| of(one)).count() as u64;
        let maybe = doubtful.iter().filter(|one| of(one)).count() as u64;
        (sure..=sure + maybe).contains(&counted)
    };
    within(counts.calls, |_| true)
        && within(counts.failures, |one| one.0)
        && within(counts.slow_calls, |one| one.1)
}

fn cases() -> ProptestConfig {
    if cfg!(miri) {
        ProptestConfig::with_cases(2)
    } else {
        ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn invariant_1_at_most_n_permits_are_outstanding_or_spent_plus_one_per_expired_lease(
        config in config(),
        steps in many(traffic()),
        observed in any::<bool>(),
    ) {
        let mut world = World::new(config);
        if observed {
            world.step(&Step::Mode(Mode::ObserveOnly));
        }
        for step in steps {
            world.step(&step);
            if world.breaker.state() != State::HalfOpen {
                continue;
            }
            // A probe that was out for a lease may have been written off.
            let now = world.now;
            let lost = |probe: &Probe| probe.ended.unwrap_or(now) - probe.at >= LEASE;
            let spent = world.probes.iter().filter(|one| !one.given_back && !lost(one));
            prop_assert!(spent.count() <= PERMITS as usize, "{:?}", world.probes);
            let snapshot = world.breaker.snapshot();
            prop_assert!(u64::from(snapshot.permits_out) + snapshot.calls <= u64::from(PERMITS));
        }
    }

    #[test]
    fn invariant_2_a_permit_ends_exactly_once(
        config in config(),
        steps in many(anything()),
    ) {
        let mut world = World::new(config);
        let mut lost: Vec<u32> = Vec::new();
        for step in steps {
            if let Step::Lose(index) = step
                && let Some(held) = world.held.get(index)
                && held.permit.is_probe()
            {
                lost.push(held.generation);
            }
            world.step(&step);
            let snapshot = world.breaker.snapshot();
            let held = world.held.iter().filter(|held| held.permit.is_probe());
            let out = held.map(|held| held.generation).chain(lost.iter().copied());
            let out = out.filter(|generation| *generation == snapshot.generation).count();
            let expected = if snapshot.state == State::HalfOpen { out } else { 0 };
            prop_assert_eq!(snapshot.permits_out as usize, expected, "{:?}", step);
        }
    }

    #[test]
    fn invariant_3_an_outcome_changes_state_only_in_the_generation_that_admitted_it(
        config in config(),
        steps in many(anything()),
    ) {
        let mut world = World::new(config);
        for step in steps {
            let before = world.breaker.snapshot();
            let late = match step {
                Step::End(index, end) => {
                    let held = world.held.get(index);
                    held.map(|held| (held.generation, held.mode, end))
                }
                _ => None,
            };
            world.step(&step);
            let Some((generation, mode, end)) = late else {
                continue;
            };
            if generation == before.generation {
                continue;
            }
            let mut after = world.breaker.snapshot();
            // One that is judged is counted as stale, and nothing else is different.
            let judged = matches!(end, End::Success | End::Failure | End::Overloaded(_));
            let counted = after.stale - before.stale;
            prop_assert!(counted <= 1);
            // A disabled breaker counts nothing; one that observes counts what it admits.
            if judged && matches!(mode, Mode::Automatic | Mode::ForcedClosed) {
                prop_assert_eq!(counted, 1);
            }
            after.stale = before.stale;
            prop_assert_eq!(after, before);
        }
    }

    #[test]
    fn invariant_4_each_generation_begins_with_one_event_and_they_form_one_chain(
        config in config(),
        steps in many(anything()),
    ) {
        let mut world = World::new(config);
        for step in &steps {
            world.step(step);
        }
        let events = world.events.lock().unwrap();
        let (mut state, mut generation) = (State::Closed, 0);
        for event in events.iter() {
            prop_assert_eq!(event.from, state, "{:?}", event);
            prop_assert_eq!(event.generation, generation + 1, "{:?}", event);
            (state, generation) = (event.to, event.generation);
        }
        let snapshot = world.breaker.snapshot();
        prop_assert_eq!((snapshot.state, snapshot.generation), (state, generation));
    }

    #[test]
    fn invariant_5_counters_equal_the_outcomes_of_this_generation_and_window(
        config in config(),
        steps in many(anything()),
    ) {
        let mut world = World::new(config.clone());
        for step in steps {
            world.step(&step);
            let snapshot = world.breaker.snapshot();
            if snapshot.state != State::Closed {
                continue;
            }
            let all = &world.window;
            let outcome = |one: &(u64, bool, bool)| (one.1, one.2);
            if config.count_window().is_some() {
                let counts = snapshot.count_window.expect("there is one");
                let from = all.len().saturating_sub(COUNT);
                let inside: Vec<_> = all[from..].iter().map(outcome).collect();
                prop_assert!(agrees(counts, &inside, &[]), "{:?}, {:?}", counts, all);
            }
            if config.time_window().is_some() {
                let counts = snapshot.time_window.expect("there is one");
                let age = |one: &(u64, bool, bool)| world.now - one.0;
                let young = all.iter().filter(|one| age(one) < SPAN * 9 / 10).map(outcome);
                let doubtful = |one: &&_| (SPAN * 9 / 10..SPAN).contains(&age(one));
                let (young, doubtful): (Vec<_>, Vec<_>) =
                    (young.collect(), all.iter().filter(doubtful).map(outcome).collect());
                prop_assert!(agrees(counts, &young, &doubtful), "{:?}, {:?}", counts, all);
            }
        }
    }

    #[test]
    fn invariant_6_closed_is_reached_within_reset_and_lease_and_n_calls(
        config in config(),
        steps in many(anything()),
    ) {
        let mut world = World::new(config);
        for step in &steps {
            world.step(step);
        }
        // From here on the upstream answers at once. What is out, stays out.
        world.breaker.set_mode(Mode::Automatic);
        let before = world.breaker.snapshot();
        let wait = before.retry_after.unwrap_or_default();
        let longest = wait.max(millis(LEASE)) + millis(LEASE);
        let (mut waited, mut calls) = (Duration::ZERO, 0);
        while world.breaker.state() != State::Closed {
            match world.breaker.try_acquire() {
                Ok(permit) => {
                    calls += 1;
                    permit.success();
                }
                Err(rejected) => {
                    let wait = rejected.retry_after().max(Duration::from_nanos(1));
                    world.clock.advance(wait);
                    waited += wait;
                }
            }
            prop_assert!(calls <= PERMITS, "{calls} calls after {waited:?}");
            prop_assert!(waited <= longest, "{waited:?} of {longest:?}");
        }
    }

    #[test]
    fn invariant_7_open_never_touches_the_inner_service(
        config in config(),
        steps in many(anything()),
        outcomes in prop::collection::vec(any::<bool>(), 250),
    ) {
        let mut world = World::new(config);
        for (step, fails) in steps.iter().zip(outcomes) {
            world.step(step);
            let before = world.breaker.snapshot();
            let touched = AtomicBool::new(false);
            let answer = {
                let mut call = pin!(world.breaker.call(async {
                    touched.store(true, Ordering::Relaxed);
                    if fails { Err(()) } else { Ok(()) }
                }));
                call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            };
            let touched = touched.into_inner();
            let refused = matches!(answer, Poll::Ready(Err(Error::Rejected(_))));
            prop_assert_eq!(touched, !refused);
            let open = before.state == State::Open
                && before.mode == Mode::Automatic
                && before.retry_after.is_some_and(|wait| !wait.is_zero());
            if open || before.mode == Mode::ForcedOpen {
                prop_assert!(refused, "{:?}", before);
            }
            world.notice();
        }
    }
}

// ---- 8: anything that builds, any clock

const DAY: Duration = Duration::from_secs(86_400);
const NANO: Duration = Duration::from_nanos(1);

/// Settings from random numbers: each at one of its limits, or in between.
fn settings(random: [u32; 18]) -> ConfigBuilder {
    let mut random = random.into_iter();
    let mut any = move || random.next().unwrap_or(0);
    fn pick<T: Clone>(number: u32, from: &[T]) -> T {
        from[number as usize % from.len()].clone()
    }
    let spans = [millis(1), millis(10), Duration::from_secs(1), DAY];
    let rates = [None, Some(f64::MIN_POSITIVE), Some(0.5), Some(1.0)];
    let time = pick(
        any(),
        &[
            None,
            None,
            Some(millis(10)),
            Some(Duration::from_secs(3_600)),
        ],
    );
    let count = pick(
        any(),
        &[None, Some(1), Some(2), Some(9), Some(100), Some(40_000)],
    );
    // Without a window there is nothing that a rate could be of.
    let count = count.or(time.is_none().then_some(7));
    let slow = pick(any(), &[None, Some(NANO), Some(millis(1)), Some(DAY)]);
    let most = count.unwrap_or(10_000_000);
    let permits: u32 = pick(any(), &[1, 2, 10, 1_023]);
    let needed = pick(any(), &[1, permits.div_ceil(2), permits]);
    let by_rate = any() % 4 == 0;
    let reset = pick(any(), &spans);
    let on_cancel = match any() % 5 {
        0 => OnCancel::Failure,
        1 => OnCancel::FailureAfter(Duration::ZERO),
        2 => OnCancel::FailureAfter(DAY),
        3 if slow.is_some() => OnCancel::FailureWhenSlow,
        _ => OnCancel::Ignore,
    };
    Config::builder()
        .count_window(count)
        .time_window(time)
        .slow_call(slow)
        .failure_rate(pick(any(), &rates))
        .slow_call_rate(pick(any(), &rates))
        .minimum_calls(pick(any(), &[1, most.min(2), most]))
        .failure_count(pick(any(), &[None, Some(1), Some(most)]))
        .consecutive_failures(pick(any(), &[None, Some(1), Some(10_000)]))
        .half_open_permits(permits)
        .success_threshold((!by_rate).then_some(needed))
        .half_open_failure_rate(by_rate.then_some(0.5))
        .probe_failures(pick(any(), &[None, Some(0)]))
        .reset_timeout(reset)
        .max_reset_timeout(pick(any(), &[None, Some(reset), Some(DAY)]))
        .jitter(pick(any(), &[0.0, f64::MIN_POSITIVE, 0.999_999]))
        .lease(pick(any(), &[None, Some(millis(1)), Some(DAY)]))
        .on_cancel(on_cancel)
}

fn valid() -> impl Strategy<Value = Config> {
    proptest::array::uniform18(any::<u32>()).prop_map(|random| settings(random).build().unwrap())
}

/// Any span, the absurd included.
fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(DAY),
        Just(Duration::MAX),
        any::<u64>().prop_map(Duration::from_nanos),
    ]
}

/// Settings of which one may be out of its range.
fn doubtful() -> impl Strategy<Value = ConfigBuilder> {
    let valid = proptest::array::uniform18(any::<u32>()).prop_map(settings);
    let number = prop_oneof![Just(0), Just(1), Just(u32::MAX), any::<u32>()];
    let rate = prop_oneof![
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(-0.0),
        any::<f64>()
    ];
    (valid, 0..17_u8, number, rate, span()).prop_map(|(settings, field, number, rate, span)| {
        match field {
            0 => settings.count_window(number),
            1 => settings.minimum_calls(number),
            2 => settings.failure_count(number),
            3 => settings.consecutive_failures(number),
            4 => settings.half_open_permits(number),
            5 => settings.success_threshold(number),
            6 => settings.probe_failures(number),
            7 => settings.failure_rate(rate),
            8 => settings.slow_call_rate(rate),
            9 => settings.half_open_failure_rate(rate),
            10 => settings.jitter(rate),
            11 => settings.time_window(span),
            12 => settings.slow_call(span),
            13 => settings.reset_timeout(span),
            14 => settings.max_reset_timeout(span),
            15 => settings.lease(span),
            _ => settings.on_cancel(OnCancel::FailureAfter(span)),
        }
    })
}

#[derive(Clone, Debug)]
enum Jolt {
    Step(Step),
    Clock(u64),
    Asked(Duration),
}

fn jolt() -> impl Strategy<Value = Jolt> {
    prop_oneof![
        20 => anything().prop_map(Jolt::Step),
        4 => prop_oneof![Just(0), Just(u64::MAX), any::<u64>()].prop_map(Jolt::Clock),
        1 => span().prop_map(Jolt::Asked),
        1 => valid().prop_map(|config| Jolt::Step(Step::Config(config))),
    ]
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn settings_out_of_range_do_not_build_and_the_error_names_field_and_value(
        settings in doubtful(),
    ) {
        match settings.build() {
            Ok(config) => prop_assert!(config.minimum_calls() >= 1),
            Err(error) => {
                let text = error.to_string();
                prop_assert!(text.contains(error.field) && text.contains(&error.value), "{text}");
                prop_assert!(!error.allowed.is_empty());
            }
        }
    }

    #[test]
    fn invariant_8_no_panic_wrap_or_overflow_for_any_settings_and_any_clock(
        config in valid(),
        jolts in prop::collection::vec(jolt(), 0..120),
    ) {
        let clock = ManualClock::new();
        let breaker = CircuitBreaker::with_clock("any", config, clock.clone());
        let mut held = Vec::new();
        for jolt in jolts {
            match jolt {
                Jolt::Clock(nanos) => clock.set(Duration::from_nanos(nanos)),
                Jolt::Asked(wait) => {
                    if let Ok(permit) = breaker.try_acquire_owned() {
                        permit.record(Outcome::Overloaded { retry_after: Some(wait) });
                    }
                }
                Jolt::Step(Step::Wait(by)) => clock.advance(Duration::from_nanos(by << 24)),
                Jolt::Step(Step::Mode(mode)) => breaker.set_mode(mode),
                Jolt::Step(Step::Reset) => breaker.reset(),
                Jolt::Step(Step::Config(config)) => breaker.set_config(config),
                Jolt::Step(Step::Acquire) => held.extend(breaker.try_acquire_owned()),
                Jolt::Step(Step::Lose(index)) if index < held.len() => {
                    mem::forget(held.swap_remove(index));
                }
                Jolt::Step(Step::End(index, end)) if index < held.len() => {
                    let permit = held.swap_remove(index);
                    match end {
                        End::Success => permit.success(),
                        End::Failure | End::Overloaded(_) => permit.failure(),
                        End::Ignored => permit.ignore(),
                        End::Dropped => drop(permit),
                    }
                }
                Jolt::Step(_) => {}
            }
            let snapshot = breaker.snapshot();
            prop_assert!(snapshot.failures <= snapshot.calls && snapshot.slow_calls <= snapshot.calls);
            for rate in [snapshot.failure_rate, snapshot.slow_call_rate].into_iter().flatten() {
                prop_assert!((0.0..=1.0).contains(&rate));
            }
            // Whatever it is, it can be said and shown.
            if let Err(rejected) = breaker.try_acquire() {
                prop_assert!(!rejected.to_string().is_empty());
            }
        }
    }
}
