//! Circuit breakers: ours in each of its settings, and the peers'.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use failsafe::failure_policy;
use recloser::Recloser;
use resilience_core::breaker::{CircuitBreaker, Config, ConfigBuilder, Permit, State};
use throttle_net::{CircuitBreaker as Throttle, Decision, Limiter, Trip};
use tower_layer::Layer;
use tower_resilience_circuitbreaker::{
    CircuitBreaker as TowerResilience, CircuitBreakerConfigBuilder, CircuitBreakerLayer,
    DefaultClassifier, SlidingWindowType,
};

use super::{COUNT_WINDOW, FAILURE_RATE, MINIMUM_CALLS, RESET_TIMEOUT, SLOW_CALL, TIME_WINDOW};
use crate::service::Noop;

/// Ours on a count window.
#[must_use]
pub fn count() -> CircuitBreaker {
    ours(base().count_window(COUNT_WINDOW))
}

/// Ours on a count window of so many calls.
#[must_use]
pub fn count_of(calls: u32) -> CircuitBreaker {
    ours(
        base()
            .count_window(calls)
            .minimum_calls(MINIMUM_CALLS.min(calls)),
    )
}

/// Ours on a count window, with slow calls.
#[must_use]
pub fn count_slow() -> CircuitBreaker {
    ours(slow(base().count_window(COUNT_WINDOW)))
}

/// Ours on a time window alone.
#[must_use]
pub fn time() -> CircuitBreaker {
    time_of(TIME_WINDOW)
}

/// Ours on a time window of that span.
#[must_use]
pub fn time_of(span: Duration) -> CircuitBreaker {
    ours(base().count_window(None).time_window(span))
}

/// Ours on a time window, with slow calls.
#[must_use]
pub fn time_slow() -> CircuitBreaker {
    ours(slow(base().count_window(None).time_window(TIME_WINDOW)))
}

/// Ours, open.
#[must_use]
pub fn open() -> CircuitBreaker {
    let breaker = count();
    while breaker.state() == State::Closed {
        call(&breaker, Permit::failure);
    }
    breaker
}

/// One call of ours that ends so; whether it was admitted.
pub fn call<'a>(breaker: &'a CircuitBreaker, end: impl FnOnce(Permit<'a>)) -> bool {
    breaker.try_acquire().map(end).is_ok()
}

fn base() -> ConfigBuilder {
    Config::builder()
        .failure_rate(FAILURE_RATE)
        .minimum_calls(MINIMUM_CALLS)
        .consecutive_failures(None)
        .reset_timeout(RESET_TIMEOUT)
}

fn slow(builder: ConfigBuilder) -> ConfigBuilder {
    builder.slow_call(SLOW_CALL).slow_call_rate(FAILURE_RATE)
}

fn ours(builder: ConfigBuilder) -> CircuitBreaker {
    let config = builder.build().expect("these settings fit together");
    CircuitBreaker::with_config("bench", config)
}

/// `recloser` on its only window, of so many calls. It judges from a full window on (it has
/// no minimum), and knows neither time nor slow calls.
#[must_use]
pub fn recloser(calls: u32) -> Recloser {
    Recloser::custom()
        .error_rate(0.5)
        .closed_len(calls as usize)
        .half_open_len(10)
        .open_wait(RESET_TIMEOUT)
        .build()
}

/// `recloser`, open.
#[must_use]
pub fn recloser_open() -> Recloser {
    let breaker = recloser(COUNT_WINDOW);
    for _ in 0..=COUNT_WINDOW {
        let _ = breaker.call(|| Err::<(), _>(()));
    }
    breaker
}

/// One call of `recloser`; whether it was admitted and succeeded.
pub fn recloser_success(breaker: &Recloser) -> bool {
    breaker.call(|| Ok::<_, ()>(())).is_ok()
}

/// One failed call of `recloser`; whether it was admitted.
pub fn recloser_failure(breaker: &Recloser) -> bool {
    matches!(
        breaker.call(|| Err::<(), _>(())),
        Err(recloser::Error::Inner(()))
    )
}

/// `failsafe` on its time window: five slices count the calls, a moving average stands for the
/// rate, so its cost cannot depend on the calls held. It has no count window and no slow calls.
#[must_use]
pub fn failsafe() -> impl failsafe::CircuitBreaker + Sync {
    let wait = failsafe::backoff::constant(RESET_TIMEOUT);
    failsafe::Config::new()
        .failure_policy(failure_policy::success_rate_over_time_window(
            1.0 - FAILURE_RATE,
            MINIMUM_CALLS,
            TIME_WINDOW,
            wait,
        ))
        .build()
}

