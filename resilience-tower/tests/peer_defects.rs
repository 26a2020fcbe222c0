//! What breaker layers of other libraries get wrong, one test each, named after what ours does
//! instead. The rules of the breaker itself are tested beside it.
#![cfg(all(feature = "breaker", feature = "http"))]

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, Pending, Ready, pending, ready};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Response, StatusCode};
use resilience_core::breaker::{CircuitBreaker, Config, State};
use resilience_core::clock::ManualClock;
use resilience_tower::breaker::{Breaker, BreakerLayer, Error};
use tower::{Layer, Service};

const RESET: Duration = Duration::from_secs(30);

/// Opens at the first failure.
fn fragile() -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let config = Config::builder()
        .failure_rate(None)
        .consecutive_failures(1)
        .half_open_permits(1)
        .reset_timeout(RESET);
    let config = config.build().unwrap();
    let breaker = CircuitBreaker::with_clock("payments", config, clock.clone());
    (breaker, clock)
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Answers with the status that is asked for.
#[derive(Clone)]
struct Web;

impl Service<StatusCode> for Web {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, status: StatusCode) -> Self::Future {
        let mut response = Response::new(String::new());
        *response.status_mut() = status;
        ready(Ok(response))
    }
}

fn call<S: Service<StatusCode>>(service: &mut S, status: StatusCode) -> bool {
    assert!(service.poll_ready(&mut context()).is_ready());
    let call = pin!(service.call(status));
    matches!(call.poll(&mut context()), Poll::Ready(Ok(_)))
}

// Default classifiers elsewhere look at `Ok` and `Err` only: an upstream that answers nothing but
// 500 is in perfect health.
#[test]
fn an_upstream_that_answers_500_opens_the_breaker() {
    for status in [500, 502, 503, 504, 429] {
        let (breaker, _) = fragile();
        let layer = BreakerLayer::from_handle(breaker.clone()).http();
        let mut service = layer.layer(Web);
        assert!(call(&mut service, StatusCode::from_u16(status).unwrap()));
        assert_eq!(breaker.state(), State::Open, "{status}");
        assert!(!call(&mut service, StatusCode::OK));
    }
}

#[test]
fn a_request_that_was_wrong_does_not_open_the_breaker() {
    for status in [200, 304, 400, 401, 404, 409, 422] {
        let (breaker, _) = fragile();
        let mut service = BreakerLayer::from_handle(breaker.clone()).http().layer(Web);
        assert!(call(&mut service, StatusCode::from_u16(status).unwrap()));
        assert_eq!(breaker.state(), State::Closed, "{status}");
    }
}

// A peer's layer makes three allocations per call, two of them boxes.
#[test]
fn a_call_through_the_layer_allocates_nothing_admitted_or_refused() {
    let (breaker, _) = fragile();
    let mut service = BreakerLayer::from_handle(breaker.clone()).http().layer(Web);
    let mut thousand = |status| {
        call(&mut service, status);
        let calls = allocation_counter::measure(|| {
            for _ in 0..1_000 {
                call(&mut service, status);
            }
        });
        calls.count_total
    };
    assert_eq!(thousand(StatusCode::OK), 0);
    breaker.try_acquire().unwrap().failure();
    assert_eq!(thousand(StatusCode::OK), 0);
    assert_eq!(breaker.snapshot().rejected, 1_001);
}

/// Never answers.
#[derive(Clone)]
struct Silent;

impl Service<()> for Silent {
    type Response = ();
    type Error = Infallible;
    type Future = Pending<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        pending()
    }
}

fn client_leaves(service: &mut Breaker<Silent>) {
    assert!(service.poll_ready(&mut context()).is_ready());
    let call = pin!(service.call(()));
    assert!(call.poll(&mut context()).is_pending());
}

// Five clients that hang up open a peer's breaker.
#[test]
fn clients_that_hang_up_do_not_open_the_breaker() {
    let (breaker, _) = fragile();
    let mut service = Breaker::new(Silent, breaker.clone());
    (0..100).for_each(|_| client_leaves(&mut service));
    assert_eq!(breaker.state(), State::Closed);
}

// Where the future keeps the permit until it is polled again, the only probe is lost for good.
#[test]
fn a_client_that_hangs_up_on_the_only_probe_gives_it_back() {
    let (breaker, clock) = fragile();
    let mut service = Breaker::new(Silent, breaker.clone());
    breaker.try_acquire().unwrap().failure();
    clock.advance(RESET);
    client_leaves(&mut service);
    assert_eq!(breaker.state(), State::HalfOpen);
    breaker.try_acquire().unwrap().success();
    assert_eq!(breaker.state(), State::Closed);
}

// Peers take the permit in `poll_ready`: a service that is ready and never called then sits on it.
#[test]
fn readiness_holds_no_permit_and_is_not_refused() {
    let (breaker, clock) = fragile();
    breaker.try_acquire().unwrap().failure();
    let service = Breaker::new(Web, breaker.clone());
    let mut clones: Vec<_> = (0..10).map(|_| service.clone()).collect();
    for clone in &mut clones {
        let ready = Service::<StatusCode>::poll_ready(clone, &mut context());
        assert!(matches!(ready, Poll::Ready(Ok(()))));
    }
    clock.advance(RESET);
    assert_eq!(breaker.snapshot().permits_out, 0);
    assert!(call(&mut clones[9], StatusCode::OK));
    assert_eq!(breaker.state(), State::Closed);
}

/// Panics when called without having been ready, as `ConcurrencyLimit` does.
struct Strict {
    ready: bool,
    calls: Rc<RefCell<u32>>,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self {
            ready: false,
            calls: Rc::clone(&self.calls),
        }
    }
}

impl Service<StatusCode> for Strict {
    type Response = ();
    type Error = &'static str;
    type Future = Ready<Result<(), &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, status: StatusCode) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called without being ready"
        );
        *self.calls.borrow_mut() += 1;
        ready(if status.is_success() {
            Ok(())
        } else {
            Err("bad")
        })
    }
}

// Peers call a clone of the inner service, which was never polled ready.
#[test]
fn the_service_that_was_ready_is_the_one_that_is_called() {
    let (breaker, _) = fragile();
    let calls = Rc::default();
    let strict = Strict {
        ready: false,
        calls: Rc::clone(&calls),
    };
    let mut service = Breaker::new(strict, breaker);
    assert!(call(&mut service, StatusCode::OK));
    assert!(call(&mut service.clone(), StatusCode::OK));
    assert_eq!(*calls.borrow(), 2);
}

#[test]
fn a_refused_call_never_reaches_the_inner_service() {
    let (breaker, _) = fragile();
    let calls = Rc::default();
    let strict = Strict {
        ready: false,
        calls: Rc::clone(&calls),
    };
    let mut service = Breaker::new(strict, breaker);
    assert!(!call(&mut service, StatusCode::BAD_GATEWAY));
    for _ in 0..10 {
        assert!(service.poll_ready(&mut context()).is_ready());
        let answer = pin!(service.call(StatusCode::OK)).poll(&mut context());
        let Poll::Ready(Err(Error::Rejected(rejected))) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(rejected.retry_after(), RESET);
    }
    assert_eq!(*calls.borrow(), 1);
}
