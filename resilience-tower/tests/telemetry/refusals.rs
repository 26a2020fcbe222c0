//! Responses that single layers made of their refusals are refusals to telemetry, not failures.
#![cfg(feature = "http")]

use std::convert::Infallible;
use std::fmt::Debug;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use resilience_tower::admission::{Admission, Policy};
use resilience_tower::telemetry::TelemetryLayer;
use tokio_test::{assert_ready_ok, task};
use tower::{Layer, Service, service_fn};

use super::recorder::Kept;

type Sent = Request<Full<Bytes>>;
type Answer = Response<Full<Bytes>>;

/// Never answers, so that places stay taken.
fn hangs() -> impl Service<Sent, Response = Answer, Error = Infallible, Future: Send> + Clone {
    service_fn(|_: Sent| std::future::pending())
}

/// What is told of a call that `service` refuses with a response: one refusal, and nothing else.
#[track_caller]
fn assert_refused<S, B>(service: S, policy: &str, reason: &str)
where
    S: Service<Sent, Response = Response<B>, Error: Debug>,
{
    let kept = Kept::default();
    let mut service = TelemetryLayer::call("payments").http().layer(service);
    let mut ready = task::spawn(std::future::poll_fn(|cx| service.poll_ready(cx)));
    assert_ready_ok!(ready.poll());
    drop(ready);
    let call = service.call(Request::default());
    let mut call = task::spawn(call);
    let response = kept.local(|| assert_ready_ok!(call.poll()));
    let admission = Admission::of(response.extensions()).expect("it was refused");
    assert_eq!(admission.policy().map(Policy::as_str), Some(policy));
    assert_eq!(admission.reason(), reason);
    let labels = format!("name=\"payments\",policy=\"{policy}\",reason=\"{reason}\"");
    let refused = kept.counter(&format!("resilience_call_refused_total{{{labels}}}"));
    assert_eq!(refused, Some(1), "{policy}");
    for (outcome, calls) in [("refused", Some(1)), ("failure", None), ("success", None)] {
        let labels = format!("name=\"payments\",outcome=\"{outcome}\"");
        let told = kept.histogram(&format!("resilience_call_duration_seconds{{{labels}}}"));
        assert_eq!(told.map(|told| told.0), calls, "{policy}: {outcome}");
    }
}

#[cfg(feature = "breaker")]
#[test]
fn of_a_breaker() {
    use resilience_core::breaker::{CircuitBreaker, Mode};
    use resilience_tower::breaker::BreakerLayer;

    let breaker = CircuitBreaker::new("payments");
    breaker.set_mode(Mode::ForcedOpen);
    let layer = BreakerLayer::from_handle(breaker).http();
    let problem = layer.clone().into_response().layer(hangs());
    assert_refused(problem, "breaker", "forced_open");
    let status = layer.into_grpc_response().layer(hangs());
    assert_refused(status, "breaker", "forced_open");
}

#[cfg(feature = "breaker")]
#[test]
fn of_ones_own_making() {
    use resilience_core::breaker::{CircuitBreaker, Mode};
    use resilience_tower::breaker::BreakerLayer;

    let breaker = CircuitBreaker::new("payments");
    breaker.set_mode(Mode::ForcedOpen);
    let layer = BreakerLayer::from_handle(breaker).into_response_with(|_| Response::default());
    assert_refused(layer.layer(hangs()), "breaker", "forced_open");
}

#[cfg(feature = "rate-limit")]
#[test]
fn of_a_rate_limit() {
    use resilience_core::clock::ManualClock;
    use resilience_core::rate_limit::{Quota, RateLimiter};
    use resilience_tower::rate_limit::RateLimitLayer;

    let limiter = RateLimiter::with_clock(Quota::per_minute(1).unwrap(), ManualClock::new());
    limiter.try_acquire().unwrap();
    let layer = RateLimitLayer::new(limiter);
    let problem = layer.clone().into_response().layer(hangs());
    assert_refused(problem, "rate_limit", "limited");
    let status = layer.into_grpc_response().layer(hangs());
    assert_refused(status, "rate_limit", "limited");
}

