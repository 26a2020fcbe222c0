//! Any settings and any sequence of calls, outcomes, drops, moves of the clock, modes, resets and
//! changes of settings: every admission, refusal, state, figure and event is the plain model's.
#![no_main]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use libfuzzer_sys::fuzz_target;
use resilience_core::{
    breaker::{CircuitBreaker, Config, Mode, OnCancel, Outcome, OwnedPermit, Transition},
    clock::ManualClock,
};
use resilience_fuzz::{
    Choices,
    breaker::{Breaker, Change, Ticket},
};

fuzz_target!(|data: &[u8]| {
    let _ = run(Choices::new(data));
});

/// A call under way: the permit, the model's, and that of the model of the shadow.
struct Call {
    permit: OwnedPermit,
    ticket: Ticket,
    shadow: Option<(usize, Ticket)>,
}

/// The model of a shadow, and what it and the live breaker thought of calls.
struct Shadow {
    model: Breaker,
    number: usize,
    both_admitted: u64,
    shadow_refused: u64,
    live_refused: u64,
    both_refused: u64,
}

fn run(mut choices: Choices<'_>) -> Option<()> {
    let clock = ManualClock::new();
    let mut now = choices.one_of(&[0, 3_000_000_000, 1 << 62])?;
    clock.set(Duration::from_nanos(now));
    let config = config(&mut choices)?;
    let breaker = CircuitBreaker::with_clock("fuzz", config.clone(), clock.clone());
    let mut model = Breaker::new(config, now);
    let mut shadow: Option<Shadow> = None;
    let mut shadows = 0;
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&events);
    let _subscription = breaker.subscribe(move |event| {
        sink.lock()
            .expect("no panic while held")
            .push(event.clone());
    });
    let mut calls: Vec<Call> = Vec::new();
    let trace = std::env::var_os("FUZZ_TRACE").is_some();
    while let Some(step) = choices.byte() {
        let which = usize::from(step >> 4);
        if trace {
            eprintln!("step {} of {which} at {now}: {model:?}", step & 15);
        }
        match step & 15 {
            0..=4 => {
                let real = breaker.try_acquire_owned();
                match (real, model.acquire(now)) {
                    (Ok(permit), Ok(mut ticket)) => {
                        assert_eq!(permit.is_probe(), ticket.is_probe());
                        let unseen = breaker.mode() == Mode::Disabled;
                        let seen = shadow.as_mut().filter(|_| !unseen);
                        let shadow = seen.map(|shadow| shadow.admit(&mut ticket, now));
                        calls.push(Call {
                            permit,
                            ticket,
                            shadow,
                        });
                    }
                    (Err(rejected), Err((reason, wait))) => {
                        assert_eq!(rejected.reason(), reason);
                        assert_eq!(rejected.retry_after().as_nanos(), wait.into());
                        assert_eq!(rejected.state(), model.state());
                        if let Some(shadow) = &mut shadow {
                            if shadow.model.would_refuse(now) {
                                shadow.both_refused += 1;
                            } else {
                                shadow.live_refused += 1;
                            }
                        }
                    }
                    (real, model) => panic!("{real:?} but the model {model:?}"),
                }
            }
            kind @ 5..=10 if !calls.is_empty() => {
                let call = calls.swap_remove(which % calls.len());
                let outcome = match kind {
                    5 | 6 => Some(Outcome::Success),
                    7 | 8 => Some(Outcome::Failure),
                    9 => None,
                    _ => Some(match choices.byte()? {
                        0 => Outcome::Ignored,
                        byte => Outcome::Overloaded {
                            retry_after: span(byte),
                        },
                    }),
                };
                end(call, outcome, &mut model, &mut shadow, now);
            }
            11 | 12 => now = now.saturating_add(moved(&mut choices)?),
            13 => now = now.saturating_sub(moved(&mut choices)?),
            14 => match which {
                0..=4 => {
                    let modes = [
                        Mode::Automatic,
                        Mode::ForcedOpen,
                        Mode::ForcedClosed,
                        Mode::Disabled,
                        Mode::ObserveOnly,
                    ];
                    breaker.set_mode(modes[which]);
                    model.set_mode(modes[which]);
                }
                5..=6 => {
                    breaker.reset();
                    model.reset();
                }
                _ => {
                    let config = self::config(&mut choices)?;
                    let other_minimum = config.minimum_calls() != model.config().minimum_calls();
                    breaker.set_config(config.clone());
                    model.set_config(config, now);
                    if other_minimum {
                        start_over(&breaker, &mut model);
                    }
                }
            },
            15 => match which {
                0..=7 => {
                    let config = self::config(&mut choices)?;
                    breaker.set_shadow(config.clone());
                    // Numbered on, so that late outcomes of an earlier one are told apart.
                    let first = breaker.shadow()?.snapshot.generation;
                    shadow = Some(Shadow {
                        model: Breaker::shadow(config, first, now),
                        number: shadows,
                        both_admitted: 0,
                        shadow_refused: 0,
                        live_refused: 0,
                        both_refused: 0,
                    });
                    shadows += 1;
                }
                8..=11 => {
                    assert_eq!(breaker.promote_shadow(), shadow.is_some());
                    if let Some(shadow) = shadow.take() {
                        model.set_config(shadow.model.config().clone(), now);
                        start_over(&breaker, &mut model);
                    }
                }
                _ => {
                    breaker.clear_shadow();
                    shadow = None;
                }
            },
            _ => {}
        }
        clock.set(Duration::from_nanos(now));
        assert_eq!(*breaker.config(), *model.config());
        model.check(&breaker.snapshot(), now);
        if let Some(shadow) = &mut shadow {
            shadow.check(&breaker, now);
        }
        let seen = std::mem::take(&mut *events.lock().expect("no panic while held"));
        let (theirs, own): (Vec<_>, Vec<_>) = seen.into_iter().partition(|event| event.shadow);
        same(own, model.changes());
        match &mut shadow {
            Some(shadow) => same(theirs, shadow.model.changes()),
            None => assert!(theirs.is_empty()),
        }
    }
    Some(())
}

