//! Threads against one breaker: bounded work, no sleeps, exact answers at the end.

use std::{
    mem,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use resilience_core::{breaker::*, clock::ManualClock};

const RESET: Duration = Duration::from_millis(100);
const SPAN: Duration = Duration::from_secs(10);
const SLOW: Duration = Duration::from_millis(20);

/// Less of everything where each step is interpreted.
const fn times(count: u64) -> u64 {
    if cfg!(miri) { count / 500 + 1 } else { count }
}

/// Repeatable and cheap; good enough to mix outcomes.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

type Events = Arc<Mutex<Vec<Transition>>>;

fn breaker(config: ConfigBuilder) -> (CircuitBreaker, ManualClock, Events) {
    let clock = ManualClock::new();
    let config = config.reset_timeout(RESET).build().unwrap();
    let breaker = CircuitBreaker::with_clock("stress", config, clock.clone());
    let events = Events::default();
    let sink = Arc::clone(&events);
    let push = move |event: &Transition| sink.lock().unwrap().push(event.clone());
    breaker.subscribe(push).forget();
    (breaker, clock, events)
}

/// Windows that hold everything and settings that never open.
fn never_opens() -> Vec<ConfigBuilder> {
    let base = || Config::builder().failure_rate(None).slow_call_rate(None);
    let time = || base().count_window(None).time_window(SPAN);
    vec![
        base().count_window(100_000),
        time(),
        base()
            .count_window(100_000)
            .time_window(SPAN)
            .slow_call(SLOW),
        time().slow_call(SLOW),
    ]
}

#[test]
fn counters_equal_outcomes_whatever_the_window_and_the_number_of_threads() {
    for config in never_opens() {
        for threads in [2, 4, 8] {
            let (breaker, clock, _) = breaker(config.clone());
            let each = times(4_000);
            let start = Barrier::new(threads as usize);
            thread::scope(|scope| {
                for number in 0..threads {
                    let (breaker, clock, start) = (&breaker, &clock, &start);
                    scope.spawn(move || {
                        start.wait();
                        for call in 0..each {
                            let permit = breaker.try_acquire().unwrap();
                            match (call + number) % 4 {
                                0 => permit.failure(),
                                1 => permit.ignore(),
                                2 => drop(permit),
                                _ => permit.success(),
                            }
                            // Nine segments at most, so that nothing leaves the time window.
                            if call % (each / 4 + 1) == 0 && number < 2 {
                                clock.advance(SPAN / 10);
                            }
                        }
                    });
                }
            });
            let snapshot = breaker.snapshot();
            let windows = [snapshot.count_window, snapshot.time_window];
            for counts in windows.into_iter().flatten() {
                let failures = (0..threads)
                    .map(|number| (0..each).filter(|call| (call + number) % 4 == 0).count() as u64);
                let successes = (0..threads)
                    .map(|number| (0..each).filter(|call| (call + number) % 4 == 3).count() as u64);
                let failures: u64 = failures.sum();
                assert_eq!(counts.failures, failures, "{config:?}");
                assert_eq!(
                    counts.calls,
                    failures + successes.sum::<u64>(),
                    "{config:?}"
                );
            }
            assert_eq!((snapshot.stale, snapshot.rejected), (0, 0));
        }
    }
}

#[test]
fn slow_calls_of_all_threads_are_counted() {
    for config in never_opens().into_iter().skip(2) {
        let (breaker, clock, _) = breaker(config);
        let all_out = Barrier::new(5);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let permits: Vec<_> = (0..50).map(|_| breaker.try_acquire().unwrap()).collect();
                    all_out.wait();
                    all_out.wait();
                    permits.into_iter().for_each(Permit::success);
                    breaker.try_acquire().unwrap().success();
                });
            }
            all_out.wait();
            clock.advance(SLOW + Duration::from_nanos(1));
            all_out.wait();
        });
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.calls, snapshot.slow_calls), (204, 200));
    }
}

/// What makes a breaker open when this many calls end badly at once, and no sooner.
fn opens_at(calls: u32) -> Vec<(Cause, ConfigBuilder)> {
    let base = || Config::builder().failure_rate(None).minimum_calls(calls);
    let time = || base().count_window(None).time_window(SPAN);
    vec![
        (
            Cause::ConsecutiveFailures,
            base().consecutive_failures(calls),
        ),
        (
            Cause::ConsecutiveFailures,
            time().consecutive_failures(calls),
        ),
        (Cause::FailureRate, base().failure_rate(1.0)),
        (Cause::FailureRate, time().failure_rate(1.0)),
        (Cause::FailureCount, base().failure_count(calls)),
        (Cause::FailureCount, time().failure_count(calls)),
        (
            Cause::SlowCallRate,
            base().slow_call(SLOW).slow_call_rate(1.0),
        ),
        (
            Cause::SlowCallRate,
            time().slow_call(SLOW).slow_call_rate(1.0),
        ),
    ]
}

