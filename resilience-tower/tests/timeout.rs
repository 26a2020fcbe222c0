//! The timeout layer over a mock upstream, on tokio's paused clock.
#![cfg(feature = "timeout")]

use std::convert::Infallible;
use std::future::{Ready, pending, poll_fn, ready};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use resilience_tower::timeout::{Error, Timeout, TimeoutLayer};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{Service, ServiceExt, service_fn};
use tower_test::mock::{self, Handle, Mock, Spawn};

const LIMIT: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(1);

type Upstream = Handle<&'static str, &'static str>;

fn upstream() -> (Spawn<Timeout<Mock<&'static str, &'static str>>>, Upstream) {
    mock::spawn_layer(TimeoutLayer::new(LIMIT))
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_time_is_passed_on() {
    let (mut service, mut upstream) = upstream();
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call("ping"));
    assert_pending!(call.poll());
    advance(LIMIT - TICK).await;
    assert_pending!(call.poll());

    let (request, respond) = assert_ready!(upstream.poll_request()).unwrap();
    assert_eq!(request, "ping");
    respond.send_response("pong");
    assert!(call.is_woken());
    assert_eq!(assert_ready_ok!(call.poll()), "pong");
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_when_its_time_is_up_and_not_before() {
    let (mut service, _upstream) = upstream();
    assert_ready_ok!(service.poll_ready());
    let call = service.call("ping");
    let began = Instant::now();
    let error = call.await.unwrap_err();
    assert!(matches!(&error, Error::Elapsed(elapsed) if elapsed.after == LIMIT));
    assert_eq!(error.to_string(), "no answer after 2s");
    assert!((LIMIT..LIMIT + 2 * TICK).contains(&(Instant::now() - began)));
}

#[tokio::test(start_paused = true)]
async fn the_time_runs_from_the_call_and_not_from_the_first_poll() {
    let (mut service, _upstream) = upstream();
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call("ping"));
    advance(LIMIT).await;
    assert!(matches!(assert_ready!(call.poll()), Err(Error::Elapsed(_))));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_there_when_the_time_is_up_wins() {
    let (mut service, mut upstream) = upstream();
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call("ping"));
    assert_pending!(call.poll());
    let (_, respond) = assert_ready!(upstream.poll_request()).unwrap();
    respond.send_response("pong");
    advance(LIMIT * 2).await;
    assert_eq!(assert_ready_ok!(call.poll()), "pong");
}

#[tokio::test(start_paused = true)]
async fn an_inner_error_keeps_its_type() {
    let mut service = Timeout::new(service_fn(|()| ready(Err::<(), _>("refused"))), LIMIT);
    let error = service.ready().await.unwrap().call(()).await.unwrap_err();
    assert!(matches!(error, Error::Inner("refused")));
}

#[tokio::test(start_paused = true)]
async fn readiness_is_the_inner_services() {
    let (mut service, mut upstream) = upstream();
    upstream.allow(0);
    assert_pending!(service.poll_ready());
    upstream.allow(1);
    assert!(service.is_woken());
    assert_ready_ok!(service.poll_ready());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_drops_the_inner_future() {
    let held = Arc::new(());
    let kept = held.clone();
    let mut service = Timeout::new(
        service_fn(move |()| {
            let kept = kept.clone();
            async move {
                pending::<()>().await;
                drop(kept);
                Ok::<_, Infallible>(())
            }
        }),
        LIMIT,
    );
    let mut call = task::spawn(service.ready().await.unwrap().call(()));
    assert_pending!(call.poll());
    assert_eq!(Arc::strong_count(&held), 3);
    drop(call);
    assert_eq!(Arc::strong_count(&held), 2);
}

#[tokio::test(start_paused = true)]
async fn a_clone_has_the_same_limit_and_its_own_time() {
    let service = Timeout::new(service_fn(|()| pending::<Result<(), Infallible>>()), LIMIT);
    let mut first = task::spawn(service.clone().oneshot(()));
    assert_pending!(first.poll());
    advance(LIMIT / 2).await;
    let mut second = task::spawn(service.clone().oneshot(()));
    assert_pending!(second.poll());
    advance(LIMIT / 2 + TICK).await;
    assert!(assert_ready!(first.poll()).is_err());
    assert_pending!(second.poll());
}

#[tokio::test(start_paused = true)]
async fn no_time_at_all_lets_through_what_is_ready_at_once() {
    let mut service = Timeout::new(
        service_fn(|()| ready(Ok::<_, Infallible>(7))),
        Duration::ZERO,
    );
    assert_eq!(service.ready().await.unwrap().call(()).await.unwrap(), 7);

    let mut service = Timeout::new(
        service_fn(|()| pending::<Result<(), Infallible>>()),
        Duration::ZERO,
    );
    let call = service.ready().await.unwrap().call(());
    assert!(matches!(call.await, Err(Error::Elapsed(_))));
}

#[tokio::test(start_paused = true)]
async fn a_limit_beyond_the_clock_is_no_limit() {
    let mut service = Timeout::new(
        service_fn(|()| pending::<Result<(), Infallible>>()),
        Duration::MAX,
    );
    let mut call = task::spawn(service.ready().await.unwrap().call(()));
    assert_pending!(call.poll());
    advance(Duration::from_secs(86_400)).await;
    assert_pending!(call.poll());
}

/// The timer's own poll is `Pending` while the task has no cooperative budget left.
#[tokio::test(start_paused = true)]
async fn an_inner_future_that_eats_the_tasks_budget_still_runs_out_of_time() {
    let (sender, receiver) = tokio::sync::watch::channel(());
    drop(sender);
    let mut service = Timeout::new(
        service_fn(move |()| {
            let receiver = receiver.clone();
            let mut polls = 0;
            poll_fn(move |cx| {
                // A closed channel answers at once, and each answer costs one unit.
                while pin!(receiver.clone().changed()).poll(cx).is_ready() {}
                polls += 1;
                // Gives up, so that the test ends without the timeout too.
                if polls < 1_000 {
                    Poll::Pending
                } else {
                    Poll::Ready(Ok::<_, Infallible>(()))
                }
            })
        }),
        LIMIT,
    );
    let call = service.ready().await.unwrap().call(());
    let hungry = tokio::spawn(call);
    // Paused time moves by itself only when all tasks sleep, and this one never does.
    advance(LIMIT + TICK).await;
    let answer = hungry.await.unwrap();
    assert!(matches!(answer, Err(Error::Elapsed(_))));
}

/// Answers at its first poll, without a runtime.
#[test]
fn no_timer_is_needed_for_an_answer_at_the_first_poll() {
    let mut service = Timeout::new(
        service_fn(|()| -> Ready<Result<u8, Infallible>> { ready(Ok(7)) }),
        LIMIT,
    );
    let mut call = task::spawn(service.call(()));
    assert_eq!(assert_ready_ok!(call.poll()), 7);
}
