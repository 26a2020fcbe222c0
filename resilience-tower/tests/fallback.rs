//! The fallback layer over a mock upstream.
#![cfg(all(feature = "fallback", feature = "http"))]

use std::cell::Cell;
use std::error::Error as _;
use std::future::{Ready, pending, ready};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use http::{Request, Response, StatusCode};
use proptest::prelude::*;
use resilience_core::breaker::{CircuitBreaker, Outcome, classify_fn};
use resilience_tower::breaker::{self, BreakerLayer};
use resilience_tower::fallback::{Answer, Error, Failed, FallbackLayer, FellBack, Reason};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;

/// `Ok` for even numbers.
fn even() -> impl Service<u32, Response = u32, Error = u32, Future: Send> + Clone {
    service_fn(|n: u32| ready(if n.is_multiple_of(2) { Ok(n) } else { Err(n) }))
}

#[tokio::test]
async fn a_value_answers_for_a_failed_call_and_for_no_other() {
    let layer = FallbackLayer::value(100_u32);
    let service = layer.layer(even());
    assert_eq!(service.clone().oneshot(2).await.unwrap(), 2);
    assert_eq!(service.oneshot(3).await.unwrap(), 100);
    assert_eq!(layer.handle().snapshot().failure, 1);
}

#[tokio::test]
async fn a_function_is_told_the_reason_and_what_was_kept_of_the_request() {
    let layer = FallbackLayer::function_of(
        |n: &u32| n * 10,
        async |kept, reason| {
            assert_eq!(reason, Reason::Failure);
            Ok::<_, ()>(kept)
        },
    );
    assert_eq!(layer.layer(even()).oneshot(3).await.unwrap(), 30);
}

#[tokio::test]
async fn a_fallback_that_fails_answers_its_own_error_with_the_first_as_source() {
    let layer =
        FallbackLayer::function(async |_| Err::<(), _>(io::Error::other("the cache is empty")));
    let service = layer.layer(service_fn(|(): ()| {
        ready(Err::<(), _>(io::Error::other("no route")))
    }));
    let error = service.oneshot(()).await.unwrap_err();
    assert_eq!(error.to_string(), "the fallback failed: the cache is empty");
    assert_eq!(error.source().unwrap().to_string(), "no route");
    let Error::Fallback(failed) = error else {
        panic!("not the inner error alone");
    };
    assert_eq!(failed.reason.as_str(), "failure");
    let snapshot = layer.handle().snapshot();
    assert_eq!((snapshot.failure, snapshot.failed), (1, 1));
}

#[tokio::test]
async fn the_classifier_of_the_breaker_says_what_falls_back() {
    let hour = Duration::from_secs(3_600);
    for (outcome, reason) in [
        (Outcome::Success, None),
        (Outcome::Ignored, None),
        (Outcome::Failure, Some(Reason::Failure)),
        (
            Outcome::Overloaded {
                retry_after: Some(hour),
            },
            Some(Reason::Overloaded {
                retry_after: Some(hour),
            }),
        ),
    ] {
        for answer in [Ok(1), Err(2)] {
            let seen = Rc::new(Cell::new(None));
            let sees = Rc::clone(&seen);
            let layer = FallbackLayer::function(move |reason| {
                sees.set(Some(reason));
                ready(Ok::<_, ()>(9))
            });
            let layer = layer.classify(classify_fn(move |_: Result<&u32, &u32>| outcome));
            let service = layer.layer(service_fn(move |(): ()| ready(answer)));
            let result = service.oneshot(()).await;
            let expected = if reason.is_some() { Ok(9) } else { answer };
            assert_eq!(
                result.map_err(|error| match error {
                    Error::Inner(error) => error,
                    error => panic!("{error:?}"),
                }),
                expected
            );
            assert_eq!(seen.get(), reason);
            assert_eq!(
                reason.and_then(Reason::retry_after),
                seen.get().and_then(Reason::retry_after)
            );
        }
    }
}

/// An ignored refusal of a breaker passes; one that counts as a failure falls back.
#[tokio::test]
async fn a_refusal_of_a_breaker_within_falls_back_unless_it_is_ignored() {
    let breaker = CircuitBreaker::new("payments");
    breaker.set_mode(resilience_core::breaker::Mode::ForcedOpen);
    let refused = BreakerLayer::from_handle(breaker).layer(even());
    let layer = FallbackLayer::value(7_u32);
    assert_eq!(layer.layer(refused.clone()).oneshot(2).await.unwrap(), 7);
    let ignores = classify_fn(|result: Result<&u32, &breaker::Error<u32>>| match result {
        Err(breaker::Error::Rejected(_)) => Outcome::Ignored,
        Err(_) => Outcome::Failure,
        Ok(_) => Outcome::Success,
    });
    let passed = layer.classify(ignores).layer(refused).oneshot(2).await;
    assert!(matches!(
        passed,
        Err(Error::Inner(breaker::Error::Rejected(_)))
    ));
}

/// Tells the status that it replaces.
#[derive(Clone)]
struct Instead;

impl Answer<Request<()>, Response<String>, io::Error> for Instead {
    type Kept = ();
    type Error = io::Error;
    type Future = Ready<io::Result<Response<String>>>;

    fn keep(&self, _: &Request<()>) {}

    fn answer(&self, (): (), failed: Failed<'_, Response<String>, io::Error>) -> Self::Future {
        let status = failed.result.map(Response::status).ok();
        ready(Ok(Response::new(format!("instead of {status:?}"))))
    }
}

