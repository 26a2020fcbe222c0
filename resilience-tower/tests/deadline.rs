//! The deadline layer over a mock upstream, on tokio's paused clock.
#![cfg(feature = "timeout")]

use std::convert::Infallible;
use std::future::{Pending, Ready, pending, ready};
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use resilience_core::deadline::{Config, ConfigBuilder, Deadlines, TimeUp};
use resilience_tower::timeout::deadline::{
    Deadline, DeadlineLayer, Error, HasDeadline, WithDeadline,
};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock::{self, Handle, Mock, Spawn};

const MS: Duration = Duration::from_millis(1);

/// A request of one's own.
#[derive(Clone, Copy, Debug, Default)]
struct Call {
    deadline: Option<Deadline>,
}

impl Call {
    fn until(left: Duration) -> Self {
        Self {
            deadline: Deadline::after(left),
        }
    }
}

impl HasDeadline for Call {
    fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    fn set_deadline(&mut self, deadline: Deadline) {
        self.deadline = Some(deadline);
    }
}

fn layer(config: ConfigBuilder) -> DeadlineLayer {
    DeadlineLayer::new(Deadlines::new(config.build().unwrap()))
}

fn total(millis: u32) -> DeadlineLayer {
    layer(Config::builder().total(millis * MS))
}

fn attempt(millis: u32) -> DeadlineLayer {
    layer(Config::builder().attempt(millis * MS))
}

type Limited = WithDeadline<Mock<Call, &'static str>>;
type Upstream = Handle<Call, &'static str>;

fn upstream(layer: DeadlineLayer) -> (Spawn<Limited>, Upstream) {
    mock::spawn_layer(layer)
}

/// Tells the time until the deadline that it finds in the request.
async fn echo(call: Call) -> Result<Option<Duration>, Infallible> {
    Ok(call.deadline.map(Deadline::left))
}

#[tokio::test(start_paused = true)]
async fn the_layers_within_see_the_deadline() {
    let service = ServiceBuilder::new().layer(total(100)).service_fn(echo);
    let left = service.oneshot(Call::default()).await.unwrap();
    assert_eq!(left, Some(100 * MS));
}

#[tokio::test(start_paused = true)]
async fn of_nested_deadlines_the_earlier_counts_whichever_is_outside() {
    for (outer, inner) in [(100, 200), (200, 100)] {
        let service = ServiceBuilder::new()
            .layer(total(outer))
            .layer(total(inner))
            .service_fn(echo);
        let left = service.clone().oneshot(Call::default()).await.unwrap();
        assert_eq!(left, Some(100 * MS));
        let left = service.oneshot(Call::until(99 * MS)).await.unwrap();
        assert_eq!(left, Some(99 * MS));
    }
}

