//! Calls that wait in line for their turn, on tokio's paused time.
#![cfg(feature = "wait")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use proptest::prelude::*;
use resilience_core::clock::{Clock, SharedClock};
use resilience_core::rate_limit::wait::{WaitReason, WaitRefused};
use resilience_core::rate_limit::{Quota, RateLimiter};
use resilience_tower::rate_limit::wait::{Terms, Wait, WaitLayer};
use resilience_tower::rate_limit::{Error, RateLimitLayer};
use tokio::time::{Instant, timeout};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::limit::ConcurrencyLimit;
use tower::{Layer, Service};
use tower_test::mock;

/// Tokio's time, paused with it.
#[derive(Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

fn limiter(quota: Quota) -> RateLimiter {
    RateLimiter::with_clock(quota, SharedClock::new(TokioClock(Instant::now())))
}

/// One per second, `burst` at once.
fn slow(burst: u32) -> RateLimiter {
    limiter(Quota::per_second(1).unwrap().burst(burst).unwrap())
}

fn layer(limiter: &RateLimiter, max: usize) -> WaitLayer {
    RateLimitLayer::new(limiter.clone()).wait(max)
}

/// Answers with the request, and remembers when each was called.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(u32, Duration)>>>, Option<Instant>);

impl Log {
    fn new() -> Self {
        Self(Arc::default(), Some(Instant::now()))
    }

    fn calls(&self) -> Vec<(u32, Duration)> {
        self.0.lock().unwrap().clone()
    }

    /// The requests with the whole seconds at which they were called.
    fn seconds(&self) -> Vec<(u32, u64)> {
        let calls = self.calls().into_iter();
        calls.map(|(request, at)| (request, at.as_secs())).collect()
    }
}

impl Service<u32> for Log {
    type Response = u32;
    type Error = Infallible;
    type Future = Ready<Result<u32, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        let at = self.1.map_or(Duration::ZERO, |start| start.elapsed());
        self.0.lock().unwrap().push((request, at));
        ready(Ok(request))
    }
}

/// Runs calls at once, in this order, to their end.
async fn run_all(service: &mut Wait<Log>, requests: std::ops::Range<u32>) {
    let calls: Vec<_> = requests.map(|n| tokio::spawn(service.call(n))).collect();
    for call in calls {
        // In virtual time, so a lost waker shows as an error and not as a test that hangs.
        let answer = timeout(Duration::from_secs(3_600), call).await;
        answer.expect("its turn comes").unwrap().unwrap();
    }
}

fn refused<E>(error: Error<E>) -> WaitRefused {
    match error {
        Error::Wait(refused) => refused,
        _ => panic!("refused by the line"),
    }
}

#[tokio::test(start_paused = true)]
async fn calls_above_the_burst_are_called_in_order_when_their_turn_comes() {
    let (limiter, log) = (slow(2), Log::new());
    let mut service = layer(&limiter, 10).layer(log.clone());
    run_all(&mut service, 0..5).await;
    let expected = [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3)];
    assert_eq!(log.seconds(), expected);
}

