//! The retry layer over a mock upstream, on tokio's paused clock.
#![cfg(feature = "retry")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use resilience_core::breaker::{Outcome, classify_fn};
use resilience_core::retry::{Backoff, BudgetConfig, Config, Jitter, RetryBudget, RetryPolicy};
use resilience_tower::retry::RetryLayer;
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;

const MS: Duration = Duration::from_millis(1);

fn policy(attempts: u32, burst: u32) -> RetryPolicy {
    let backoff = Backoff::new(100 * MS, Duration::from_secs(1)).unwrap();
    let config = Config::builder().max_attempts(attempts);
    let config = config.backoff(backoff.jitter(Jitter::None)).build();
    let budget = BudgetConfig::new(0.0, 0).unwrap().burst(burst).unwrap();
    RetryPolicy::new(config.unwrap(), RetryBudget::new(budget))
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_is_tried_again_after_its_wait_and_not_before() {
    let (mut service, mut upstream) =
        mock::spawn_layer::<u8, u8, _>(RetryLayer::new(policy(3, 10)));
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(7));
    assert_pending!(call.poll());
    let (request, respond) = assert_ready!(upstream.poll_request()).unwrap();
    assert_eq!(request, 7);
    respond.send_error("broken");
    assert_pending!(call.poll());
    advance(99 * MS).await;
    assert_pending!(call.poll());
    assert_pending!(upstream.poll_request());
    advance(2 * MS).await;
    assert!(call.is_woken());
    assert_pending!(call.poll());
    let (request, respond) = assert_ready!(upstream.poll_request()).unwrap();
    assert_eq!(request, 7);
    respond.send_response(9);
    assert_eq!(assert_ready_ok!(call.poll()), 9);
}

/// Fails `failures` times, and then echoes.
fn failing(
    failures: u32,
) -> (
    impl Service<u32, Response = u32, Error = u32, Future: Send> + Clone,
    Arc<AtomicU32>,
) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let service = service_fn(move |request: u32| {
        let call = counted.fetch_add(1, Ordering::Relaxed) + 1;
        std::future::ready(if call > failures {
            Ok(request)
        } else {
            Err(call)
        })
    });
    (service, calls)
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_is_the_answer_when_all_attempts_are_made() {
    let (service, calls) = failing(9);
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(policy(3, 10)))
        .service(service);
    let began = Instant::now();
    assert_eq!(service.oneshot(1).await, Err(3));
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    let waited = began.elapsed();
    assert!((300 * MS..310 * MS).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_succeeds_at_once_waits_for_nothing_and_pays_nothing() {
    let (service, calls) = failing(0);
    let layer = RetryLayer::new(policy(3, 10));
    let budget = layer.policy().budget().clone();
    let began = Instant::now();
    let service = ServiceBuilder::new().layer(layer).service(service);
    assert_eq!(service.oneshot(4).await, Ok(4));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert_eq!(
        (began.elapsed(), budget.snapshot().balance),
        (Duration::ZERO, 10)
    );
}

#[tokio::test(start_paused = true)]
async fn clones_of_a_service_share_the_budget_and_a_spent_one_ends_all_retries() {
    let (service, calls) = failing(u32::MAX);
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(policy(100, 3)))
        .service(service);
    assert_eq!(service.clone().oneshot(1).await, Err(4));
    assert_eq!(service.oneshot(1).await, Err(5));
    assert_eq!(calls.load(Ordering::Relaxed), 5);
}

#[tokio::test(start_paused = true)]
async fn the_classifier_says_what_is_tried_again_and_when() {
    let classifier = classify_fn(|result: Result<&u32, &u32>| match result {
        Err(1) => Outcome::Overloaded {
            retry_after: Some(Duration::from_secs(5)),
        },
        Err(2) => Outcome::Ignored,
        _ => Outcome::Success,
    });
    let (service, calls) = failing(9);
    let layer = RetryLayer::new(policy(9, 9)).classify(classifier);
    let service = ServiceBuilder::new().layer(layer).service(service);
    let began = Instant::now();
    assert_eq!(
        service.oneshot(1).await,
        Err(2),
        "what is ignored is an answer"
    );
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    let waited = began.elapsed();
    assert!((5100 * MS..5110 * MS).contains(&waited), "{waited:?}");
}

// `ConcurrencyLimit` panics when a clone is called that was not polled ready.
#[tokio::test(start_paused = true)]
async fn every_attempt_goes_to_a_service_that_was_polled_ready() {
    let (service, calls) = failing(2);
    let mut service = ServiceBuilder::new()
        .layer(RetryLayer::new(policy(3, 10)))
        .layer(ConcurrencyLimitLayer::new(1))
        .service(service);
    for answer in [5, 6] {
        let ready = service.ready().await.unwrap();
        assert_eq!(ready.call(answer).await, Ok(answer));
    }
    assert_eq!(calls.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_to_become_ready_again_ends_the_call() {
    let (mut service, mut upstream) =
        mock::spawn_layer::<u8, u8, _>(RetryLayer::new(policy(3, 10)));
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(7));
    let (_, respond) = assert_ready!(upstream.poll_request()).unwrap();
    respond.send_error("broken");
    assert_pending!(call.poll());
    upstream.send_error("closed");
    advance(101 * MS).await;
    let error = assert_ready_err!(call.poll());
    assert_eq!(error.to_string(), "closed");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_while_it_waits_is_not_tried_again() {
    let (service, calls) = failing(9);
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(policy(9, 9)))
        .service(service);
    let mut call = task::spawn(service.oneshot(1));
    assert_pending!(call.poll());
    drop(call);
    advance(Duration::from_secs(60)).await;
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

/// Counts its clones.
#[derive(Debug, Default)]
struct Counted(Arc<AtomicU32>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_tried_only_once_is_not_cloned() {
    for (attempts, clones) in [(1, 0), (2, 1)] {
        let service = service_fn(async |_: Counted| Ok::<_, ()>(()));
        let layer = RetryLayer::new(policy(attempts, 9));
        let service = ServiceBuilder::new().layer(layer).service(service);
        let request = Counted::default();
        let count = Arc::clone(&request.0);
        service.oneshot(request).await.unwrap();
        assert_eq!(count.load(Ordering::Relaxed), clones, "{attempts}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_request_is_tried_only_once_is_not_cloned() {
    for (attempts, clones) in [(1, 0), (2, 1)] {
        let counted = Counted::default();
        let count = Arc::clone(&counted.0);
        let service = service_fn(move |_: u8| {
            let _ = &counted;
            std::future::ready(Ok::<_, ()>(()))
        });
        let layer = RetryLayer::new(policy(attempts, 9));
        let service = ServiceBuilder::new().layer(layer).service(service);
        service.oneshot(7).await.unwrap();
        assert_eq!(count.load(Ordering::Relaxed), clones, "{attempts}");
    }
}
