//! What was found wrong with other rate limit layers, and is not to happen here: one test for
//! each, named after the behaviour it forbids.
#![cfg(all(
    feature = "rate-limit",
    feature = "http",
    feature = "client-key",
    feature = "wait"
))]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use resilience_core::clock::ManualClock;
use resilience_core::rate_limit::{KeyedRateLimiter, Quota, RateLimiter};
use resilience_tower::client_key::ClientKeys;
use resilience_tower::rate_limit::wait::Terms;
use resilience_tower::rate_limit::{All, Error, RateLimitLayer, keyed::Keyed};
use tokio_test::{assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::limit::ConcurrencyLimit;
use tower::{Layer, Service};

/// Answers nothing, from no memory.
#[derive(Clone)]
struct Noop;

impl<R> Service<R> for Noop {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: R) -> Self::Future {
        ready(Ok(Response::new(Full::default())))
    }
}

/// Allocations of the second of two calls, with the drop of its response.
fn allocations<S, R>(service: &mut S, request: impl Fn() -> R) -> u64
where
    S: Service<R>,
{
    let mut once = || {
        let mut context = Context::from_waker(Waker::noop());
        assert!(service.poll_ready(&mut context).is_ready());
        assert!(pin!(service.call(request())).poll(&mut context).is_ready());
    };
    once();
    allocation_counter::measure(once).count_total
}

fn plenty() -> Quota {
    Quota::per_second(1_000_000).unwrap()
}

fn one() -> Quota {
    Quota::new(1, Duration::from_secs(50)).unwrap()
}

/// A peer's refusal costs 290 admissions: it formats texts and builds the response's fields one
/// by one, each on the heap.
#[test]
fn a_refusal_does_not_cost_many_times_an_admission() {
    // As an error: nothing, like the admission.
    for quota in [plenty(), one()] {
        let layer = RateLimitLayer::new(RateLimiter::new(quota));
        assert_eq!(allocations(&mut layer.layer(Noop), || ()), 0);
        let keys = KeyedRateLimiter::<u64>::new(quota, 100);
        let layer = RateLimitLayer::keyed(keys.clone(), |(): &()| 7);
        assert_eq!(allocations(&mut layer.layer(Noop), || ()), 0);
        let all = All::of((Keyed::new(keys, |(): &()| 8), RateLimiter::new(quota)));
        let layer = RateLimitLayer::new(all);
        assert_eq!(allocations(&mut layer.layer(Noop), || ()), 0);
    }

    let limiter = RateLimiter::new(plenty());
    let admitted = RateLimitLayer::new(limiter).into_response();
    let refused = RateLimitLayer::new(RateLimiter::new(one())).into_response();
    // The header map (two) and the value of `RateLimit`.
    assert_eq!(allocations(&mut admitted.layer(Noop), || ()), 3);
    // The same, and the extensions (map, table, value). No text, no body, no other value.
    assert_eq!(allocations(&mut refused.layer(Noop), || ()), 6);
}

/// A peer waits for ever for a call that costs more than the bucket ever holds; another tells the
/// client to come back.
#[test]
fn a_cost_above_the_burst_is_neither_waited_for_nor_asked_again() {
    let limiter = || RateLimiter::with_clock(one(), ManualClock::new());
    let cost = |request: &Request<u32>| *request.body();

    let mut service = RateLimitLayer::new(limiter()).cost(cost).layer(Noop);
    let mut call = task::spawn(service.call(Request::new(2)));
    let Error::Limited(limited) = assert_ready_err!(call.poll()) else {
        panic!("limited");
    };
    assert_eq!(limited.retry_after, None);

    let layer = RateLimitLayer::new(limiter()).cost(cost).into_response();
    let mut call = task::spawn(layer.layer(Noop).call(Request::new(2)));
    let response = assert_ready_ok!(call.poll());
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(!response.headers().contains_key("retry-after"));

    let terms = move |request: &Request<u32>| Terms::new().cost(cost(request));
    let mut service = RateLimitLayer::new(limiter())
        .wait(10)
        .terms(terms)
        .layer(Noop);
    let mut call = task::spawn(service.call(Request::new(2)));
    assert!(matches!(assert_ready_err!(call.poll()), Error::Wait(_)));
    // It took nothing, and holds up nobody.
    let mut call = task::spawn(service.call(Request::new(1)));
    assert_ready_ok!(call.poll());
}

