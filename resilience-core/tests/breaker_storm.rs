//! Threads and a moving clock take one breaker through all its states.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use resilience_core::{breaker::*, clock::ManualClock};

const RESET: Duration = Duration::from_millis(100);
const PERMITS: u32 = 3;
const CALLS: u64 = 15_000;

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

#[derive(Default)]
struct Seen {
    transitions: Mutex<Vec<Transition>>,
    admitted: AtomicU64,
    refused: AtomicU64,
    most_probes: AtomicU64,
}

fn caller(breaker: &CircuitBreaker, clock: &ManualClock, seen: &Seen, number: u64) {
    let mut dice = Dice(number + 1);
    let mut held = Vec::new();
    for call in 0..CALLS {
        match breaker.try_acquire_owned() {
            Ok(permit) => {
                seen.admitted.fetch_add(1, Ordering::Relaxed);
                held.push(permit);
            }
            Err(_) => {
                seen.refused.fetch_add(1, Ordering::Relaxed);
                clock.advance(RESET / 8);
            }
        }
        let out = u64::from(breaker.snapshot().permits_out);
        seen.most_probes.fetch_max(out, Ordering::Relaxed);
        // Some permits are held over changes of state, so that late outcomes come as well.
        while held.len() > 4 || (!held.is_empty() && dice.roll(3) > 0) {
            let permit = held.swap_remove(dice.roll(held.len() as u64) as usize);
            // Outages come and go.
            match (call / 500 % 2 == 0, dice.roll(10)) {
                (_, 0) => drop(permit),
                (true, 1..=7) => permit.failure(),
                _ => permit.success(),
            }
        }
    }
}

#[test]
fn the_invariants_hold_through_a_storm_and_the_breaker_can_be_closed_after_it() {
    let clock = ManualClock::new();
    let config = Config::builder()
        .count_window(50)
        .minimum_calls(10)
        .consecutive_failures(6)
        .half_open_permits(PERMITS)
        .success_threshold(2)
        .reset_timeout(RESET)
        .max_reset_timeout(RESET * 16)
        .build()
        .unwrap();
    let breaker = CircuitBreaker::with_clock("storm", config, clock.clone());
    let seen = Arc::new(Seen::default());
    let sink = Arc::clone(&seen);
    let push = move |event: &Transition| sink.transitions.lock().unwrap().push(event.clone());
    breaker.subscribe(push).forget();

    thread::scope(|scope| {
        for number in 0..4 {
            let (breaker, clock, seen) = (&breaker, &clock, &seen);
            scope.spawn(move || caller(breaker, clock, seen, number));
        }
    });

    // 1: never more probes out than permits.
    assert!(seen.most_probes.load(Ordering::Relaxed) <= u64::from(PERMITS));
    // 2: every permit has ended, so none is out; and every refusal was counted.
    let snapshot = breaker.snapshot();
    assert_eq!(snapshot.permits_out, 0);
    assert_eq!(snapshot.rejected, seen.refused.load(Ordering::Relaxed));
    assert!((1..seen.admitted.load(Ordering::Relaxed)).contains(&snapshot.stale));

    // 4: one event per change. By generation they form one chain from closed to the present
    // state; a generation between two events is an expired lease of a half-open period.
    let mut events = seen.transitions.lock().unwrap().clone();
    events.sort_by_key(|event| event.generation);
    let (mut state, mut generation) = (State::Closed, 0);
    let mut causes = HashMap::new();
    for event in &events {
        assert_eq!(event.from, state);
        assert!(event.generation > generation, "two events of one change");
        assert!(event.generation == generation + 1 || event.from == State::HalfOpen);
        assert!(event.failures <= event.calls);
        (state, generation) = (event.to, event.generation);
        *causes.entry(event.cause).or_insert(0) += 1;
    }
    assert_eq!(state, snapshot.state);
    assert!(causes.len() >= 4, "the storm was too calm: {causes:?}");

    // 5 and 6: it closes in bounded time, with an empty window whose counters are exact.
    bring_to_closed(&breaker, &clock);
    let threads = 4;
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for call in 0..10 {
                    let permit = breaker.try_acquire().unwrap();
                    if call == 5 {
                        permit.failure()
                    } else {
                        permit.success()
                    }
                }
            });
        }
    });
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.calls, snapshot.failures), (40, threads));
}

/// Ends in closed, in a window that has just begun.
fn bring_to_closed(breaker: &CircuitBreaker, clock: &ManualClock) {
    while let Ok(permit) = breaker.try_acquire() {
        permit.failure();
    }
    clock.advance(RESET * 16);
    (0..2).for_each(|_| breaker.try_acquire().unwrap().success());
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.calls), (State::Closed, 0));
}

// Leases that end while their probes are still out: each makes room for one more, and their late
// outcomes are stale.
#[test]
fn probes_that_outlive_their_lease_never_keep_the_breaker_from_closing() {
    let clock = ManualClock::new();
    let config = Config::builder()
        .consecutive_failures(1)
        .half_open_permits(PERMITS)
        .reset_timeout(RESET)
        .build()
        .unwrap();
    let breaker = CircuitBreaker::with_clock("lost", config, clock.clone());
    breaker.try_acquire().unwrap().failure();
    clock.advance(RESET);
    let stop = AtomicBool::new(false);
    let (lost, mut most) = (Mutex::new(Vec::new()), 0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(permit) = breaker.try_acquire_owned() {
                        lost.lock().unwrap().push(permit);
                    }
                }
            });
        }
        // Until the callers have come (bounded) and many leases have ended.
        for _ in 0..10_000_000 {
            let snapshot = breaker.snapshot();
            most = most.max(snapshot.permits_out);
            if snapshot.generation > 20 {
                break;
            }
            clock.advance(RESET / 2);
            thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(breaker.state(), State::HalfOpen);
    assert!(most <= PERMITS);
    // 1: the permits, and one more per half-open period that a lease has ended.
    let leases = breaker.snapshot().generation - 2;
    assert!(lost.lock().unwrap().len() as u32 <= PERMITS * (leases + 1));
    clock.advance(RESET);
    let probe = breaker.try_acquire().unwrap();
    lost.lock()
        .unwrap()
        .drain(..)
        .for_each(OwnedPermit::failure);
    assert_eq!(breaker.state(), State::HalfOpen);
    probe.success();
    assert_eq!(breaker.state(), State::Closed);
}