#[cfg(feature = "bulkhead")]
#[test]
fn of_a_bulkhead() {
    use resilience_core::bulkhead::{Bulkhead, Config};
    use resilience_tower::bulkhead::BulkheadLayer;

    let config = Config::builder().limit(1).build().unwrap();
    let bulkhead = Bulkhead::new(config);
    let _permit = bulkhead.try_acquire_owned().unwrap();
    let layer = BulkheadLayer::new(bulkhead);
    let problem = layer.clone().into_response().layer(hangs());
    assert_refused(problem, "bulkhead", "full");
    let status = layer.clone().into_grpc_response().layer(hangs());
    assert_refused(status, "bulkhead", "full");
    let line = layer.wait().into_response().layer(hangs());
    assert_refused(line, "bulkhead", "queue_full");
}

#[cfg(feature = "adaptive")]
#[test]
fn of_an_adaptive_limit() {
    use resilience_core::adaptive::{AdaptiveLimit, Config};
    use resilience_tower::adaptive::AdaptiveLayer;

    let limit = AdaptiveLimit::new(Config::default());
    let _permits: Vec<_> = std::iter::from_fn(|| limit.try_acquire().ok()).collect();
    let layer = AdaptiveLayer::new(limit.clone());
    let problem = layer.clone().into_response().layer(hangs());
    assert_refused(problem, "adaptive", "full");
    let status = layer.into_grpc_response().layer(hangs());
    assert_refused(status, "adaptive", "full");
}

#[cfg(feature = "load-shed")]
#[test]
fn of_load_shedding() {
    use resilience_core::load_shed::Class;
    use resilience_tower::load_shed::LoadShedLayer;

    let (shed, clock) = super::shedder();
    for _ in 0..40 {
        super::shed_more(&shed, &clock);
    }
    let reason = shed.try_acquire(Class::Normal).unwrap_err().reason();
    let layer = LoadShedLayer::new(shed.clone());
    let problem = layer.clone().into_response().layer(hangs());
    assert_refused(problem, "load_shed", reason);
    let status = layer.into_grpc_response().layer(hangs());
    assert_refused(status, "load_shed", reason);
}

#[cfg(feature = "timeout")]
#[tokio::test(start_paused = true)]
async fn of_a_deadline() {
    use resilience_core::deadline::{Config, Deadlines};
    use resilience_tower::timeout::deadline::DeadlineLayer;

    let total = std::time::Duration::from_secs(1);
    let config = Config::builder().total(total).build().unwrap();
    let layer = DeadlineLayer::new(Deadlines::new(config));
    let over = service_fn(|mut sent: Sent| {
        use resilience_tower::timeout::deadline::{Deadline, HasDeadline};
        sent.set_deadline(Deadline::after(std::time::Duration::ZERO).unwrap());
        let mut inner = layer.clone().into_response().layer(hangs());
        inner.call(sent)
    });
    assert_refused(over, "deadline", "refused");
}

#[cfg(feature = "coalesce")]
#[test]
fn of_shared_calls() {
    use resilience_core::coalesce::Config;
    use resilience_tower::coalesce::Coalescing;
    use resilience_tower::coalesce::http::{HttpCoalesceLayer, HttpKey};
    use tokio_test::assert_pending;

    let config = Config::builder().max_followers(0).build().unwrap();
    let layer = HttpCoalesceLayer::new(Coalescing::new(config), HttpKey::new());
    let mut service = layer.into_response().layer(hangs());
    let mut leader = task::spawn(service.call(Request::default()));
    assert_pending!(leader.poll());
    assert_refused(service, "coalesce", "followers");
}

#[cfg(feature = "balance")]
#[test]
fn of_a_balancer() {
    use resilience_core::balance::{Balancer, Config, Endpoint};
    use resilience_tower::balance::Balance;

    let balancer = Balancer::new(Config::default());
    balancer.insert(Endpoint::new("a", hangs())).unwrap();
    balancer.drain("a");
    let service = Balance::new(balancer);
    assert_refused(service.clone().into_response(), "balance", "draining");
    assert_refused(service.into_grpc_response(), "balance", "draining");
}