/// Whether the first success after a change of minimum calls judges what the time window holds is
/// left open; with an empty window it does not matter.
fn start_over(breaker: &CircuitBreaker, model: &mut Breaker) {
    if model.config().time_window().is_some() {
        breaker.reset();
        model.reset();
    }
}

impl Shadow {
    fn admit(&mut self, live: &mut Ticket, now: u64) -> (usize, Ticket) {
        let mut ticket = self.model.acquire(now).expect("it observes");
        if ticket.is_unjudged() {
            self.shadow_refused += 1;
        } else {
            self.both_admitted += 1;
        }
        // One reading of the clock serves both.
        live.stamped(ticket.at());
        ticket.stamped(live.at());
        (self.number, ticket)
    }

    fn check(&mut self, breaker: &CircuitBreaker, now: u64) {
        let seen = breaker.shadow().expect("there is one");
        assert_eq!(*seen.config, *self.model.config());
        self.model.check(&seen.snapshot, now);
        for (seen, right) in [
            (seen.both_admitted, self.both_admitted),
            (seen.shadow_refused, self.shadow_refused),
            (seen.live_refused, self.live_refused),
            (seen.both_refused, self.both_refused),
        ] {
            assert_eq!(seen, right);
        }
    }
}

fn end(
    call: Call,
    outcome: Option<Outcome>,
    model: &mut Breaker,
    shadow: &mut Option<Shadow>,
    now: u64,
) {
    match outcome {
        Some(outcome) => call.permit.record(outcome),
        None => drop(call.permit),
    }
    if let (Some(shadow), Some((number, ticket))) = (shadow, call.shadow) {
        match outcome {
            // Of an earlier shadow.
            Some(outcome) if number != shadow.number => shadow.model.stale(ticket, outcome),
            None if number != shadow.number => shadow.model.stale_cancel(ticket, now),
            Some(outcome) => shadow.model.end(ticket, outcome, now),
            None => shadow.model.cancel(ticket, now),
        }
    }
    match outcome {
        Some(outcome) => model.end(call.ticket, outcome, now),
        None => model.cancel(call.ticket, now),
    }
}