#[test]
fn invariant_4_k_threads_that_cross_a_threshold_give_one_transition_and_one_event() {
    for threads in [2, 4, 8] {
        for (cause, config) in opens_at(threads) {
            for _ in 0..times(100) {
                let (breaker, clock, events) = breaker(config.clone());
                let start = Barrier::new(threads as usize);
                let permits: Vec<_> = (0..threads)
                    .map(|_| breaker.try_acquire_owned().unwrap())
                    .collect();
                clock.advance(SLOW * 2);
                thread::scope(|scope| {
                    for permit in permits {
                        let start = &start;
                        scope.spawn(move || {
                            start.wait();
                            match cause {
                                Cause::SlowCallRate => permit.success(),
                                _ => permit.failure(),
                            }
                        });
                    }
                });
                let snapshot = breaker.snapshot();
                let events = events.lock().unwrap();
                assert_eq!(events.len(), 1, "{config:?}");
                assert_eq!((events[0].cause, events[0].to), (cause, State::Open));
                assert_eq!((snapshot.state, snapshot.generation), (State::Open, 1));
                assert_eq!(snapshot.openings, 1);
            }
        }
    }
}

// Whoever reaches minimum calls must judge, be it the failure or the success.
#[test]
fn successes_and_failures_that_reach_minimum_calls_together_open() {
    for threads in [2, 4, 8] {
        let base = || Config::builder().minimum_calls(threads).failure_rate(0.5);
        for config in [base(), base().count_window(None).time_window(SPAN)] {
            for _ in 0..times(300) {
                let (breaker, _, events) = breaker(config.clone());
                let start = Barrier::new(threads as usize);
                thread::scope(|scope| {
                    for number in 0..threads {
                        let permit = breaker.try_acquire_owned().unwrap();
                        let start = &start;
                        scope.spawn(move || {
                            start.wait();
                            if number % 2 == 0 {
                                permit.failure();
                            } else {
                                permit.success();
                            }
                        });
                    }
                });
                assert_eq!(breaker.state(), State::Open, "{config:?}, {threads}");
                assert_eq!(events.lock().unwrap().len(), 1);
            }
        }
    }
}

#[test]
fn invariant_1_holds_while_threads_take_return_and_lose_probes() {
    const PERMITS: u32 = 3;
    let config = Config::builder()
        .failure_rate(None)
        .consecutive_failures(1)
        .half_open_permits(PERMITS)
        .success_threshold(PERMITS)
        // The period never ends by itself: of three successes each, the third is not given.
        .probe_failures(0);
    let (breaker, clock, _) = breaker(config);
    breaker.try_acquire().unwrap().failure();
    clock.advance(RESET);
    let out = AtomicI64::new(0);
    let most = AtomicI64::new(0);
    let taken = AtomicU64::new(0);
    thread::scope(|scope| {
        for number in 0..4 {
            let (breaker, out, most, taken) = (&breaker, &out, &most, &taken);
            scope.spawn(move || {
                let mut dice = Dice(number + 7);
                for _ in 0..times(20_000) {
                    let Ok(permit) = breaker.try_acquire() else {
                        thread::yield_now();
                        continue;
                    };
                    taken.fetch_add(1, Ordering::Relaxed);
                    // Counted late and given back early: never more than are really out.
                    let now = out.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    if dice.roll(4) == 0 {
                        thread::yield_now();
                    }
                    out.fetch_sub(1, Ordering::SeqCst);
                    if dice.roll(2) == 0 {
                        drop(permit);
                    } else {
                        permit.ignore();
                    }
                }
            });
        }
    });
    assert!(most.into_inner() <= i64::from(PERMITS));
    assert!(taken.into_inner() > 0);
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.permits_out), (State::HalfOpen, 0));
    // Lost ones come back with the lease, all at once, and no more than those.
    for _ in 0..PERMITS {
        mem::forget(breaker.try_acquire_owned().unwrap());
    }
    clock.advance(RESET);
    let start = Barrier::new(8);
    let admitted = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                if let Ok(permit) = breaker.try_acquire_owned() {
                    admitted.fetch_add(1, Ordering::SeqCst);
                    mem::forget(permit);
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), PERMITS as usize);
}

