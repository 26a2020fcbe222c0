//! The rate limit layers over a mock upstream, on a clock moved by hand.
#![cfg(feature = "rate-limit")]

use std::convert::Infallible;
use std::future::{pending, ready};
use std::time::Duration;

use resilience_core::clock::ManualClock;
use resilience_core::rate_limit::{KeyedRateLimiter, LeasedRateLimiter, Quota, RateLimiter};
use resilience_tower::rate_limit::keyed::{Keyed, required};
use resilience_tower::rate_limit::{All, Error, RateLimit, RateLimitLayer};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::limit::ConcurrencyLimit;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_test::mock::{self, Handle, Mock, Spawn};

type Upstream = Handle<&'static str, &'static str>;
type Limited = Spawn<RateLimit<Mock<&'static str, &'static str>>>;

/// Two at once, and one more each second.
fn quota() -> Quota {
    Quota::per_second(1).unwrap().burst(2).unwrap()
}

fn limited() -> (Limited, Upstream, ManualClock) {
    let clock = ManualClock::new();
    let limiter = RateLimiter::with_clock(quota(), clock.clone());
    let (service, upstream) = mock::spawn_layer(RateLimitLayer::new(limiter));
    (service, upstream, clock)
}

fn call_answered(service: &mut Limited, upstream: &mut Upstream) {
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call("get"));
    assert_pending!(call.poll());
    let (request, respond) = assert_ready!(upstream.poll_request()).unwrap();
    assert_eq!(request, "get");
    respond.send_response("got");
    assert_eq!(assert_ready_ok!(call.poll()), "got");
}

fn call_refused(service: &mut Limited, upstream: &mut Upstream) -> Option<Duration> {
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call("get"));
    let Error::Limited(limited) = assert_ready_err!(call.poll()) else {
        panic!("the quota is used up");
    };
    // Polled again, it is the same refusal.
    assert!(matches!(assert_ready_err!(call.poll()), Error::Limited(_)));
    assert_pending!(upstream.poll_request());
    limited.retry_after
}

#[test]
fn calls_above_the_burst_are_refused_and_the_inner_service_is_left_alone() {
    let (mut service, mut upstream, _clock) = limited();
    call_answered(&mut service, &mut upstream);
    call_answered(&mut service, &mut upstream);
    let wait = call_refused(&mut service, &mut upstream);
    assert_eq!(wait, Some(Duration::from_secs(1)));
}

#[test]
fn a_call_after_the_told_wait_is_admitted_and_just_before_it_is_not() {
    let (mut service, mut upstream, clock) = limited();
    for _ in 0..2 {
        call_answered(&mut service, &mut upstream);
    }
    let wait = call_refused(&mut service, &mut upstream).unwrap();
    clock.advance(wait - Duration::from_nanos(1));
    call_refused(&mut service, &mut upstream);
    clock.advance(Duration::from_nanos(1));
    call_answered(&mut service, &mut upstream);
}

#[test]
fn readiness_is_the_inner_services_and_costs_nothing() {
    let (mut service, mut upstream, _clock) = limited();
    upstream.allow(0);
    assert_pending!(service.poll_ready());
    upstream.allow(2);
    assert!(service.is_woken());
    let mut clones: Vec<_> = (0..5).map(|_| service.clone()).collect();
    for clone in &mut clones {
        let _ = clone.poll_ready();
    }
    drop(clones);
    call_answered(&mut service, &mut upstream);
    call_answered(&mut service, &mut upstream);
}

#[test]
fn a_used_up_quota_is_still_ready() {
    let (mut service, mut upstream, _clock) = limited();
    for _ in 0..2 {
        call_answered(&mut service, &mut upstream);
    }
    assert_ready_ok!(service.poll_ready());
}

#[test]
fn clones_draw_on_one_quota() {
    let (mut service, mut upstream, _clock) = limited();
    let mut clone = service.clone();
    call_answered(&mut service, &mut upstream);
    call_answered(&mut clone, &mut upstream);
    call_refused(&mut service, &mut upstream);
    call_refused(&mut clone, &mut upstream);
}

#[test]
fn a_dropped_call_has_cost_its_unit() {
    let clock = ManualClock::new();
    let limiter = RateLimiter::with_clock(quota(), clock);
    let service = RateLimit::new(
        service_fn(|()| pending::<Result<(), Infallible>>()),
        limiter,
    );
    for _ in 0..2 {
        let mut call = task::spawn(service.clone().oneshot(()));
        assert_pending!(call.poll());
    }
    let mut call = task::spawn(service.oneshot(()));
    assert!(matches!(assert_ready_err!(call.poll()), Error::Limited(_)));
}

