//! No layer touches the heap in a call: this test counts.
#![cfg(all(feature = "breaker", feature = "rate-limit", feature = "timeout"))]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use resilience_core::breaker::{CircuitBreaker, Config, State};
use resilience_core::rate_limit::{KeyedRateLimiter, Quota, RateLimiter};
use resilience_tower::breaker::Breaker;
use resilience_tower::rate_limit::RateLimit;
use resilience_tower::rate_limit::keyed::Keyed;
use resilience_tower::timeout::Timeout;
use tower::Service;

#[derive(Clone)]
struct Noop;

impl Service<u64> for Noop {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        ready(Ok(request))
    }
}

/// Allocations in a thousand calls, and how many of them were answered.
fn thousand_calls<S: Service<u64>>(service: &mut S) -> (u64, usize) {
    let mut context = Context::from_waker(Waker::noop());
    let mut answered = 0;
    let counted = allocation_counter::measure(|| {
        for request in 0..1_000 {
            assert!(matches!(
                service.poll_ready(&mut context),
                Poll::Ready(Ok(()))
            ));
            let call = pin!(service.call(request));
            if let Poll::Ready(Ok(_)) = call.poll(&mut context) {
                answered += 1;
            }
        }
    });
    (counted.count_total, answered)
}

fn opened() -> CircuitBreaker {
    let config = Config::builder().consecutive_failures(Some(1)).build();
    let breaker = CircuitBreaker::with_config("payments", config.unwrap());
    breaker.try_acquire().unwrap().failure();
    assert_eq!(breaker.state(), State::Open);
    breaker
}

#[test]
fn a_call_through_a_closed_breaker_allocates_nothing() {
    let mut service = Breaker::new(Noop, CircuitBreaker::new("payments"));
    // The first call of a thread sets up what the breaker keeps for it.
    thousand_calls(&mut service);
    assert_eq!(thousand_calls(&mut service), (0, 1_000));
}

#[test]
fn a_refusal_of_an_open_breaker_allocates_nothing() {
    let mut service = Breaker::new(Noop, opened());
    thousand_calls(&mut service);
    assert_eq!(thousand_calls(&mut service), (0, 0));
}

#[test]
fn admissions_and_refusals_of_a_rate_limit_allocate_nothing() {
    let plenty = Quota::per_second(1_000_000).unwrap();
    let mut service = RateLimit::new(Noop, RateLimiter::new(plenty));
    assert_eq!(thousand_calls(&mut service), (0, 1_000));

    let scarce = Quota::new(1, Duration::from_secs(3_600)).unwrap();
    let mut service = RateLimit::new(Noop, RateLimiter::new(scarce));
    assert_eq!(thousand_calls(&mut service), (0, 1));
}

#[test]
fn calls_for_a_known_key_allocate_nothing() {
    let plenty = Quota::per_second(1_000_000).unwrap();
    let limiter = KeyedRateLimiter::new(plenty, 100);
    let mut service = RateLimit::new(Noop, Keyed::new(limiter, |request: &u64| request % 4));
    // The first calls make the keys.
    thousand_calls(&mut service);
    assert_eq!(thousand_calls(&mut service), (0, 1_000));
}

#[test]
fn a_whole_stack_allocates_nothing() {
    let plenty = Quota::per_second(1_000_000).unwrap();
    let timeout = Timeout::new(Noop, Duration::from_secs(1));
    let breaker = Breaker::new(timeout, CircuitBreaker::new("payments"));
    let mut service = RateLimit::new(breaker, RateLimiter::new(plenty));
    thousand_calls(&mut service);
    assert_eq!(thousand_calls(&mut service), (0, 1_000));
}