fn same(seen: Vec<Transition>, right: Vec<Change>) {
    assert_eq!(seen.len(), right.len(), "{seen:?} but the model {right:?}");
    for (seen, right) in seen.into_iter().zip(right) {
        let told = Change {
            from: seen.from,
            to: seen.to,
            mode: seen.mode,
            generation: seen.generation,
            cause: seen.cause,
            counts: resilience_fuzz::breaker::Counts {
                calls: seen.calls,
                failures: seen.failures,
                slow: seen.slow_calls,
            },
            open_for: seen.open_for.map(|wait| wait.as_nanos() as u64),
        };
        assert_eq!(told, right);
        assert_eq!(seen.observed, seen.mode == Mode::ObserveOnly);
    }
}

/// Settings near enough to each other that histories of some dozen steps cross them all.
fn config(choices: &mut Choices<'_>) -> Option<Config> {
    let on = choices.byte()?;
    let bit = |bit: u8| on >> bit & 1 == 1;
    let sizes = choices.byte()?;
    let (window, minimum) = (u32::from(sizes & 15) + 1, u32::from(sizes >> 4) + 1);
    let rates = choices.byte()?;
    let share = |part: u8| f64::from(part & 7) / 8.0 + 0.125;
    let probes = choices.byte()?;
    let permits = u32::from(probes & 3) + 1;
    let waits = choices.byte()?;
    let millis = |n: u8| Duration::from_millis(u64::from(n) * 10 + 10);
    let mut builder = Config::builder()
        .failure_rate(bit(0).then(|| share(rates)))
        .slow_call_rate(share(rates >> 4))
        .slow_call(bit(1).then(|| millis(waits >> 5)))
        .count_window(bit(2).then_some(window))
        .time_window(bit(3).then(|| Duration::from_millis(u64::from(waits) * 7 + 10)))
        .consecutive_failures(bit(4).then_some(minimum.min(6)))
        .failure_count(bit(5).then_some(minimum))
        .minimum_calls(minimum.min(if bit(2) { window } else { 16 }))
        .half_open_permits(permits)
        .reset_timeout(millis(waits & 15))
        .max_reset_timeout(millis(waits & 15) * 5)
        .lease(bit(6).then(|| millis(waits >> 4)))
        .on_cancel(match rates >> 6 {
            0 => OnCancel::Ignore,
            1 => OnCancel::Failure,
            2 => OnCancel::FailureAfter(Duration::from_millis(10 * u64::from(probes >> 6))),
            _ if bit(1) => OnCancel::FailureWhenSlow,
            _ => OnCancel::Ignore,
        });
    builder = if bit(7) {
        builder.half_open_failure_rate(share(probes >> 2))
    } else {
        let needed = u32::from(probes >> 2 & 3) % permits + 1;
        let fails = u32::from(probes >> 4 & 3);
        builder
            .success_threshold(needed)
            .probe_failures((fails <= permits - needed).then_some(fails))
    };
    // Some do not fit together: then the history ends here.
    builder.build().ok()
}

fn span(byte: u8) -> Option<Duration> {
    match byte {
        1 => None,
        255 => Some(Duration::MAX),
        _ => Some(Duration::from_millis(u64::from(byte) * 7)),
    }
}

fn moved(choices: &mut Choices<'_>) -> Option<u64> {
    let byte = choices.byte()?;
    let scale = [1, 1_000, 1_000_000, 7_000_001][usize::from(byte >> 6)];
    Some(match byte & 63 {
        63 => 1 << 50,
        62 => 86_400_000_000_000,
        n => u64::from(n) * scale,
    })
}