#[tokio::test(start_paused = true)]
async fn without_any_limit_nothing_is_added() {
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::default())
        .service_fn(echo);
    assert_eq!(service.oneshot(Call::default()).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_ends_by_its_own_limit_and_the_deadline_stays() {
    let (mut service, mut upstream) = upstream(attempt(50));
    let call = Call::until(80 * MS);
    assert_ready_ok!(service.poll_ready());
    let mut answer = task::spawn(service.call(call));
    assert_pending!(answer.poll());
    let (request, _respond) = assert_ready!(upstream.poll_request()).unwrap();
    assert_eq!(request.deadline, call.deadline);
    advance(49 * MS).await;
    assert_pending!(answer.poll());
    advance(2 * MS).await;
    assert!(answer.is_woken());
    let Error::TimeUp(up) = assert_ready_err!(answer.poll()) else {
        panic!("the time is up");
    };
    assert_eq!(up, TimeUp::Attempt { after: 50 * MS });
    assert_eq!(up.to_string(), "no answer after 50ms");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_comes_before_the_attempts_limit_ends_the_call() {
    let began = Instant::now();
    let service = ServiceBuilder::new()
        .layer(attempt(50))
        .service_fn(|_: Call| pending::<Result<(), Infallible>>());
    let error = service.oneshot(Call::until(30 * MS)).await.unwrap_err();
    let after = 30 * MS;
    assert!(matches!(error, Error::TimeUp(up) if up == TimeUp::Deadline { after }));
    assert!((30 * MS..32 * MS).contains(&began.elapsed()));
}

/// Counts its calls.
fn counting() -> (
    impl Service<Call, Response = (), Error = Infallible, Future: Send> + Clone,
    Arc<AtomicU32>,
) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let service = service_fn(move |_: Call| {
        counted.fetch_add(1, Ordering::Relaxed);
        ready(Ok(()))
    });
    (service, calls)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_too_late_never_reaches_the_inner_service() {
    let (service, calls) = counting();
    let layer = layer(Config::builder().least(20 * MS));
    let service = ServiceBuilder::new().layer(&layer).service(service);
    let late = Call::until(20 * MS);
    assert!(service.clone().oneshot(late).await.is_ok());
    for (passed, left) in [(1, 19), (30, 0)] {
        advance(passed * MS).await;
        let error = service.clone().oneshot(late).await.unwrap_err();
        let refused = TimeUp::Refused {
            left: left * MS,
            least: 20 * MS,
        };
        assert!(matches!(error, Error::TimeUp(up) if up == refused));
    }
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert_eq!(layer.handle().snapshot().refused, 2);
}

#[tokio::test(start_paused = true)]
async fn the_time_runs_from_the_call_and_not_from_the_first_poll() {
    let (mut service, _upstream) = upstream(total(50));
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(Call::default()));
    advance(50 * MS).await;
    assert_ready_err!(call.poll());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_there_when_the_time_is_up_wins() {
    let (mut service, mut upstream) = upstream(total(50));
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(Call::default()));
    assert_pending!(call.poll());
    let (_, respond) = assert_ready!(upstream.poll_request()).unwrap();
    respond.send_response("pong");
    advance(100 * MS).await;
    assert_eq!(assert_ready_ok!(call.poll()), "pong");
}

#[tokio::test(start_paused = true)]
async fn an_inner_error_keeps_its_type() {
    let service = ServiceBuilder::new()
        .layer(total(50))
        .service_fn(|_: Call| ready(Err::<(), _>("refused")));
    let error = service.oneshot(Call::default()).await.unwrap_err();
    assert!(matches!(error, Error::Inner("refused")));
}

#[tokio::test(start_paused = true)]
async fn readiness_is_the_inner_services() {
    let (mut service, mut upstream) = upstream(total(50));
    upstream.allow(0);
    assert_pending!(service.poll_ready());
    advance(100 * MS).await;
    upstream.allow(1);
    assert!(service.is_woken());
    assert_ready_ok!(service.poll_ready());
}

/// Never answers; what it holds goes with its future.
fn holding(
    held: &Arc<()>,
) -> impl Service<Call, Response = (), Error = Infallible, Future: Send> + Clone {
    let kept = Arc::clone(held);
    service_fn(move |_: Call| {
        let kept = Arc::clone(&kept);
        async move {
            pending::<()>().await;
            drop(kept);
            Ok(())
        }
    })
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_drops_the_inner_future_and_counts_nothing() {
    let held = Arc::new(());
    let layer = total(50);
    let mut service = layer_on(&layer, holding(&held));
    let mut call = task::spawn(service.call(Call::default()));
    assert_pending!(call.poll());
    assert_eq!(Arc::strong_count(&held), 3);
    drop(call);
    assert_eq!(Arc::strong_count(&held), 2);
    assert_eq!(layer.handle().snapshot(), Deadlines::default().snapshot());
}

fn layer_on<S>(layer: &DeadlineLayer, service: S) -> WithDeadline<S> {
    tower::Layer::layer(layer, service)
}

#[tokio::test(start_paused = true)]
async fn the_inner_future_is_dropped_when_the_time_is_up_which_is_counted_once() {
    let held = Arc::new(());
    let layer = total(50);
    let mut service = layer_on(&layer, holding(&held));
    let mut call = task::spawn(service.call(Call::default()));
    assert_pending!(call.poll());
    advance(51 * MS).await;
    for _ in 0..2 {
        assert_ready_err!(call.poll());
        assert_eq!(Arc::strong_count(&held), 2);
        assert_eq!(layer.handle().snapshot().deadline, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn clones_share_settings_and_counts_and_each_call_has_its_own_time() {
    let layer = total(50);
    let service = layer_on(
        &layer,
        service_fn(|_: Call| -> Pending<Result<(), Infallible>> { pending() }),
    );
    let mut first = task::spawn(service.clone().oneshot(Call::default()));
    assert_pending!(first.poll());
    advance(30 * MS).await;
    let config = Config::builder().total(100 * MS).build().unwrap();
    layer.handle().set_config(config);
    let mut second = task::spawn(service.clone().oneshot(Call::default()));
    assert_pending!(second.poll());
    advance(21 * MS).await;
    assert_ready_err!(first.poll());
    advance(78 * MS).await;
    assert_pending!(second.poll());
    advance(2 * MS).await;
    assert_ready_err!(second.poll());
    assert_eq!(service.handle().snapshot().deadline, 2);
}

#[test]
fn a_deadline_beyond_the_clock_is_none() {
    assert_eq!(Deadline::after(Duration::MAX), None);
}

/// Answers at its first poll, without a runtime.
#[test]
fn no_timer_is_needed_for_an_answer_at_the_first_poll() {
    let mut service = layer_on(
        &total(50),
        service_fn(|_: Call| -> Ready<Result<u8, Infallible>> { ready(Ok(7)) }),
    );
    let mut call = task::spawn(service.call(Call::default()));
    assert_eq!(assert_ready_ok!(call.poll()), 7);
}

#[test]
fn calls_and_refusals_allocate_nothing() {
    let mut service = layer_on(
        &layer(Config::builder().total(1_000 * MS).attempt(500 * MS)),
        service_fn(|call: Call| ready(Ok::<_, Infallible>(call.deadline))),
    );
    let mut context = Context::from_waker(Waker::noop());
    let over = Deadline::after(Duration::ZERO);
    let mut calls = |deadline| {
        measure(|| {
            for _ in 0..1_000 {
                let call = pin!(service.call(black_box(Call { deadline })));
                let Poll::Ready(answer) = call.poll(&mut context) else {
                    panic!("it is there");
                };
                assert_eq!(answer.is_err(), deadline.is_some());
            }
        })
    };
    // The first use of a thread sets up what guards the settings.
    calls(None);
    assert_eq!((calls(None).count_total, calls(over).count_total), (0, 0));
}
