//! The load shed layers over a mock upstream, on tokio's paused clock.
#![cfg(feature = "load-shed")]

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use resilience_core::clock::{Clock, SharedClock};
use resilience_core::load_shed::{Class, Config, ConfigBuilder, LoadShed};
use resilience_tower::load_shed::{Arrived, Error, HasArrival, LoadShedLayer, StampLayer};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;

const MS: Duration = Duration::from_millis(1);
const INTERVAL: Duration = Duration::from_millis(100);

/// Tokio's clock, which the tests move.
#[derive(Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

fn shedder(config: ConfigBuilder) -> LoadShed {
    let clock = SharedClock::new(TokioClock(Instant::now()));
    LoadShed::with_clock(config.build().unwrap(), clock)
}

/// All but critical calls are shed from now on.
async fn overload(shed: &LoadShed) {
    for _ in 0..10 {
        shed.report(50 * MS);
        advance(INTERVAL).await;
    }
    shed.report(50 * MS);
    assert_eq!(shed.snapshot().level, 64);
}

#[derive(Clone, Copy, Debug)]
struct Call {
    class: Class,
    arrived: Option<Arrived>,
}

const fn call(class: Class) -> Call {
    Call {
        class,
        arrived: None,
    }
}

impl HasArrival for Call {
    fn arrived(&self) -> Option<Arrived> {
        self.arrived
    }

    fn set_arrived(&mut self, arrived: Arrived) {
        self.arrived = Some(arrived);
    }
}

fn by_class(shed: &LoadShed) -> LoadShedLayer<impl Fn(&Call) -> Class + Clone> {
    LoadShedLayer::new(shed.clone()).class(|call: &Call| call.class)
}