/// Peers take the left-most address of `X-Forwarded-For` for the client, or any of several
/// headers: a new quota for each request, to whoever asks for it.
#[test]
fn a_spoofed_header_gives_no_new_quota() {
    const FIELDS: [&str; 5] = [
        "x-forwarded-for",
        "forwarded",
        "x-real-ip",
        "x-client-ip",
        "cf-connecting-ip",
    ];
    // `proxied`: the last proxy has appended the client's address; else the client connects itself.
    for proxied in [false, true] {
        let keys = KeyedRateLimiter::with_clock(one(), 1_000, ManualClock::new());
        let clients = ClientKeys::builder().trust_proxies(["10.0.0.0/8"]);
        let by_client = clients
            .build()
            .unwrap()
            .of(|request: &Request<()>| request.extensions().get::<IpAddr>().copied());
        let layer = RateLimitLayer::keyed(keys.clone(), by_client).into_response();
        let mut service = layer.layer(Noop);
        let mut admitted = 0;
        for n in 0..100 {
            let forged = format!("203.0.113.{n}");
            let mut request = Request::new(());
            for field in FIELDS {
                let value = match field {
                    "forwarded" => format!("for={forged}"),
                    "x-forwarded-for" if proxied => format!("{forged}, 198.51.100.7"),
                    _ => forged.clone(),
                };
                request.headers_mut().insert(field, value.parse().unwrap());
            }
            let peer = match proxied {
                true => Ipv4Addr::new(10, 0, 0, 1),
                false => Ipv4Addr::new(198, 51, 100, 7),
            };
            request.extensions_mut().insert(IpAddr::from(peer));
            let mut call = task::spawn(service.call(request));
            let response = assert_ready_ok!(call.poll());
            admitted += u32::from(response.status() == StatusCode::OK);
        }
        assert_eq!((admitted, keys.len()), (1, 1), "proxied: {proxied}");
    }
}

/// A peer that finds no address fails the request with a 500, or counts nobody.
#[test]
fn requests_without_an_address_are_not_let_through_uncounted() {
    let keys = KeyedRateLimiter::with_clock(one(), 1_000, ManualClock::new());
    let clients = ClientKeys::builder().build().unwrap();
    let layer = RateLimitLayer::keyed(keys, clients.of(|_: &Request<()>| None)).into_response();
    let mut call = task::spawn(layer.layer(Noop).call(Request::new(())));
    assert_eq!(
        assert_ready_ok!(call.poll()).status(),
        StatusCode::FORBIDDEN
    );
}

/// Peers answer `Retry-After: 0` for a wait below a second, which asks for a busy loop, or round
/// down, so that an obedient client is refused again.
#[test]
fn retry_after_is_neither_zero_nor_early() {
    for (millis, seconds) in [(1, "1"), (999, "1"), (1_000, "1"), (1_001, "2")] {
        let quota = Quota::new(1, Duration::from_millis(millis)).unwrap();
        let limiter = RateLimiter::with_clock(quota, ManualClock::new());
        let mut service = RateLimitLayer::new(limiter).into_response().layer(Noop);
        for _ in 0..2 {
            let mut call = task::spawn(service.call(()));
            let response = assert_ready_ok!(call.poll());
            if response.status() != StatusCode::OK {
                assert_eq!(response.headers()["retry-after"], seconds);
            }
        }
    }
}

/// Peers call a clone of the inner service that was never polled ready, which panics in
/// `ConcurrencyLimit`.
#[test]
fn the_inner_service_that_is_called_is_the_one_that_was_ready() {
    let limiter = RateLimiter::new(plenty());
    let inner = ConcurrencyLimit::new(Noop, 1);
    let mut direct = task::spawn(
        RateLimitLayer::new(limiter.clone())
            .into_response()
            .layer(inner.clone()),
    );
    let mut waiting = task::spawn(RateLimitLayer::new(limiter).wait(1).layer(inner));
    for _ in 0..3 {
        let ready = direct.enter(|cx, mut service| Service::<()>::poll_ready(&mut *service, cx));
        assert_ready_ok!(ready);
        let mut call = task::spawn(direct.enter(|_, mut service| service.call(())));
        assert_ready!(call.poll()).unwrap();
        // It holds the only place.
        drop(call);
        let mut call = task::spawn(waiting.enter(|_, mut service| service.call(())));
        assert_ready!(call.poll()).unwrap();
    }
}
