//! The eighth invariant: any settings that build, and any clock input.

use std::{mem, time::Duration};

use crate::world::*;
use proptest::prelude::*;
use resilience_core::{breaker::*, clock::ManualClock};

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
    let count = count.or_else(|| time.is_none().then_some(7));
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