#[tokio::test(start_paused = true)]
async fn calls_are_shed_by_the_class_of_their_request_and_never_reach_the_upstream() {
    let shed = shedder(Config::builder());
    let (mut service, mut upstream) = mock::spawn_layer::<Call, u8, _>(by_class(&shed));
    overload(&shed).await;
    for class in [Class::Background, Class::Low, Class::Normal, Class::High] {
        assert_ready_ok!(service.poll_ready());
        let mut refused = task::spawn(service.call(call(class)));
        match assert_ready_err!(refused.poll()) {
            Error::Shed(shed) => assert_eq!(shed.class, class),
            Error::Inner(error) => panic!("{error}"),
            _ => unreachable!(),
        }
    }
    assert_pending!(upstream.poll_request());
    assert_ready_ok!(service.poll_ready());
    let mut health = task::spawn(service.call(call(Class::Critical)));
    assert_pending!(health.poll());
    let (_, respond) = assert_ready!(upstream.poll_request()).unwrap();
    respond.send_response(7);
    assert_eq!(assert_ready_ok!(health.poll()), 7);
    let snapshot = shed.snapshot();
    assert_eq!((snapshot.shed(Class::Normal), snapshot.in_flight), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_classifier_is_normal() {
    let shed = shedder(Config::builder());
    let echo = service_fn(async |request: u8| Ok::<_, std::io::Error>(request));
    let service = LoadShedLayer::new(shed.clone()).layer(echo);
    assert_eq!(service.oneshot(3).await.unwrap(), 3);
    assert_eq!(shed.snapshot().admitted(Class::Normal), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_runs_until_its_answer_or_until_it_is_dropped() {
    let shed = shedder(Config::builder());
    let (mut service, mut upstream) = mock::spawn_layer::<Call, u8, _>(by_class(&shed));
    assert_ready_ok!(service.poll_ready());
    let unpolled = service.call(call(Class::Low));
    assert_eq!(shed.snapshot().in_flight, 1);
    drop(unpolled);
    assert_eq!(shed.snapshot().in_flight, 0);
    assert_ready_ok!(service.poll_ready());
    let mut dropped = task::spawn(service.call(call(Class::Low)));
    assert_pending!(dropped.poll());
    drop(dropped);
    assert_eq!(shed.snapshot().in_flight, 0);
    drop(assert_ready!(upstream.poll_request()));
    assert_ready_ok!(service.poll_ready());
    let mut fails = task::spawn(service.call(call(Class::Low)));
    assert_pending!(fails.poll());
    drop(assert_ready!(upstream.poll_request()));
    let (_, respond) = assert_ready!(upstream.poll_request()).unwrap();
    respond.send_error("broken");
    assert!(matches!(assert_ready_err!(fails.poll()), Error::Inner(_)));
    // Before the future is dropped.
    assert_eq!(shed.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_is_ready_and_never_called_is_no_call() {
    let shed = shedder(Config::builder().limit(1));
    let echo = service_fn(async |call: Call| Ok::<_, std::io::Error>(call.class));
    let service = by_class(&shed).layer(echo);
    for _ in 0..10 {
        service.clone().ready().await.unwrap();
    }
    assert_eq!(shed.snapshot().in_flight, 0);
}

// `ConcurrencyLimit` panics when a clone is called that was not polled ready.
#[tokio::test(start_paused = true)]
async fn the_service_that_is_called_was_polled_ready() {
    let shed = shedder(Config::builder());
    let layer = by_class(&shed);
    let measure = layer.measure();
    let service = ServiceBuilder::new()
        .layer(StampLayer)
        .layer(layer)
        .layer(measure)
        .layer(ConcurrencyLimitLayer::new(1))
        .service(service_fn(async |call: Call| {
            Ok::<_, std::io::Error>(call.class)
        }));
    assert_eq!(
        service.oneshot(call(Class::High)).await.unwrap(),
        Class::High
    );
}

/// A queue between the layers: calls wait in their futures for the one place.
#[tokio::test(start_paused = true)]
async fn what_lies_between_the_layers_counts_as_queue() {
    let shed = shedder(Config::builder());
    let layer = by_class(&shed);
    let measure = layer.measure();
    let late = service_fn(|call: Call| {
        // A queue of 30 ms.
        let call = Call {
            arrived: call.arrived.map(|at| Arrived::at(at.instant() - 30 * MS)),
            ..call
        };
        std::future::ready(Ok::<_, std::io::Error>(call))
    });
    let work = service_fn(async |call: Call| Ok::<_, std::io::Error>(call.class));
    let work = measure.layer(work);
    let service =
        StampLayer.layer(layer.layer(late.and_then(move |call| work.clone().oneshot(call))));
    for _ in 0..3 {
        service.clone().oneshot(call(Class::Normal)).await.unwrap();
        advance(INTERVAL).await;
    }
    service.oneshot(call(Class::Normal)).await.unwrap();
    let snapshot = shed.snapshot();
    assert_eq!((snapshot.level, snapshot.delay), (28, Some(30 * MS)));
}

#[tokio::test(start_paused = true)]
async fn the_earliest_arrival_counts() {
    let earlier = Arrived::now();
    advance(20 * MS).await;
    let keep = service_fn(async |call: Call| Ok::<_, std::io::Error>(call.arrived));
    let service = StampLayer.layer(StampLayer.layer(keep));
    let stamped = Call {
        arrived: Some(earlier),
        ..call(Class::Low)
    };
    assert_eq!(
        service.clone().oneshot(stamped).await.unwrap(),
        Some(earlier)
    );
    assert_eq!(earlier.elapsed(), 20 * MS);
    let new = service.oneshot(call(Class::Low)).await.unwrap();
    assert_eq!(new, Some(Arrived::now()));
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_arrival_is_not_reported() {
    let shed = shedder(Config::builder());
    let measure = by_class(&shed).measure();
    let service = measure.layer(service_fn(async |_: Call| Ok::<_, std::io::Error>(())));
    service.oneshot(call(Class::Low)).await.unwrap();
    advance(INTERVAL).await;
    drop(shed.try_acquire(Class::Low));
    assert_eq!(shed.snapshot().delay, None);
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_admitted_or_shed_allocate_nothing() {
    let shed = shedder(Config::builder());
    let echo = service_fn(|call: Call| std::future::ready(Ok::<_, std::io::Error>(call)));
    let layer = by_class(&shed);
    let measure = layer.measure();
    let mut service = StampLayer.layer(layer.layer(measure.layer(echo)));
    overload(&shed).await;
    let mut answered = 0;
    let mut run = || {
        for class in Class::ALL {
            let mut context = Context::from_waker(Waker::noop());
            assert!(service.poll_ready(&mut context).is_ready());
            let answer = pin!(service.call(call(class)));
            if let Poll::Ready(Ok(_)) = answer.poll(&mut context) {
                answered += 1;
            }
        }
    };
    run();
    let count = allocation_counter::measure(|| (0..100).for_each(|_| run()));
    assert_eq!(count.count_total, 0);
    assert_eq!(answered, 101);
}

#[cfg(feature = "http")]
mod responses {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::{Request, Response, StatusCode};
    use http_body_util::{BodyExt, Full};
    use resilience_core::load_shed::Shed;
    use resilience_tower::load_shed::http::Paths;

    use super::*;

    fn upstream()
    -> impl Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
    + Clone {
        service_fn(|_| std::future::ready(Ok(Response::new(Full::default()))))
    }

    fn get(path: &str) -> Request<()> {
        Request::get(path).body(()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_shed_is_503_with_retry_after_and_health_is_served() {
        let shed = shedder(Config::builder());
        let paths = Paths::new().path("/health", Class::Critical);
        let layer = LoadShedLayer::new(shed.clone())
            .class(paths)
            .into_response();
        let service = layer.layer(upstream());
        overload(&shed).await;
        let health = service.clone().oneshot(get("/health")).await.unwrap();
        assert_eq!(health.status(), StatusCode::OK);
        let answer = service.oneshot(get("/basket")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()["retry-after"], "2");
        assert_eq!(answer.extensions().get::<Shed>().unwrap().level, 64);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let expected = serde_json::json!({
            "reason": "queue_delay", "class": "normal", "status": 503,
            "title": "Service Unavailable", "retry_after": 2,
        });
        assert_eq!(body, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_grpc_call_that_is_shed_is_unavailable_with_pushback() {
        let shed = shedder(Config::builder());
        let layer = LoadShedLayer::new(shed.clone()).class(Class::Low);
        let service = layer.into_grpc_response().layer(upstream());
        overload(&shed).await;
        let answer = service.oneshot(get("/shop.Basket/Get")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["grpc-status"], "14");
        assert_eq!(answer.headers()["grpc-retry-pushback-ms"], "3000");
        let message = "overloaded, calls of class low are shed";
        assert_eq!(answer.headers()["grpc-message"], message);
    }

    #[tokio::test(start_paused = true)]
    async fn the_arrival_of_an_http_request_is_in_its_extensions() {
        let keep = service_fn(async |request: Request<()>| {
            Ok::<_, Infallible>(request.extensions().get::<Arrived>().copied())
        });
        let arrived = StampLayer.layer(keep).oneshot(get("/")).await.unwrap();
        assert_eq!(arrived, Some(Arrived::now()));
    }
}