#[tokio::test(start_paused = true)]
async fn the_order_is_that_of_the_calls_not_of_the_polls() {
    let (limiter, log) = (slow(1), Log::new());
    let mut service = layer(&limiter, 10).layer(log.clone());
    let first = service.call(1);
    let second = service.call(2);
    let third = service.call(3);
    let (third, second, first) = tokio::join!(third, second, first);
    assert!(first.is_ok() && second.is_ok() && third.is_ok());
    assert_eq!(log.seconds(), [(1, 0), (2, 1), (3, 2)]);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_leaves_no_gap() {
    let (limiter, log) = (slow(1), Log::new());
    let mut service = layer(&limiter, 10).layer(log.clone());
    let first = tokio::spawn(service.call(1));
    let second = tokio::spawn(service.call(2));
    let third = tokio::spawn(service.call(3));
    let fourth = tokio::spawn(service.call(4));
    tokio::task::yield_now().await;
    assert_eq!(layer(&limiter, 1).queue().waiting(), 3);
    second.abort();
    third.abort();
    for call in [first, fourth] {
        timeout(Duration::from_secs(60), call)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
    assert_eq!(log.seconds(), [(1, 0), (4, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_came_and_was_dropped_goes_to_the_next() {
    let (limiter, log) = (slow(1), Log::new());
    let mut service = layer(&limiter, 10).layer(log.clone());
    service.call(1).await.unwrap();
    // Both turns come while nobody looks; then the first of the two goes.
    let mut second = task::spawn(service.call(2));
    let mut third = task::spawn(service.call(3));
    assert_pending!(second.poll());
    assert_pending!(third.poll());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_pending!(third.poll());
    drop(second);
    assert!(third.is_woken());
    assert_ready_ok!(third.poll());
    assert_eq!(log.seconds(), [(1, 0), (3, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_never_polled_gives_its_place_up_too() {
    let (limiter, log) = (slow(1), Log::new());
    let mut service = layer(&limiter, 10).layer(log.clone());
    let granted = service.call(1);
    let waiting = service.call(2);
    drop((granted, waiting));
    assert_eq!(limiter.snapshot().remaining, 1);
    run_all(&mut service, 3..5).await;
    assert_eq!(log.seconds(), [(3, 0), (4, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_would_wait_too_long_is_refused_at_once_with_the_time_of_its_turn() {
    let (limiter, log) = (slow(1), Log::new());
    let layer = layer(&limiter, 10).max_wait(Duration::from_secs(2));
    let mut service = layer.layer(log.clone());
    let calls: Vec<_> = (0..3).map(|n| tokio::spawn(service.call(n))).collect();
    let mut late = task::spawn(service.call(9));
    let told = refused(assert_ready_err!(late.poll()));
    assert_eq!(told.reason, WaitReason::Deadline);
    assert_eq!(told.limited.retry_after, Some(Duration::from_secs(3)));
    // Polled again, it is the same refusal.
    assert_eq!(refused(assert_ready_err!(late.poll())), told);
    for call in calls {
        timeout(Duration::from_secs(60), call)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
    // The last of them had its turn exactly at its deadline.
    assert_eq!(log.seconds(), [(0, 0), (1, 1), (2, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_full_line_refuses_at_once() {
    let limiter = slow(1);
    let mut service = layer(&limiter, 2).layer(Log::new());
    let _calls: Vec<_> = (0..3).map(|n| service.call(n)).collect();
    let mut one_more = task::spawn(service.call(9));
    let told = refused(assert_ready_err!(one_more.poll()));
    assert_eq!(told.reason, WaitReason::QueueFull);
    assert_eq!(told.limited.retry_after, Some(Duration::from_secs(3)));
}

#[tokio::test(start_paused = true)]
async fn a_line_without_places_refuses_as_a_limit_does() {
    let (limiter, log) = (slow(1), Log::new());
    let mut service = layer(&limiter, 0).layer(log.clone());
    service.call(1).await.unwrap();
    let told = refused(service.call(2).await.unwrap_err());
    assert_eq!(told.limited.retry_after, Some(Duration::from_secs(1)));
}

/// A peer waits for ever for a call that costs more than the bucket holds.
#[tokio::test(start_paused = true)]
async fn a_cost_above_the_burst_does_not_wait_for_ever() {
    let limiter = slow(2);
    let layer = layer(&limiter, 10).terms(|n: &u32| Terms::new().cost(*n));
    let mut service = layer.layer(Log::new());
    let mut never = task::spawn(service.call(3));
    let told = refused(assert_ready_err!(never.poll()));
    assert_eq!(
        (told.reason, told.limited.retry_after),
        (WaitReason::Cost, None)
    );
}

#[tokio::test(start_paused = true)]
async fn cost_and_deadline_can_come_from_the_request() {
    let (limiter, log) = (slow(3), Log::new());
    let layer = layer(&limiter, 10).terms(|n: &u32| match n {
        0 => Terms::new().cost(0),
        7 => Terms::new().max_wait(Duration::from_secs(1)),
        n => Terms::new().cost(*n).max_wait(None),
    });
    let mut service = layer.layer(log.clone());
    let calls = [3, 2, 0].map(|n| tokio::spawn(service.call(n)));
    let late = service.call(7).await.unwrap_err();
    assert_eq!(
        refused(late).limited.retry_after,
        Some(Duration::from_secs(3))
    );
    for call in calls {
        timeout(Duration::from_secs(60), call)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
    assert_eq!(log.seconds(), [(3, 0), (0, 0), (2, 2)]);
}

#[tokio::test(start_paused = true)]
async fn nobody_overtakes_the_line() {
    let (limiter, log) = (slow(1), Log::new());
    let mut service = layer(&limiter, 10).layer(log.clone());
    service.call(1).await.unwrap();
    let mut waiting = task::spawn(service.call(2));
    assert_pending!(waiting.poll());
    tokio::time::advance(Duration::from_secs(1)).await;
    // The unit is there, and it is not for who comes now.
    let told = limiter.try_acquire().unwrap_err();
    assert_eq!(told.retry_after, Some(Duration::from_secs(1)));
    assert!(waiting.is_woken());
    assert_ready_ok!(waiting.poll());
}

#[tokio::test(start_paused = true)]
async fn a_higher_quota_shortens_the_wait_of_those_in_line() {
    let limiter = limiter(Quota::new(1, Duration::from_secs(100)).unwrap());
    let log = Log::new();
    let mut service = layer(&limiter, 10).layer(log.clone());
    service.call(1).await.unwrap();
    let waiting = tokio::spawn(service.call(2));
    tokio::time::sleep(Duration::from_secs(10)).await;
    limiter.set_quota(Quota::new(1, Duration::from_secs(20)).unwrap());
    timeout(Duration::from_secs(3_600), waiting)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    // A tenth of the wait was over: nine tenths of 20 s are left.
    let (_, at) = log.calls()[1];
    assert_eq!(at.as_secs(), 28);
}

#[tokio::test(start_paused = true)]
async fn readiness_costs_nothing_and_holds_no_place() {
    let limiter = slow(1);
    let service = layer(&limiter, 10).layer(Log::new());
    let mut clones = vec![service; 5];
    for clone in &mut clones {
        let mut clone = task::spawn(clone);
        assert_ready_ok!(clone.enter(|cx, mut clone| clone.poll_ready(cx)));
    }
    drop(clones);
    assert_eq!(limiter.snapshot().remaining, 1);
    assert_eq!(layer(&limiter, 10).queue().waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_put_back_when_the_inner_service_is_never_called() {
    let limiter = slow(2);
    let (inner, mut upstream) = mock::pair::<u32, u32>();
    let mut service = layer(&limiter, 10).layer(inner);
    upstream.allow(0);
    // Dropped while the inner service is not ready.
    let mut call = task::spawn(service.call(1));
    assert_pending!(call.poll());
    assert_eq!(limiter.snapshot().remaining, 1);
    drop(call);
    assert_eq!(limiter.snapshot().remaining, 2);
    // The inner service fails when asked.
    let mut call = task::spawn(service.call(2));
    assert_pending!(call.poll());
    upstream.send_error("down");
    let error = assert_ready_err!(call.poll());
    assert!(matches!(error, Error::Inner(_)), "{error}");
    assert_eq!(limiter.snapshot().remaining, 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_began_has_cost_its_turn() {
    let limiter = slow(2);
    let (inner, mut upstream) = mock::pair::<u32, u32>();
    let mut service = layer(&limiter, 10).layer(inner);
    upstream.allow(1);
    let mut call = task::spawn(service.call(1));
    assert_pending!(call.poll());
    let (request, _respond) = assert_ready!(upstream.poll_request()).unwrap();
    assert_eq!(request, 1);
    drop(call);
    assert_eq!(limiter.snapshot().remaining, 1);
}

/// `ConcurrencyLimit` panics when a clone that was not polled ready is called, and its places
/// are not held by calls that wait for their turn.
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_holds_nothing_of_the_inner_service() {
    let (limiter, log) = (slow(1), Log::new());
    let inner = ConcurrencyLimit::new(log.clone(), 1);
    let mut service = layer(&limiter, 10).layer(inner.clone());
    service.call(1).await.unwrap();
    let waiting = tokio::spawn(service.call(2));
    tokio::task::yield_now().await;
    let mut direct = inner;
    std::future::poll_fn(|cx| direct.poll_ready(cx))
        .await
        .unwrap();
    direct.call(3).await.unwrap();
    drop(direct);
    timeout(Duration::from_secs(60), waiting)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(log.seconds(), [(1, 0), (3, 0), (2, 1)]);
}

#[cfg(feature = "http")]
#[tokio::test(start_paused = true)]
async fn a_refusal_by_the_line_can_be_a_response() {
    use http::{Request, Response, StatusCode};
    use tower::service_fn;

    let limiter = slow(1);
    let mut service = RateLimitLayer::new(limiter)
        .into_response()
        .wait(1)
        .layer(service_fn(|_: Request<()>| {
            ready(Ok::<_, Infallible>(Response::new(http_body_util::Empty::<
                bytes::Bytes,
            >::new())))
        }));
    let admitted = service.call(Request::new(())).await.unwrap();
    assert_eq!(admitted.headers()["ratelimit"], r#""default";r=0;t=1"#);
    let _waiting = service.call(Request::new(()));
    let told = service.call(Request::new(())).await.unwrap();
    assert_eq!(told.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(told.headers()["retry-after"], "2");
    let refusal = told
        .extensions()
        .get::<resilience_tower::rate_limit::Refusal>();
    let limited = refusal.unwrap().figures().unwrap();
    assert_eq!(limited.retry_after, Some(Duration::from_secs(2)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Calls of any cost and patience, some dropped on the way: those that are called are called in
    /// the order they came, none before its deadline has passed without it, and never more than
    /// burst + rate × span.
    #[test]
    fn what_is_called_keeps_the_order_the_deadlines_and_the_quota(
        burst in 1..6_u32,
        calls in prop::collection::vec(
            (1..4_u32, 0..2_500_u64, prop::option::of(0..4_000_u64), prop::option::of(0..3_000_u64)),
            1..25,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async move {
            let (limiter, log) = (slow(burst), Log::new());
            let costs: Arc<Vec<_>> = Arc::new(calls.clone());
            let terms = {
                let costs = Arc::clone(&costs);
                move |n: &u32| {
                    let (cost, _, patience, _) = costs[*n as usize];
                    Terms::new().cost(cost).max_wait(patience.map(Duration::from_millis))
                }
            };
            let mut service = layer(&limiter, 8).terms(terms).layer(log.clone());
            let start = Instant::now();
            let mut arrived = Vec::new();
            let ended = Arc::new(AtomicU32::new(0));
            for (n, (_, pause, _, drop_after)) in calls.iter().enumerate() {
                tokio::time::sleep(Duration::from_millis(*pause % 700)).await;
                arrived.push(start.elapsed());
                let call = service.call(n as u32);
                let (ended, drop_after) = (Arc::clone(&ended), *drop_after);
                tokio::spawn(async move {
                    let patience = drop_after.map_or(Duration::from_secs(3_600), Duration::from_millis);
                    let _ = timeout(patience, call).await;
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            }
            tokio::time::sleep(Duration::from_secs(300)).await;
            // Nobody is left in line.
            prop_assert_eq!(ended.load(Ordering::Relaxed), calls.len() as u32);
            prop_assert_eq!(layer(&limiter, 8).queue().waiting(), 0);

            let called = log.calls();
            prop_assert!(called.is_sorted_by_key(|(n, _)| *n), "{:?}", called);
            for (n, at) in &called {
                let (_, _, patience, _) = costs[*n as usize];
                let latest = patience.map(|patience| {
                    // The timer's step.
                    arrived[*n as usize] + Duration::from_millis(patience + 1)
                });
                prop_assert!(latest.is_none_or(|latest| *at <= latest), "{} at {:?}", n, at);
            }
            for (i, (_, from)) in called.iter().enumerate() {
                let mut sum = 0.0;
                for (n, at) in &called[i..] {
                    sum += f64::from(costs[*n as usize].0);
                    let most = f64::from(burst) + (*at - *from).as_secs_f64();
                    prop_assert!(sum <= most + 0.002, "{} in {:?}", sum, *at - *from);
                }
            }
            Ok(())
        })?;
    }
}