#[tokio::test]
async fn over_http_the_reason_is_in_the_extensions_of_the_fallback_alone() {
    let service = FallbackLayer::of(Instead)
        .http()
        .layer(service_fn(|request: Request<()>| {
            let mut response = Response::new(String::from("own"));
            match request.uri().path() {
                "/busy" => {
                    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                    response.headers_mut().insert("retry-after", 7.into());
                }
                "/broken" => *response.status_mut() = StatusCode::BAD_GATEWAY,
                "/missing" => *response.status_mut() = StatusCode::NOT_FOUND,
                _ => return ready(Err(io::Error::other("no route"))),
            }
            ready(Ok(response))
        }));
    let seven = Some(Duration::from_secs(7));
    for (path, body, reason) in [
        ("/missing", "own", None),
        ("/broken", "instead of Some(502)", Some(Reason::Failure)),
        ("/gone", "instead of None", Some(Reason::Failure)),
        (
            "/busy",
            "instead of Some(429)",
            Some(Reason::Overloaded { retry_after: seven }),
        ),
    ] {
        let request = Request::get(path).body(()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.body(), body);
        let marked = response.extensions().get::<FellBack>();
        assert_eq!(marked.map(|marked| marked.reason), reason, "{path}");
    }
}

#[tokio::test]
async fn a_call_that_its_caller_drops_never_falls_back() {
    let layer = FallbackLayer::function(async |_| -> Result<u8, ()> { panic!("fell back") });
    let handle = layer.handle().clone();
    let service = layer.layer(service_fn(|(): ()| pending::<Result<u8, ()>>()));
    let mut call = task::spawn(service.oneshot(()));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!(handle.snapshot(), Default::default());
}

#[tokio::test]
async fn a_fallback_that_is_dropped_under_way_is_counted_as_abandoned() {
    let layer = FallbackLayer::function(|_| pending::<Result<u32, ()>>());
    let mut call = task::spawn(layer.layer(even()).oneshot(3));
    assert_pending!(call.poll());
    assert_eq!(layer.handle().snapshot().abandoned, 0);
    drop(call);
    let snapshot = layer.handle().snapshot();
    assert_eq!(
        (snapshot.failure, snapshot.failed, snapshot.abandoned),
        (1, 0, 1)
    );
}

/// The fallback may need the place that the failed call had.
#[tokio::test]
async fn the_failed_call_is_gone_before_the_fallback_begins() {
    let limited = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(1))
        .service(even());
    let other = limited.clone();
    let layer = FallbackLayer::function(move |_| {
        let mut other = other.clone();
        let free = task::spawn(other.ready()).poll().is_ready();
        ready(Ok::<_, ()>(u32::from(free)))
    });
    let mut call = task::spawn(layer.layer(limited).oneshot(3));
    assert_eq!(assert_ready_ok!(call.poll()), 1);
}

#[tokio::test]
async fn a_service_that_cannot_become_ready_says_so_itself() {
    let (mut service, mut upstream) = mock::spawn_layer::<u8, u8, _>(FallbackLayer::value(1));
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(5));
    assert_pending!(call.poll());
    let (_, respond) = assert_ready!(upstream.poll_request()).unwrap();
    respond.send_error("broken");
    assert_eq!(assert_ready_ok!(call.poll()), 1);
    upstream.send_error("closed");
    let error = assert_ready_err!(service.poll_ready());
    assert_eq!(error.to_string(), "closed");
}

#[tokio::test]
async fn a_way_back_to_the_counts_keeps_nothing_alive() {
    let layer = FallbackLayer::value(1_u32);
    let back = layer.handle().downgrade();
    let service = layer.layer(even());
    drop(layer);
    assert!(back().is_some());
    drop(service);
    assert!(back().is_none());
}

#[test]
fn calls_and_fallbacks_allocate_nothing() {
    let mut service =
        FallbackLayer::function(|_| ready(Ok::<_, ()>(1))).layer(service_fn(|n: u32| {
            ready(if n.is_multiple_of(2) { Ok(n) } else { Err(n) })
        }));
    let mut context = Context::from_waker(Waker::noop());
    let counted = measure(|| {
        for n in 0..1_000 {
            assert!(service.poll_ready(&mut context).is_ready());
            let answer = pin!(service.call(n)).poll(&mut context);
            assert!(matches!(answer, Poll::Ready(Ok(_))));
        }
    });
    assert_eq!(counted.count_total, 0);
}

proptest! {
    /// Model: the first of inner answer and fallback that is an answer, else both errors.
    #[test]
    fn the_answer_is_the_first_there_is(
        inner in prop::result::maybe_ok(0..9_u32, 0..9_u32),
        fallback in prop::result::maybe_ok(10..19_u32, 10..19_u32),
    ) {
        let service = FallbackLayer::function(move |_| ready(fallback))
            .layer(service_fn(move |(): ()| ready(inner)));
        let mut call = task::spawn(service.oneshot(()));
        match (assert_ready!(call.poll()), inner, fallback) {
            (Ok(answer), Ok(own), _) => prop_assert_eq!(answer, own),
            (Ok(answer), Err(_), Ok(other)) => prop_assert_eq!(answer, other),
            (Err(Error::Fallback(failed)), Err(first), Err(error)) => {
                prop_assert_eq!((failed.first, failed.error), (Some(first), error));
            }
            (answer, ..) => prop_assert!(false, "{:?}", answer),
        }
    }
}