/// `ConcurrencyLimit` panics when a clone that was not polled ready is called.
#[test]
fn the_service_that_was_polled_ready_is_the_one_called() {
    let limiter = RateLimiter::with_clock(quota(), ManualClock::new());
    let inner = ConcurrencyLimit::new(service_fn(|()| ready(Ok::<_, Infallible>(1))), 1);
    let mut service = task::spawn(RateLimit::new(inner, limiter));
    for _ in 0..2 {
        assert_ready_ok!(service.enter(|cx, mut service| service.poll_ready(cx)));
        let mut call = task::spawn(service.enter(|_, mut service| service.call(())));
        assert_ready_ok!(call.poll());
    }
}

#[test]
fn inner_errors_and_refusals_keep_their_type() {
    let limiter = RateLimiter::with_clock(Quota::per_second(1).unwrap(), ManualClock::new());
    let service = RateLimit::new(
        service_fn(|()| ready(Err::<(), _>("down"))),
        limiter.clone(),
    );
    let mut call = task::spawn(service.oneshot(()));
    assert!(matches!(
        assert_ready_err!(call.poll()),
        Error::Inner("down")
    ));

    let limited = limiter.try_acquire().unwrap_err();
    let text = limited.to_string();
    let error: Error<std::io::Error> = Error::from(limited);
    assert_eq!(error.to_string(), text);
}

#[derive(Clone, Debug)]
struct Request {
    tenant: &'static str,
}

#[test]
fn each_key_has_its_own_quota_and_clones_share_them() {
    let clock = ManualClock::new();
    let limiter = KeyedRateLimiter::with_clock(quota(), 100, clock.clone());
    let layer = RateLimitLayer::keyed(limiter, |request: &Request| request.tenant);
    let service = tower::ServiceBuilder::new()
        .layer(layer.clone())
        .service(service_fn(|request: Request| {
            ready(Ok::<_, Infallible>(request.tenant))
        }));
    let call = |tenant| {
        let mut call = task::spawn(service.clone().oneshot(Request { tenant }));
        assert_ready!(call.poll())
    };
    for _ in 0..2 {
        assert_eq!(call("acme").unwrap(), "acme");
    }
    assert!(matches!(call("acme"), Err(Error::Limited(_))));
    assert_eq!(call("umbrella").unwrap(), "umbrella");
    assert_eq!(layer.limit().handle().len(), 2);
    clock.advance(Duration::from_secs(1));
    assert!(call("acme").is_ok());
    assert!(matches!(call("acme"), Err(Error::Limited(_))));
}

#[test]
fn a_keyed_service_is_ready_whenever_the_inner_one_is() {
    let limiter = KeyedRateLimiter::with_clock(quota(), 100, ManualClock::new());
    let layer = RateLimitLayer::keyed(limiter, |request: &&'static str| *request);
    let (mut service, mut upstream) = mock::spawn_layer::<&'static str, &'static str, _>(layer);
    upstream.allow(0);
    assert_pending!(service.poll_ready());
    upstream.allow(3);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call("acme"));
    let (_, respond) = assert_ready!(upstream.poll_request()).unwrap();
    respond.send_response("got");
    assert_ready_ok!(call.poll());
    let shown = format!("{:?}", service.get_ref());
    assert!(
        shown.starts_with("RateLimit") && shown.contains("Keyed"),
        "{shown}"
    );
}

#[test]
fn a_leased_limit_is_a_limit_too() {
    let quota = Quota::per_second(1).unwrap().burst(10).unwrap();
    let limiter = LeasedRateLimiter::with_clock(quota, 2, 2, ManualClock::new()).unwrap();
    let layer = RateLimitLayer::new(limiter);
    let service = layer.layer(service_fn(|()| ready(Ok::<_, Infallible>(()))));
    let call = || {
        let mut call = task::spawn(service.clone().oneshot(()));
        assert_ready!(call.poll())
    };
    let admitted = (0..20).filter(|_| call().is_ok()).count();
    // Of the burst, what threads may hold (2 × 2) is perhaps not for this one.
    assert!((6..=10).contains(&admitted), "{admitted}");
    assert!(matches!(call(), Err(Error::Limited(limited)) if limited.retry_after.is_some()));
}

