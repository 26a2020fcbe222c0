//! The adaptive layer over a mock upstream.
#![cfg(feature = "adaptive")]

use std::future::{pending, ready};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use resilience_core::adaptive::{AdaptiveLimit, Algorithm, Config};
use resilience_core::breaker::{Outcome, classify_fn};
use resilience_core::clock::ManualClock;
use resilience_tower::adaptive::{AdaptiveLayer, Error};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;

/// Windows of one call and 1 ms.
fn limit(initial: u32) -> (AdaptiveLimit, ManualClock) {
    let clock = ManualClock::new();
    let config = Config::builder().algorithm(Algorithm::Aimd).min_samples(1);
    let config = config.window(Duration::from_millis(1)).min_limit(1);
    let config = config.initial_limit(initial).build().unwrap();
    (AdaptiveLimit::with_clock(config, clock.clone()), clock)
}

#[tokio::test]
async fn a_call_above_the_limit_is_refused_until_another_has_its_answer() {
    let (limit, _) = limit(1);
    let (mut service, mut upstream) = mock::spawn_layer::<u8, u8, _>(AdaptiveLayer::new(limit));
    assert_ready_ok!(service.poll_ready());
    let mut first = task::spawn(service.call(1));
    assert_pending!(first.poll());
    assert_ready_ok!(service.poll_ready());
    let mut second = task::spawn(service.call(2));
    for _ in 0..2 {
        let error = assert_ready_err!(second.poll());
        assert!(matches!(error, Error::Refused(refused) if refused.limit == 1));
    }
    let (_, respond) = assert_ready!(upstream.poll_request()).unwrap();
    respond.send_response(7);
    assert_eq!(assert_ready_ok!(first.poll()), 7);
    // Not only when the future is dropped.
    let mut third = task::spawn(service.call(3));
    assert_pending!(third.poll());
    let (request, respond) = assert_ready!(upstream.poll_request()).unwrap();
    assert_eq!(request, 3, "the second never reached the upstream");
    respond.send_error("broken");
    assert!(matches!(assert_ready_err!(third.poll()), Error::Inner(_)));
    drop(first);
}

