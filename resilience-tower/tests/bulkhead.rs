//! The bulkhead layers over a mock upstream, on tokio's paused clock.
#![cfg(feature = "bulkhead")]

use std::time::Duration;

use resilience_core::bulkhead::{Bulkhead, Config, Priority, Reason};
use resilience_core::clock::{Clock, SharedClock};
use resilience_tower::bulkhead::{BulkheadLayer, Error};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;

const SECOND: Duration = Duration::from_secs(1);

/// Tokio's clock, which the tests move.
#[derive(Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

fn bulkhead(limit: u32, max_queue: usize) -> Bulkhead {
    let config = Config::builder().limit(limit).max_queue(max_queue);
    let config = config.max_wait(10 * SECOND).build().unwrap();
    Bulkhead::with_clock(config, SharedClock::new(TokioClock(Instant::now())))
}

fn reason<T, E>(result: Result<T, Error<E>>) -> Option<Reason> {
    match result {
        Err(Error::Refused(refused)) => Some(refused.reason),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_above_the_limit_is_refused_until_another_has_its_answer() {
    let layer = BulkheadLayer::new(bulkhead(1, 9));
    let (mut service, mut upstream) = mock::spawn_layer::<u8, u8, _>(layer);
    assert_ready_ok!(service.poll_ready());
    let mut first = task::spawn(service.call(1));
    assert_pending!(first.poll());
    assert_ready_ok!(service.poll_ready());
    assert_eq!(reason(service.call(2).await), Some(Reason::Full));
    let (_, respond) = assert_ready!(upstream.poll_request()).unwrap();
    respond.send_response(7);
    assert_eq!(assert_ready_ok!(first.poll()), 7);
    // Not only when the future is dropped.
    let mut third = task::spawn(service.call(3));
    assert_pending!(third.poll());
    let (request, _) = assert_ready!(upstream.poll_request()).unwrap();
    assert_eq!(request, 3, "the second never reached the upstream");
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_gives_its_place_back() {
    let bulkhead = bulkhead(1, 0);
    let layer = BulkheadLayer::new(bulkhead.clone());
    let service = layer_over_pending(&layer);
    let call = task::spawn(service.clone().oneshot(()));
    drop(call);
    let mut call = task::spawn(service.clone().oneshot(()));
    assert_pending!(call.poll());
    assert_eq!(bulkhead.snapshot().in_flight, 1);
    drop(call);
    assert_eq!(bulkhead.snapshot().in_flight, 0);
}

fn layer_over_pending<L>(layer: &L) -> L::Service
where
    L: tower::Layer<Pending>,
{
    layer.layer(Pending)
}

/// Never answers.
#[derive(Clone, Debug)]
struct Pending;

impl Service<()> for Pending {
    type Response = ();
    type Error = std::io::Error;
    type Future = std::future::Pending<Result<(), std::io::Error>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        std::future::pending()
    }
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_is_ready_and_never_called_holds_nothing() {
    let bulkhead = bulkhead(1, 0);
    let service = layer_over_pending(&BulkheadLayer::new(bulkhead.clone()));
    let mut clones: Vec<_> = (0..10).map(|_| service.clone()).collect();
    for clone in &mut clones {
        clone.ready().await.unwrap();
    }
    assert_eq!(bulkhead.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_in_line_for_its_turn() {
    let layer = BulkheadLayer::new(bulkhead(1, 9)).wait();
    let (mut service, mut upstream) = mock::spawn_layer::<u8, u8, _>(layer);
    let mut first = task::spawn(service.call(1));
    let mut second = task::spawn(service.call(2));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    let (request, respond) = assert_ready!(upstream.poll_request()).unwrap();
    assert_eq!(request, 1);
    assert_pending!(upstream.poll_request());
    respond.send_response(7);
    assert_eq!(assert_ready_ok!(first.poll()), 7);
    assert!(second.is_woken());
    assert_pending!(second.poll());
    let (request, respond) = assert_ready!(upstream.poll_request()).unwrap();
    assert_eq!(request, 2);
    respond.send_error("broken");
    let error = assert_ready_err!(second.poll());
    assert!(matches!(error, Error::Inner(_)));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_takes_too_long_is_refused_in_time() {
    let bulkhead = bulkhead(1, 9);
    let _running = bulkhead.try_acquire_owned().unwrap();
    let service = layer_over_pending(&BulkheadLayer::new(bulkhead.clone()).wait());
    let began = Instant::now();
    assert_eq!(reason(service.oneshot(()).await), Some(Reason::Deadline));
    let waited = began.elapsed();
    assert!((10 * SECOND..11 * SECOND).contains(&waited), "{waited:?}");
    assert_eq!(bulkhead.snapshot().queued, 0);
}

#[tokio::test(start_paused = true)]
async fn the_priority_is_that_of_the_request() {
    let bulkhead = bulkhead(1, 2);
    let running = bulkhead.try_acquire_owned().unwrap();
    let layer = BulkheadLayer::new(bulkhead.clone()).wait();
    let layer = layer.priority(|request: &u8| match request {
        0 => Priority::Low,
        _ => Priority::High,
    });
    let echo = service_fn(async |request: u8| Ok::<_, std::io::Error>(request));
    let service = ServiceBuilder::new().layer(layer).service(echo);
    let mut calls: Vec<_> = [0, 0, 1]
        .map(|request| task::spawn(service.clone().call(request)))
        .into();
    for call in &mut calls {
        let _ = call.poll();
    }
    // The last of the low ones gave its place to the high one.
    assert_eq!(
        reason(assert_ready!(calls[1].poll())),
        Some(Reason::Displaced)
    );
    drop(running);
    assert_pending!(calls[0].poll());
    assert_eq!(assert_ready_ok!(calls[2].poll()), 1);
    assert_eq!(assert_ready_ok!(calls[0].poll()), 0);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_leaves_no_gap() {
    let bulkhead = bulkhead(1, 9);
    let running = bulkhead.try_acquire_owned().unwrap();
    let service = layer_over_pending(&BulkheadLayer::new(bulkhead.clone()).wait());
    let mut calls: Vec<_> = (0..3)
        .map(|_| task::spawn(service.clone().call(())))
        .collect();
    calls
        .iter_mut()
        .for_each(|call| assert_pending!(call.poll()));
    drop(calls.remove(1));
    assert_eq!(bulkhead.snapshot().queued, 2);
    // A turn that was given and whose caller went away.
    drop(running);
    drop(calls.remove(0));
    assert_pending!(calls[0].poll());
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.queued), (1, 0));
}

// `ConcurrencyLimit` panics when a clone is called that was not polled ready.
#[tokio::test(start_paused = true)]
async fn the_service_that_is_called_was_polled_ready() {
    for waits in [false, true] {
        let echo = service_fn(async |request: u8| Ok::<_, std::io::Error>(request));
        let echo = ServiceBuilder::new()
            .layer(ConcurrencyLimitLayer::new(1))
            .service(echo);
        let layer = BulkheadLayer::new(bulkhead(1, 9));
        let answer = if waits {
            tower::Layer::layer(&layer.wait(), echo).oneshot(5).await
        } else {
            tower::Layer::layer(&layer, echo).oneshot(5).await
        };
        assert_eq!(answer.unwrap(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_given_back_when_the_inner_service_fails_to_become_ready() {
    let bulkhead = bulkhead(1, 9);
    let layer = BulkheadLayer::new(bulkhead.clone()).wait();
    let (mut service, mut upstream) = mock::spawn_layer::<u8, u8, _>(layer);
    upstream.send_error("closed");
    let mut call = task::spawn(service.call(1));
    let error = assert_ready_err!(call.poll());
    assert_eq!(error.to_string(), "closed");
    assert_eq!(bulkhead.snapshot().in_flight, 0);
    advance(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_need_not_wait_allocates_nothing() {
    let echo = service_fn(|request: u8| std::future::ready(Ok::<_, std::io::Error>(request)));
    let mut service = tower::Layer::layer(&BulkheadLayer::new(bulkhead(1, 0)), echo);
    service.ready().await.unwrap();
    let count = allocation_counter::measure(|| {
        for _ in 0..100 {
            let mut call = std::pin::pin!(service.call(1));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(call.as_mut().poll(&mut context).is_ready());
        }
    });
    assert_eq!(count.count_total, 0);
}
