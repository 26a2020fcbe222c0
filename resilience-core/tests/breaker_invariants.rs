//! What holds for any history, one property per invariant, in several kinds of window and mode.
//! The eighth, about any settings and any clock, stands in `breaker_any_input.rs`.
//!
//! The invariants say less than the model test, and therefore still hold where a model would have
//! to be as clever as the breaker: modes, changes of settings, clocks that jump.

use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::world::*;
use proptest::prelude::*;
use resilience_core::breaker::*;

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
