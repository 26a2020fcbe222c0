//! A bulkhead per key, the deadline of the request in line, and refusals as responses.
#![cfg(feature = "bulkhead")]

use std::time::Duration;

use resilience_core::bulkhead::{Bulkhead, Config, Priority, Reason, Registry};
use resilience_core::clock::{Clock, SharedClock};
use resilience_tower::bulkhead::{BulkheadLayer, Error, OnFull};
use tokio::time::Instant;
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt, service_fn};
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

fn clock() -> SharedClock {
    SharedClock::new(TokioClock(Instant::now()))
}

fn config() -> Config {
    let config = Config::builder().limit(1).max_queue(9);
    config.max_wait(10 * SECOND).build().unwrap()
}

fn registry(max: usize) -> Registry<u8> {
    Registry::builder(config()).max(max).clock(clock()).build()
}

fn reason<T, E>(result: Result<T, Error<E>>) -> Option<Reason> {
    match result {
        Err(Error::Refused(refused)) => Some(refused.reason),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn one_key_is_full_for_itself_alone() {
    let registry = registry(10);
    let layer = BulkheadLayer::keyed(registry.clone(), OnFull::Refuse, |request: &u8| *request);
    let (mut service, _upstream) = mock::spawn_layer::<u8, u8, _>(layer);
    assert_ready_ok!(service.poll_ready());
    let mut first = task::spawn(service.call(1));
    assert_pending!(first.poll());
    assert_ready_ok!(service.poll_ready());
    assert_eq!(reason(service.call(1).await), Some(Reason::Full));
    assert_ready_ok!(service.poll_ready());
    let mut other = task::spawn(service.call(2));
    assert_pending!(other.poll());
    assert_eq!(registry.get(&2).unwrap().snapshot().in_flight, 1);
    drop((first, other));
    assert_eq!(registry.get(&1).unwrap().snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_does_not_fit_is_refused_admitted_or_shares_as_chosen() {
    for on_full in [OnFull::Refuse, OnFull::Admit, OnFull::Share] {
        let registry = registry(1);
        let _running = registry.try_acquire_owned(&1).unwrap();
        let layer = BulkheadLayer::keyed(registry, on_full, |request: &u8| *request);
        let overflow = layer.permits().overflow().clone();
        let (mut service, _upstream) = mock::spawn_layer::<u8, u8, _>(layer);
        assert_ready_ok!(service.poll_ready());
        let mut first = task::spawn(service.call(2));
        assert_ready_ok!(service.poll_ready());
        let mut second = task::spawn(service.call(3));
        match on_full {
            OnFull::Refuse => {
                assert_eq!(reason(assert_ready!(first.poll())), Some(Reason::KeysFull));
                assert_eq!(reason(assert_ready!(second.poll())), Some(Reason::KeysFull));
            }
            OnFull::Admit => {
                assert_pending!(first.poll());
                assert_pending!(second.poll());
                assert_eq!(overflow.snapshot().in_flight, 0);
            }
            OnFull::Share => {
                assert_pending!(first.poll());
                assert_eq!(reason(assert_ready!(second.poll())), Some(Reason::Full));
                assert_eq!(overflow.snapshot().in_flight, 1);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_key_has_a_line_of_its_own() {
    let registry = registry(10);
    let layer = BulkheadLayer::keyed(registry.clone(), OnFull::Admit, |request: &u8| *request);
    let echo = service_fn(async |request: u8| Ok::<_, std::io::Error>(request));
    let service = layer.wait().layer(echo);
    let running = registry.try_acquire_owned(&1).unwrap();
    let mut waits = task::spawn(service.clone().call(1));
    let mut runs = task::spawn(service.clone().call(2));
    assert_pending!(waits.poll());
    assert_eq!(assert_ready_ok!(runs.poll()), 2);
    drop(running);
    assert!(waits.is_woken());
    assert_eq!(assert_ready_ok!(waits.poll()), 1);
}

// Each waiting call that is dropped gives its place up, in whatever line it stood.
#[tokio::test(start_paused = true)]
async fn a_call_without_a_limit_awaits_the_inner_service_and_holds_nothing() {
    let registry = registry(1);
    let _running = registry.try_acquire_owned(&1).unwrap();
    let layer = BulkheadLayer::keyed(registry.clone(), OnFull::Admit, |request: &u8| *request);
    let (mut service, mut upstream) = mock::spawn_layer::<u8, u8, _>(layer.wait());
    upstream.allow(0);
    let mut call = task::spawn(service.call(2));
    assert_pending!(call.poll());
    upstream.allow(1);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    let (request, respond) = assert_ready!(upstream.poll_request()).unwrap();
    assert_eq!(request, 2);
    respond.send_response(3);
    assert_eq!(assert_ready_ok!(call.poll()), 3);
    assert!(registry.peek(&2).is_none());
}

#[cfg(feature = "timeout")]
mod deadlines {
    use resilience_tower::timeout::deadline::{Deadline, HasDeadline};

    use super::*;

    #[derive(Clone, Copy, Debug)]
    struct Call(Option<Deadline>);

    impl HasDeadline for Call {
        fn deadline(&self) -> Option<Deadline> {
            self.0
        }

        fn set_deadline(&mut self, deadline: Deadline) {
            self.0 = Some(deadline);
        }
    }

    fn within(left: Duration) -> Call {
        Call(Deadline::after(left))
    }

    fn bulkhead() -> Bulkhead {
        Bulkhead::with_clock(config(), clock())
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_does_not_wait_longer_than_its_own_deadline() {
        let bulkhead = bulkhead();
        let _running = bulkhead.try_acquire_owned().unwrap();
        let layer = BulkheadLayer::new(bulkhead.clone())
            .wait()
            .honour_deadline();
        let service = layer.layer(service_fn(async |_: Call| Ok::<_, std::io::Error>(())));
        for (call, longest) in [
            (within(3 * SECOND), 3 * SECOND),
            (within(99 * SECOND), 10 * SECOND),
            (Call(None), 10 * SECOND),
        ] {
            let began = Instant::now();
            let refused = reason(service.clone().oneshot(call).await);
            assert_eq!(refused, Some(Reason::Deadline));
            let waited = began.elapsed();
            assert!((longest..longest + SECOND).contains(&waited), "{waited:?}");
        }
        assert_eq!(bulkhead.snapshot().queued, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_whose_deadline_is_over_takes_no_place_and_no_permit() {
        let bulkhead = bulkhead();
        let layer = BulkheadLayer::new(bulkhead.clone())
            .wait()
            .honour_deadline();
        let reached = service_fn(async |_: Call| -> Result<(), std::io::Error> {
            unreachable!("nobody is there for the answer")
        });
        let service = layer.layer(reached);
        let late = within(Duration::ZERO);
        let mut call = task::spawn(service.clone().call(late));
        assert_eq!(reason(assert_ready!(call.poll())), Some(Reason::Deadline));
        let _running = bulkhead.try_acquire_owned().unwrap();
        let mut call = task::spawn(service.clone().call(late));
        assert_eq!(reason(assert_ready!(call.poll())), Some(Reason::Deadline));
        assert_eq!(bulkhead.snapshot().queued, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_goes_with_the_priority() {
        let bulkhead = bulkhead();
        let running = bulkhead.try_acquire_owned().unwrap();
        let layer = BulkheadLayer::new(bulkhead.clone()).wait();
        let layer = layer.priority(|call: &Call| match call.0 {
            Some(_) => Priority::High,
            None => Priority::Low,
        });
        let layer = layer.honour_deadline();
        let service = layer.layer(service_fn(async |_: Call| Ok::<_, std::io::Error>(())));
        let mut low = task::spawn(service.clone().call(Call(None)));
        let mut high = task::spawn(service.clone().call(within(SECOND)));
        assert_pending!(low.poll());
        assert_pending!(high.poll());
        drop(running);
        assert!(high.is_woken() && !low.is_woken());
        assert_ready_ok!(high.poll());
        assert_ready_ok!(low.poll());
    }
}

#[cfg(feature = "http")]
mod responses {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::{Response, StatusCode};
    use http_body_util::{BodyExt, Full};
    use resilience_core::bulkhead::Refused;
    use resilience_tower::refusal::RefusalBody;

    use super::*;

    type Answer = Response<RefusalBody<Full<Bytes>>>;

    fn upstream()
    -> impl Service<(), Response = Response<Full<Bytes>>, Error = Infallible, Future: Send> + Clone
    {
        service_fn(|()| std::future::ready(Ok(Response::new(Full::default()))))
    }

    fn check(answer: &Answer, reason: Reason) {
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(!answer.headers().contains_key("retry-after"));
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let refused = answer.extensions().get::<Refused>().unwrap();
        assert_eq!(refused.reason, reason);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_503_with_its_reason() {
        let bulkhead = Bulkhead::new(config());
        let layer = BulkheadLayer::new(bulkhead.clone()).into_response();
        let answer = layer.layer(upstream()).oneshot(()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let _running = bulkhead.try_acquire_owned().unwrap();
        let answer = layer.layer(upstream()).oneshot(()).await.unwrap();
        check(&answer, Reason::Full);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let expected = serde_json::json!({
            "reason": "full", "status": 503, "title": "Service Unavailable",
        });
        assert_eq!(body, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_in_vain_ends_in_a_response() {
        let bulkhead = Bulkhead::with_clock(config(), clock());
        let _running = bulkhead.try_acquire_owned().unwrap();
        let layer = BulkheadLayer::new(bulkhead).wait().into_response();
        let answer = layer.layer(upstream()).oneshot(()).await.unwrap();
        check(&answer, Reason::Deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn a_grpc_refusal_is_unavailable() {
        let registry = registry(1);
        let _running = registry.try_acquire_owned(&1).unwrap();
        let layer = BulkheadLayer::keyed(registry, OnFull::Refuse, |(): &()| 2);
        let layer = layer.into_grpc_response();
        let answer = layer.layer(upstream()).oneshot(()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["grpc-status"], "14");
        let message = "the key is new, and all bulkheads are in use";
        assert_eq!(answer.headers()["grpc-message"], message);
        assert!(!answer.headers().contains_key("grpc-retry-pushback-ms"));
    }

    #[cfg(feature = "adaptive")]
    #[tokio::test]
    async fn an_adaptive_limit_answers_alike() {
        use resilience_core::adaptive::{AdaptiveLimit, Config, Refused};
        use resilience_tower::adaptive::AdaptiveLayer;

        let config = Config::builder().initial_limit(1).min_limit(1);
        let limit = AdaptiveLimit::new(config.build().unwrap());
        let _running = limit.try_acquire_owned().unwrap();
        let layer = AdaptiveLayer::new(limit.clone()).into_response();
        let answer: Answer = layer.layer(upstream()).oneshot(()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.extensions().get::<Refused>().unwrap().limit, 1);
        let layer = AdaptiveLayer::new(limit).into_grpc_response();
        let answer: Answer = layer.layer(upstream()).oneshot(()).await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "14");
    }
}