/// `failsafe`, open.
#[must_use]
pub fn failsafe_open() -> impl failsafe::CircuitBreaker + Sync {
    let wait = failsafe::backoff::constant(RESET_TIMEOUT);
    let breaker = failsafe::Config::new()
        .failure_policy(failure_policy::consecutive_failures(1, wait))
        .build();
    let _ = failsafe::CircuitBreaker::call(&breaker, || Err::<(), _>(()));
    breaker
}

/// One call of `failsafe`; whether it was admitted and succeeded.
pub fn failsafe_success(breaker: &impl failsafe::CircuitBreaker) -> bool {
    breaker.call(|| Ok::<_, ()>(())).is_ok()
}

/// `throttle-net` over no limiter, on a count window of so many calls.
#[must_use]
pub fn throttle_count(calls: u32) -> Throttle<NoLimit> {
    throttle(Trip::Ratio {
        window: calls,
        ratio: FAILURE_RATE,
        min_calls: MINIMUM_CALLS,
    })
}

/// `throttle-net` over no limiter, on its time window: it counts failures only, no rate.
#[must_use]
pub fn throttle_time() -> Throttle<NoLimit> {
    throttle(Trip::Windowed {
        failures: MINIMUM_CALLS,
        period: TIME_WINDOW,
    })
}

/// `throttle-net` over no limiter, open.
#[must_use]
pub fn throttle_open() -> Throttle<NoLimit> {
    let breaker = throttle(Trip::Consecutive(1));
    throttle_call(&breaker, false);
    breaker
}

/// One call of `throttle-net`; whether it was admitted.
pub fn throttle_call(breaker: &Throttle<NoLimit>, success: bool) -> bool {
    match breaker.try_acquire() {
        Ok(Some(permit)) if success => permit.success(),
        Ok(Some(permit)) => permit.failure(),
        _ => return false,
    }
    true
}

fn throttle(trip: Trip) -> Throttle<NoLimit> {
    Throttle::builder()
        .trip(trip)
        .cooldown(RESET_TIMEOUT)
        .build(NoLimit)
}

/// `throttle-net`'s breaker always stands before a limiter: this one admits everything and
/// costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoLimit;

impl Limiter for NoLimit {
    fn peek(&self, _: u32) -> Decision {
        Decision::Acquired
    }

    fn acquire_cost(&self, _: u32) -> Decision {
        Decision::Acquired
    }

    fn available(&self) -> u32 {
        u32::MAX
    }

    fn capacity(&self) -> u32 {
        u32::MAX
    }
}

/// `tower-resilience` on its count window. It is a layer only; there is no way to call it
/// without its boxed future. Its window never slides: what it holds does not cost more.
#[must_use]
pub fn tower_resilience() -> TowerResilience<Noop, DefaultClassifier> {
    layered(tower_resilience_base())
}

/// `tower-resilience` on its count window, with slow calls.
#[must_use]
pub fn tower_resilience_slow() -> TowerResilience<Noop, DefaultClassifier> {
    layered(
        tower_resilience_base()
            .slow_call_duration_threshold(SLOW_CALL)
            .slow_call_rate_threshold(FAILURE_RATE),
    )
}

/// `tower-resilience` on a time window that holds every call of the measurement: it goes
/// through all records of the window at every call.
#[must_use]
pub fn tower_resilience_time() -> TowerResilience<Noop, DefaultClassifier> {
    layered(
        tower_resilience_base()
            .sliding_window_type(SlidingWindowType::TimeBased)
            .sliding_window_duration(RESET_TIMEOUT),
    )
}

/// `tower-resilience`, open.
#[must_use]
pub fn tower_resilience_open() -> TowerResilience<Noop, DefaultClassifier> {
    let breaker = tower_resilience();
    let mut context = Context::from_waker(Waker::noop());
    // Nobody else holds its lock.
    let opened = std::pin::pin!(breaker.force_open()).poll(&mut context);
    assert_eq!(opened, Poll::Ready(()));
    breaker
}

/// The layer of `tower-resilience` on its count window.
#[must_use]
pub fn tower_resilience_layer() -> CircuitBreakerLayer<DefaultClassifier> {
    built(tower_resilience_base())
}

fn tower_resilience_base() -> CircuitBreakerConfigBuilder<DefaultClassifier> {
    CircuitBreakerLayer::builder()
        .failure_rate_threshold(FAILURE_RATE)
        .sliding_window_size(COUNT_WINDOW as usize)
        .minimum_number_of_calls(MINIMUM_CALLS as usize)
        .wait_duration_in_open(RESET_TIMEOUT)
}

fn layered(
    builder: CircuitBreakerConfigBuilder<DefaultClassifier>,
) -> TowerResilience<Noop, DefaultClassifier> {
    built(builder).layer(Noop)
}

fn built(
    builder: CircuitBreakerConfigBuilder<DefaultClassifier>,
) -> CircuitBreakerLayer<DefaultClassifier> {
    builder.build().expect("these settings fit together")
}