#[derive(Default)]
struct Tally {
    admitted: AtomicU64,
    refused: AtomicU64,
    outcomes: AtomicU64,
    cancelled: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn caller(breaker: &CircuitBreaker, clock: &ManualClock, tally: &Tally, number: u64) {
    let mut dice = Dice(number + 1);
    let mut held = Vec::new();
    for call in 0..times(12_000) {
        match breaker.try_acquire_owned() {
            Ok(permit) => {
                count(&tally.admitted);
                held.push(permit);
            }
            Err(rejected) => {
                assert!(rejected.retry_after() <= Duration::from_secs(86_400 * 2));
                count(&tally.refused);
                clock.advance(RESET / 8);
            }
        }
        clock.advance(Duration::from_micros(dice.roll(3_000)));
        while held.len() > 4 || (!held.is_empty() && dice.roll(3) > 0) {
            let permit = held.swap_remove(dice.roll(held.len() as u64) as usize);
            // Outages come and go.
            match (call / 400 % 2 == 0, dice.roll(10)) {
                (_, 0) => {
                    count(&tally.cancelled);
                    drop(permit);
                    continue;
                }
                (true, 1..=7) => permit.failure(),
                _ => permit.success(),
            }
            count(&tally.outcomes);
        }
    }
    tally
        .outcomes
        .fetch_add(held.len() as u64, Ordering::Relaxed);
    held.into_iter().for_each(OwnedPermit::success);
}

/// Settings that differ in all that an engine must change in flight.
fn settings() -> Vec<Config> {
    let base = || {
        let base = Config::builder().minimum_calls(10).half_open_permits(3);
        base.success_threshold(2).reset_timeout(RESET)
    };
    let all = [
        base().count_window(50),
        base().count_window(500).consecutive_failures(6),
        base().count_window(None).time_window(SPAN),
        base()
            .count_window(20)
            .time_window(SPAN / 5)
            .slow_call(SLOW),
        base()
            .count_window(None)
            .failure_rate(None)
            .consecutive_failures(4),
        base()
            .half_open_permits(1)
            .success_threshold(1)
            .lease(RESET / 10),
        base()
            .failure_count(12)
            .on_cancel(OnCancel::FailureAfter(SLOW)),
    ];
    all.into_iter().map(|one| one.build().unwrap()).collect()
}

/// Turns every switch there is, until told to stop.
fn hand(breaker: &CircuitBreaker, stop: &AtomicBool, seed: u64) {
    let (settings, mut dice) = (settings(), Dice(seed));
    let modes = [
        Mode::Automatic,
        Mode::Automatic,
        Mode::Automatic,
        Mode::ObserveOnly,
        Mode::ForcedOpen,
        Mode::ForcedClosed,
        Mode::Disabled,
    ];
    while !stop.load(Ordering::Relaxed) {
        let any = settings[dice.roll(settings.len() as u64) as usize].clone();
        match dice.roll(12) {
            0..=3 => breaker.set_config(any),
            4 => breaker.set_mode(modes[dice.roll(modes.len() as u64) as usize]),
            5 => breaker.reset(),
            6 | 7 => breaker.set_shadow(any),
            8 => {
                breaker.promote_shadow();
            }
            9 => breaker.clear_shadow(),
            10 => drop(breaker.shadow()),
            _ => drop(breaker.subscribe(|_| ())),
        }
        let snapshot = breaker.snapshot();
        for rate in [snapshot.failure_rate, snapshot.slow_call_rate] {
            assert!(rate.is_none_or(|rate| rate.is_finite() && rate >= 0.0));
        }
        // Most of the time is the callers'.
        (0..dice.roll(200)).for_each(|_| thread::yield_now());
    }
}

#[test]
fn totals_add_up_and_nothing_panics_while_every_switch_is_turned() {
    let (breaker, clock, events) = breaker(settings()[0].to_builder());
    let (tally, stop) = (Tally::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let hands: Vec<_> = (1..=2)
            .map(|seed| {
                let (breaker, stop) = (&breaker, &stop);
                scope.spawn(move || hand(breaker, stop, seed))
            })
            .collect();
        let callers: Vec<_> = (0..4)
            .map(|number| {
                let (breaker, clock, tally) = (&breaker, &clock, &tally);
                scope.spawn(move || caller(breaker, clock, tally, number))
            })
            .collect();
        let ended: Vec<_> = callers.into_iter().map(|caller| caller.join()).collect();
        stop.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|caller| caller.unwrap());
        hands.into_iter().for_each(|hand| hand.join().unwrap());
    });

    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let snapshot = breaker.snapshot();
    assert_eq!(snapshot.permits_out, 0);
    assert_eq!(
        of(&tally.admitted),
        of(&tally.outcomes) + of(&tally.cancelled)
    );
    assert_eq!(snapshot.rejected, of(&tally.refused));
    assert!(snapshot.stale <= of(&tally.admitted));

    // One event per generation, and they form one chain to the present state.
    let mut events = events.lock().unwrap().clone();
    events.retain(|event| !event.shadow);
    events.sort_by_key(|event| event.generation);
    let (mut state, mut generation) = (State::Closed, 0);
    for event in &events {
        assert_eq!(
            (event.from, event.generation),
            (state, generation + 1),
            "{event:?}"
        );
        (state, generation) = (event.to, event.generation);
    }
    assert_eq!((snapshot.state, snapshot.generation), (state, generation));
    assert!(
        cfg!(miri) || generation > 50,
        "the storm was too calm: {generation}"
    );

    // After all that it is a breaker like any other.
    breaker.clear_shadow();
    breaker.set_config(settings()[0].clone());
    breaker.reset();
    for call in 0..30 {
        let permit = breaker.try_acquire().unwrap();
        if call % 3 == 0 {
            permit.failure();
        } else {
            permit.success();
        }
    }
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.calls, snapshot.failures),
        (State::Closed, 30, 10)
    );
    while let Ok(permit) = breaker.try_acquire() {
        permit.failure();
    }
    assert_eq!(breaker.state(), State::Open);
    clock.advance(breaker.try_acquire().unwrap_err().retry_after());
    (0..2).for_each(|_| breaker.try_acquire().unwrap().success());
    assert_eq!(breaker.state(), State::Closed);
}