#[test]
fn a_call_takes_the_cost_that_its_request_says() {
    let limiter = RateLimiter::with_clock(quota(), ManualClock::new());
    let layer = RateLimitLayer::new(limiter.clone()).cost(|n: &u32| *n);
    let service = layer.layer(service_fn(|n: u32| ready(Ok::<_, Infallible>(n))));
    let call = |n| {
        let mut call = task::spawn(service.clone().oneshot(n));
        assert_ready!(call.poll())
    };
    assert_eq!(call(2).unwrap(), 2);
    assert_eq!(limiter.snapshot().remaining, 0);
    assert!(call(1).is_err());
    assert_eq!(call(0).unwrap(), 0);
    let Err(Error::Limited(limited)) = call(3) else {
        panic!("it costs more than the burst");
    };
    assert_eq!(limited.retry_after, None);
}

#[test]
fn costs_of_costs_multiply() {
    let twelve = Quota::per_second(1).unwrap().burst(12).unwrap();
    let limiter = RateLimiter::with_clock(twelve, ManualClock::new());
    let layer = RateLimitLayer::new(limiter.clone());
    let layer = layer.cost(|n: &u32| *n).cost(|_: &u32| 2);
    let service = layer.layer(service_fn(|n: u32| ready(Ok::<_, Infallible>(n))));
    let mut call = task::spawn(service.oneshot(3));
    assert_ready_ok!(call.poll());
    assert_eq!(limiter.snapshot().remaining, 6);
}

#[test]
fn all_of_several_limits_or_none() {
    let clock = ManualClock::new();
    let tenants = KeyedRateLimiter::with_clock(quota(), 100, clock.clone());
    let three = Quota::per_minute(3).unwrap();
    let everybody = RateLimiter::with_clock(three, clock.clone());
    let limits = All::of((
        Keyed::new(tenants.clone(), |request: &Request| request.tenant),
        everybody.clone(),
    ));
    let service = RateLimitLayer::new(limits).layer(service_fn(|request: Request| {
        ready(Ok::<_, Infallible>(request.tenant))
    }));
    let call = |tenant| {
        let mut call = task::spawn(service.clone().oneshot(Request { tenant }));
        assert_ready!(call.poll())
    };
    assert!(call("acme").is_ok() && call("acme").is_ok());
    for _ in 0..10 {
        assert!(matches!(call("acme"), Err(Error::Limited(_))));
    }
    assert_eq!(everybody.snapshot().remaining, 1);
    assert!(call("umbrella").is_ok());
    // Now all of them are used up, and the longest wait is told.
    let Err(Error::Limited(limited)) = call("umbrella") else {
        panic!("the limit on all is used up");
    };
    assert_eq!(limited.retry_after, Some(Duration::from_secs(20)));
    assert_eq!(tenants.peek(&"umbrella", 0).unwrap().remaining, 1);
}

#[test]
fn a_request_without_a_required_key_is_refused() {
    let tenants = KeyedRateLimiter::with_clock(quota(), 100, ManualClock::new());
    let key = required(|name: &&'static str| name.chars().next());
    let layer = RateLimitLayer::keyed(tenants.clone(), key);
    let service = layer.layer(service_fn(|_: &'static str| ready(Ok::<_, Infallible>(()))));
    let call = |name| {
        let mut call = task::spawn(service.clone().oneshot(name));
        assert_ready!(call.poll())
    };
    assert!(call("acme").is_ok());
    let error = call("").unwrap_err();
    assert!(matches!(error, Error::NoKey(_)));
    assert_eq!(error.to_string(), "the request has no key to be counted by");
    assert_eq!(tenants.len(), 1);
}

#[test]
fn a_call_that_did_not_count_is_given_back_with_its_cost() {
    let limiter = RateLimiter::with_clock(
        Quota::per_second(1).unwrap().burst(5).unwrap(),
        ManualClock::new(),
    );
    let layer = RateLimitLayer::new(limiter.clone())
        .cost(|n: &u32| *n)
        .refund_if(|result: Result<&u32, &&str>| matches!(result, Err(&"not sent")));
    let service = layer.layer(service_fn(|n: u32| {
        ready(match n {
            3 => Err("not sent"),
            2 => Err("sent"),
            n => Ok(n),
        })
    }));
    let call = |n| {
        let mut call = task::spawn(service.clone().oneshot(n));
        assert_ready!(call.poll())
    };
    for (cost, remaining) in [(3, 5), (2, 3), (1, 2)] {
        let _ = call(cost);
        assert_eq!(limiter.snapshot().remaining, remaining, "after {cost}");
    }
    // Refused, and so there is nothing to give back.
    assert!(matches!(call(3), Err(Error::Limited(_))));
    assert_eq!(limiter.snapshot().remaining, 2);
}