#[tokio::test]
async fn the_limit_moves_by_what_the_classifier_says() {
    let refused = || Err(io::Error::other("busy"));
    for (answer, outcome, next) in [
        (Ok(()), Outcome::Success, 3),
        (Ok(()), Outcome::Overloaded { retry_after: None }, 1),
        (refused(), Outcome::Failure, 1),
        (refused(), Outcome::Success, 3),
        (refused(), Outcome::Ignored, 2),
    ] {
        let (limit, clock) = limit(2);
        let classifier = classify_fn(move |_: Result<&(), &io::Error>| outcome);
        let layer = AdaptiveLayer::new(limit.clone()).classify(classifier);
        let answer = || match &answer {
            Ok(()) => Ok(()),
            Err(_) => refused(),
        };
        let mut service = layer.layer(service_fn(|(): ()| ready(answer())));
        // The first window is not judged.
        for _ in 0..2 {
            clock.advance(Duration::from_millis(1));
            let result = service.ready().await.unwrap().call(()).await;
            assert_eq!(result.is_ok(), answer().is_ok());
        }
        let snapshot = limit.snapshot();
        assert_eq!(
            (snapshot.limit, snapshot.in_flight),
            (next, 0),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn by_default_an_error_is_an_overload() {
    let (limit, clock) = limit(10);
    let layer = AdaptiveLayer::new(limit.clone());
    let mut service = layer.layer(service_fn(async |(): ()| {
        Err::<(), _>(io::Error::other("late"))
    }));
    for _ in 0..3 {
        clock.advance(Duration::from_millis(1));
        assert!(service.ready().await.unwrap().call(()).await.is_err());
    }
    assert_eq!(limit.snapshot().limit, 8);
}

#[tokio::test]
async fn a_call_that_is_dropped_gives_its_place_back_and_says_nothing() {
    let (limit, clock) = limit(1);
    let layer = AdaptiveLayer::new(limit.clone());
    let mut service = layer.layer(service_fn(|(): ()| pending::<Result<(), io::Error>>()));
    for polled in [false, true, true, true] {
        clock.advance(Duration::from_secs(9));
        let mut call = task::spawn(service.ready().await.unwrap().call(()));
        if polled {
            assert_pending!(call.poll());
        }
        assert_eq!(limit.snapshot().in_flight, 1);
        drop(call);
        assert_eq!(limit.snapshot().in_flight, 0);
    }
    let snapshot = limit.snapshot();
    assert_eq!((snapshot.windows, snapshot.limit), (0, 1));
}

#[tokio::test]
async fn a_call_that_panics_gives_its_place_back() {
    let (limit, _) = limit(1);
    let layer = AdaptiveLayer::new(limit.clone());
    let mut service = layer.layer(service_fn(async |early: bool| {
        assert!(early, "while it is polled");
        Ok::<_, io::Error>(())
    }));
    let mut call = task::spawn(service.ready().await.unwrap().call(false));
    assert!(catch_unwind(AssertUnwindSafe(|| call.poll())).is_err());
    drop(call);
    assert_eq!(limit.snapshot().in_flight, 0);
    let mut service = layer.layer(service_fn(|(): ()| {
        if limit.snapshot().in_flight > 0 {
            panic!("while it is called");
        }
        ready(Ok::<_, io::Error>(()))
    }));
    let call = AssertUnwindSafe(|| service.call(()));
    assert!(catch_unwind(call).is_err());
    assert_eq!(limit.snapshot().in_flight, 0);
}

#[tokio::test]
async fn a_clone_that_is_ready_and_never_called_holds_nothing_and_shares_the_limit() {
    let (limit, _) = limit(1);
    let layer = AdaptiveLayer::new(limit.clone());
    let service = layer.layer(service_fn(|(): ()| pending::<Result<(), io::Error>>()));
    let mut clones: Vec<_> = (0..10).map(|_| service.clone()).collect();
    for clone in &mut clones {
        clone.ready().await.unwrap();
    }
    assert_eq!(limit.snapshot().in_flight, 0);
    let _running = clones[0].call(());
    let refused = clones[1].call(()).await;
    assert!(matches!(refused, Err(Error::Refused(_))));
    assert_eq!(layer.handle().snapshot().refused, 1);
}

/// A fresh clone of it would panic: it has no permit.
#[tokio::test]
async fn the_inner_service_called_is_the_one_that_was_polled_ready() {
    let (limit, _) = limit(5);
    let mut service = ServiceBuilder::new()
        .layer(AdaptiveLayer::new(limit))
        .layer(ConcurrencyLimitLayer::new(1))
        .service(service_fn(async |word: u8| Ok::<_, io::Error>(word)));
    for word in 0..3 {
        assert_eq!(
            service.ready().await.unwrap().call(word).await.unwrap(),
            word
        );
        let mut clone = service.clone();
        assert_eq!(clone.ready().await.unwrap().call(word).await.unwrap(), word);
    }
}

#[tokio::test]
async fn an_inner_service_that_is_not_ready_or_broken_is_told() {
    let (limit, _) = limit(1);
    let layer = AdaptiveLayer::new(limit.clone());
    let (mut service, mut upstream) = mock::spawn_layer::<u8, u8, _>(layer);
    upstream.allow(0);
    assert_pending!(service.poll_ready());
    upstream.send_error("gone");
    let error = assert_ready_err!(service.poll_ready());
    assert!(matches!(error, Error::Inner(_)));
    assert_eq!(limit.snapshot().in_flight, 0);
}

#[tokio::test]
async fn a_call_allocates_nothing() {
    let (limit, clock) = limit(5);
    let layer = AdaptiveLayer::new(limit.clone());
    let mut service = layer.layer(service_fn(|(): ()| ready(Ok::<_, io::Error>(()))));
    let count = allocation_counter::measure(|| {
        for _ in 0..100 {
            clock.advance(Duration::from_millis(1));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(service.poll_ready(&mut cx).is_ready());
            let call = std::pin::pin!(service.call(()));
            assert!(call.poll(&mut cx).is_ready());
        }
    });
    assert_eq!(count.count_total, 0);
    assert!(limit.snapshot().windows > 50);
}
