//! The breaker between timeouts, on tokio's paused clock: nothing sleeps, time jumps.
#![cfg(all(feature = "breaker", feature = "timeout"))]

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use resilience_core::breaker::{CircuitBreaker, Config, ConfigBuilder, OnCancel, State};
use resilience_core::clock::Clock;
use resilience_core::clock::SharedClock;
use resilience_tower::breaker::{Breaker, BreakerLayer, Error};
use resilience_tower::timeout::TimeoutLayer;
use tokio::time::{Instant, sleep, timeout};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

/// Tokio's clock, which stands still until every task waits for it.
#[derive(Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

const RESET: Duration = Duration::from_secs(30);

fn breaker(config: ConfigBuilder) -> CircuitBreaker {
    let config = config.reset_timeout(RESET).half_open_permits(1).build();
    let clock = SharedClock::new(TokioClock(Instant::now()));
    CircuitBreaker::with_clock("payments", config.unwrap(), clock)
}

fn opens_at_the_first_failure() -> ConfigBuilder {
    Config::builder().consecutive_failures(Some(1))
}

/// Answers after the time that the request asks for.
async fn upstream(takes: Duration) -> Result<(), Infallible> {
    sleep(takes).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_times_out_within_is_a_failure() {
    let breaker = breaker(opens_at_the_first_failure());
    let mut service = ServiceBuilder::new()
        .layer(BreakerLayer::from_handle(breaker.clone()))
        .layer(TimeoutLayer::new(Duration::from_secs(2)))
        .service_fn(upstream);
    let quick = service.ready().await.unwrap().call(Duration::from_secs(1));
    quick.await.unwrap();
    let slow = service.ready().await.unwrap().call(Duration::from_secs(3));
    assert!(matches!(slow.await, Err(Error::Inner(_))));
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_around_it_is_seen_and_a_client_that_leaves_early_is_not() {
    let after = OnCancel::FailureAfter(Duration::from_secs(2));
    let breaker = breaker(opens_at_the_first_failure().on_cancel(after));
    let mut service = Breaker::new(service_fn(upstream), breaker.clone());
    for _ in 0..5 {
        let call = service.ready().await.unwrap().call(RESET);
        timeout(Duration::from_millis(1_999), call)
            .await
            .unwrap_err();
    }
    assert_eq!(breaker.state(), State::Closed);
    let call = service.ready().await.unwrap().call(RESET);
    timeout(Duration::from_secs(2), call).await.unwrap_err();
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn slow_answers_open_it_though_they_succeed() {
    let breaker = breaker(
        Config::builder()
            .count_window(10)
            .minimum_calls(4)
            .slow_call(Duration::from_secs(1))
            .slow_call_rate(0.5),
    );
    let mut service = Breaker::new(service_fn(upstream), breaker.clone());
    // One second exactly is not longer than one second.
    for takes in [1_000, 1_000, 1_001] {
        let call = service
            .ready()
            .await
            .unwrap()
            .call(Duration::from_millis(takes));
        call.await.unwrap();
        assert_eq!(breaker.state(), State::Closed);
    }
    let call = service
        .ready()
        .await
        .unwrap()
        .call(Duration::from_millis(1_001));
    call.await.unwrap();
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn it_refuses_to_the_instant_and_then_lets_one_probe_through() {
    let breaker = breaker(opens_at_the_first_failure());
    breaker.try_acquire().unwrap().failure();
    let mut service = Breaker::new(service_fn(upstream), breaker.clone());
    sleep(RESET - Duration::from_millis(1)).await;
    let early = service.ready().await.unwrap().call(Duration::ZERO).await;
    let Err(Error::Rejected(refusal)) = early else {
        panic!("it is open");
    };
    assert_eq!(refusal.retry_after(), Duration::from_millis(1));
    sleep(refusal.retry_after()).await;
    // The probe waits; the others are refused meanwhile.
    let probe = service.ready().await.unwrap().call(Duration::from_secs(1));
    let other = service.ready().await.unwrap().call(Duration::ZERO);
    assert!(matches!(other.await, Err(Error::Rejected(_))));
    probe.await.unwrap();
    assert_eq!(breaker.state(), State::Closed);
}

/// A probe whose caller neither ends nor drops it must not keep everyone out for ever.
#[tokio::test(start_paused = true)]
async fn a_probe_that_never_ends_is_written_off_after_its_lease() {
    let breaker = breaker(opens_at_the_first_failure().lease(Duration::from_secs(5)));
    breaker.try_acquire().unwrap().failure();
    sleep(RESET).await;
    let mut stuck = Breaker::new(
        service_fn(|()| pending::<Result<(), Infallible>>()),
        breaker.clone(),
    );
    let lost = stuck.call(());
    let mut service = Breaker::new(service_fn(upstream), breaker.clone());
    let call = service.ready().await.unwrap().call(Duration::ZERO);
    let Err(Error::Rejected(refusal)) = call.await else {
        panic!("the probe is out");
    };
    assert_eq!(refusal.retry_after(), Duration::from_secs(5));
    sleep(refusal.retry_after()).await;
    let call = service.ready().await.unwrap().call(Duration::ZERO);
    call.await.unwrap();
    assert_eq!(breaker.state(), State::Closed);
    drop(lost);
    assert_eq!(breaker.state(), State::Closed);
}
