//! The chaos layer over a mock upstream, on tokio's paused clock.
#![cfg(all(feature = "chaos", feature = "http"))]

use std::io;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use resilience_core::chaos::{Abort, Chaos, Config, ConfigBuilder};
use resilience_tower::chaos::{ChaosLayer, Error, Injected};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;

const MS: Duration = Duration::from_millis(1);

fn on(config: ConfigBuilder) -> Chaos {
    let chaos = Chaos::with_seed(config.build().unwrap(), 1);
    chaos.switch_on();
    chaos
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_back_for_its_latency_and_no_longer() {
    let chaos = on(Config::builder().latency_rate(1.0).latency(100 * MS));
    let (mut service, mut upstream) = mock::spawn_layer::<u8, u8, _>(ChaosLayer::new(chaos));
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(1));
    let (request, respond) = assert_ready!(upstream.poll_request()).unwrap();
    assert_eq!(request, 1, "called at once");
    assert_pending!(call.poll());
    advance(50 * MS).await;
    respond.send_response(7);
    assert_pending!(call.poll());
    advance(99 * MS).await;
    assert_pending!(call.poll());
    advance(2 * MS).await;
    assert!(call.is_woken());
    assert_eq!(assert_ready_ok!(call.poll()), 7);
    assert_pending!(call.poll());
}

#[tokio::test(start_paused = true)]
async fn an_error_is_answered_without_a_call_and_after_its_latency() {
    let config = Config::builder().latency_rate(1.0).latency(100 * MS);
    let chaos = on(config.error_rate(1.0));
    let (mut service, mut upstream) = mock::spawn_layer::<u8, u8, _>(ChaosLayer::new(chaos));
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(1));
    advance(60 * MS).await;
    assert_pending!(call.poll());
    advance(41 * MS).await;
    let error = assert_ready_err!(call.poll());
    assert!(matches!(error, Error::Injected(Injected::Error)));
    assert_pending!(upstream.poll_request());
}

#[tokio::test(start_paused = true)]
async fn a_silent_call_never_answers_and_a_broken_one_is_a_connection_reset() {
    let config = Config::builder().abort_rate(1.0);
    let chaos = on(config.abort(Abort::Silence));
    let layer = ChaosLayer::new(chaos.clone());
    let service = layer.layer(service_fn(async |(): ()| Ok::<_, ()>(())));
    let mut silent = task::spawn(service.clone().oneshot(()));
    assert_pending!(silent.poll());
    advance(Duration::from_secs(86_400)).await;
    assert_pending!(silent.poll());
    drop(silent);
    chaos.set_config(config.abort(Abort::Disconnect).build().unwrap());
    let Err(Error::Injected(injected)) = service.oneshot(()).await else {
        panic!("broken off");
    };
    assert_eq!(injected.as_str(), "disconnect");
    assert_eq!(
        io::Error::from(injected).kind(),
        io::ErrorKind::ConnectionReset
    );
    assert_eq!(chaos.snapshot().aborts, 2);
}

#[tokio::test(start_paused = true)]
async fn only_requests_that_the_predicate_names_are_hit_or_counted() {
    let chaos = on(Config::builder().error_rate(1.0));
    let layer = ChaosLayer::new(chaos.clone()).only(|request: &u32| request.is_multiple_of(2));
    let service = layer.layer(service_fn(async |request: u32| Ok::<_, ()>(request)));
    for request in 0..10 {
        let answer = service.clone().oneshot(request).await;
        assert_eq!(answer.is_ok(), request % 2 == 1, "{request}");
    }
    let snapshot = chaos.snapshot();
    assert_eq!((snapshot.calls, snapshot.errors), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn while_it_is_off_the_predicate_is_not_even_asked() {
    let layer = ChaosLayer::default().only(|_: &u32| panic!("asked"));
    let service = layer.layer(service_fn(async |request: u32| Ok::<_, ()>(request)));
    let began = Instant::now();
    assert_eq!(service.oneshot(3).await.unwrap(), 3);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_what_a_function_of_the_request_makes() {
    let chaos = on(Config::builder().error_rate(1.0));
    let layer = ChaosLayer::new(chaos).errors(|request: &u32| match request {
        0 => Ok(99),
        request => Err(request + 1),
    });
    let service = layer.layer(service_fn(async |_: u32| Ok::<u32, u32>(0)));
    assert_eq!(service.clone().oneshot(0).await.unwrap(), 99);
    let error = service.oneshot(5).await.unwrap_err();
    assert!(matches!(error, Error::Inner(6)));
}

#[tokio::test(start_paused = true)]
async fn an_error_over_http_is_a_response_of_the_status() {
    let chaos = on(Config::builder().error_rate(1.0));
    let layer = ChaosLayer::new(chaos)
        .only(|request: &Request<()>| request.uri().path() == "/hit")
        .status(StatusCode::BAD_GATEWAY);
    let service = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, io::Error>(Response::new(String::from("well")))
    }));
    for (path, status) in [("/hit", 502), ("/spared", 200)] {
        let request = Request::get(path).body(()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.body().is_empty(), status == 502);
    }
}

/// The place of a limit within is free while the answer is kept back, and after a call that was
/// dropped in any of its states.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_holds_nothing() {
    let config = Config::builder().latency_rate(1.0);
    let chaos = on(config.latency(100 * MS));
    let mut service = ServiceBuilder::new()
        .layer(ChaosLayer::new(chaos.clone()))
        .layer(ConcurrencyLimitLayer::new(1))
        .service(service_fn(async |(): ()| {
            tokio::time::sleep(10 * MS).await;
            Ok::<_, ()>(())
        }));
    for polled_until in [0, 5, 15] {
        let mut call = task::spawn(service.ready().await.unwrap().call(()));
        assert_pending!(call.poll());
        advance(polled_until * MS).await;
        assert_pending!(call.poll());
        if polled_until > 10 {
            let mut ready = task::spawn(service.ready());
            assert!(
                assert_ready!(ready.poll()).is_ok(),
                "the answer waits alone"
            );
        }
        drop(call);
    }
    chaos.set_config(config.error_rate(1.0).build().unwrap());
    let mut call = task::spawn(service.ready().await.unwrap().call(()));
    assert_pending!(call.poll());
    drop(call);
    chaos.switch_off();
    assert!(service.ready().await.unwrap().call(()).await.is_ok());
}
