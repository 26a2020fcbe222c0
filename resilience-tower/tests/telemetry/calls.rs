//! What a layer tells of calls and attempts.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use resilience_core::breaker::{Outcome, classify_fn};
use resilience_core::clock::ManualClock;
use resilience_tower::telemetry::{Ended, Refusal, TelemetryLayer};
use tokio::sync::oneshot;
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, service_fn};
use tower_test::mock;

use super::recorder::Kept;

const SECOND: Duration = Duration::from_secs(1);

type Answer = Result<(), &'static str>;

fn duration(kept: &Kept, scope: &str, outcome: &str) -> Option<(u64, f64)> {
    let labels = format!("name=\"payments\",outcome=\"{outcome}\"");
    kept.histogram(&format!("resilience_{scope}_duration_seconds{{{labels}}}"))
}

fn refused(kept: &Kept, scope: &str, policy: &str, reason: &str) -> Option<u64> {
    let labels = format!("name=\"payments\",policy=\"{policy}\",reason=\"{reason}\"");
    kept.counter(&format!("resilience_{scope}_refused_total{{{labels}}}"))
}

fn attempts(kept: &Kept) -> Option<(u64, f64)> {
    kept.histogram("resilience_call_attempts{name=\"payments\"}")
}

/// Answers what it is sent, when it is sent.
async fn told(answer: oneshot::Receiver<Answer>) -> Answer {
    answer.await.expect("the answer is sent")
}

fn judge(result: Result<&(), &&'static str>) -> Ended {
    match result {
        Ok(()) => Ended::Success,
        Err(&"down") => Ended::Failure,
        Err(&"busy") => Ended::Overloaded,
        Err(&"wrong") => Ended::Ignored,
        Err(reason) => Ended::Refused(Refusal::new("breaker", reason)),
    }
}

#[test]
fn each_call_is_told_with_its_outcome_and_how_long_it_took() {
    for (scope, layer) in [
        ("call", TelemetryLayer::call("payments")),
        ("attempt", TelemetryLayer::attempt("payments")),
    ] {
        let (kept, clock) = (Kept::default(), ManualClock::new());
        let layer = layer.judge(judge).clock(clock.clone());
        let mut service = layer.layer(service_fn(told));
        let ends = [
            ("success", Ok(())),
            ("failure", Err("down")),
            ("overloaded", Err("busy")),
            ("ignored", Err("wrong")),
            ("refused", Err("open")),
            ("refused", Err("probes_spent")),
            ("refused", Err("open")),
        ];
        for (place, (_, answer)) in ends.into_iter().enumerate() {
            let (tell, answered) = oneshot::channel();
            kept.local(|| {
                let mut call = task::spawn(service.call(answered));
                assert_pending!(call.poll());
                clock.advance(SECOND * (place as u32 + 1));
                tell.send(answer).unwrap();
                assert_eq!(call.poll(), Poll::Ready(answer));
            });
        }
        for (outcome, calls, seconds) in [
            ("success", 1, 1.0),
            ("failure", 1, 2.0),
            ("overloaded", 1, 3.0),
            ("ignored", 1, 4.0),
            ("refused", 3, 18.0),
        ] {
            assert_eq!(
                duration(&kept, scope, outcome),
                Some((calls, seconds)),
                "{outcome}"
            );
        }
        assert_eq!(refused(&kept, scope, "breaker", "open"), Some(2));
        assert_eq!(refused(&kept, scope, "breaker", "probes_spent"), Some(1));
        assert_eq!(kept.series().len(), 7, "{:?}", kept.series());
    }
}

#[test]
fn a_classifier_of_the_breaker_judges_as_it_does_there() {
    let kept = Kept::default();
    let by_number = classify_fn(|result: Result<&u8, &Infallible>| match result {
        Ok(0) => Outcome::Success,
        Ok(1) => Outcome::Failure,
        Ok(2) => Outcome::Overloaded { retry_after: None },
        _ => Outcome::Ignored,
    });
    let layer = TelemetryLayer::call("payments").classify(by_number);
    let mut service = layer.layer(service_fn(async |number: u8| Ok(number)));
    for number in 0..4 {
        let answer = kept.local(|| assert_ready_ok!(task::spawn(service.call(number)).poll()));
        assert_eq!(answer, number);
    }
    for outcome in ["success", "failure", "overloaded", "ignored"] {
        assert_eq!(duration(&kept, "call", outcome).unwrap().0, 1, "{outcome}");
    }
}

#[cfg(feature = "breaker")]
#[test]
fn what_a_policy_decided_is_read_from_its_error() {
    use resilience_core::breaker::{CircuitBreaker, Mode};
    use resilience_tower::breaker::{Breaker, Error};

    let kept = Kept::default();
    let breaker = CircuitBreaker::new("payments");
    let inner = service_fn(async |works: bool| if works { Ok(()) } else { Err("down") });
    let layer = TelemetryLayer::call("payments").admission();
    let mut service = layer.layer(Breaker::new(inner, breaker.clone()));
    kept.local(|| {
        assert_ready_ok!(task::spawn(service.call(true)).poll());
        assert_ready_err!(task::spawn(service.call(false)).poll());
        breaker.set_mode(Mode::ForcedOpen);
        let refused = assert_ready_err!(task::spawn(service.call(true)).poll());
        assert!(matches!(refused, Error::Rejected(_)));
    });
    for outcome in ["success", "failure", "refused"] {
        assert_eq!(duration(&kept, "call", outcome).unwrap().0, 1, "{outcome}");
    }
    assert_eq!(refused(&kept, "call", "breaker", "forced_open"), Some(1));
}

#[cfg(feature = "timeout")]
#[tokio::test(start_paused = true)]
async fn time_that_was_up_is_no_refusal() {
    use resilience_tower::timeout::Timeout;

    let kept = Kept::default();
    let never = service_fn(async |()| std::future::pending::<Answer>().await);
    let layer = TelemetryLayer::attempt("payments").admission();
    let mut service = layer.layer(Timeout::new(never, SECOND));
    let mut call = task::spawn(service.call(()));
    kept.local(|| assert_pending!(call.poll()));
    tokio::time::advance(SECOND).await;
    kept.local(|| assert_ready_err!(call.poll()));
    assert_eq!(duration(&kept, "attempt", "time_up").unwrap().0, 1);
    assert_eq!(kept.series().len(), 1);
}

#[cfg(all(feature = "http", feature = "stack"))]
#[test]
fn what_a_policy_decided_is_read_from_a_response() {
    use resilience_core::breaker::{CircuitBreaker, Mode};
    use resilience_tower::admission::Admission;

    let kept = Kept::default();
    let answers = |status: u16| async move {
        let mut response = http::Response::new(());
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        if status == 503 {
            let breaker = CircuitBreaker::new("payments");
            breaker.set_mode(Mode::ForcedOpen);
            let refused = breaker.try_acquire().unwrap_err();
            response.extensions_mut().insert(Admission::from(refused));
        }
        Ok::<_, Infallible>(response)
    };
    let mut service = TelemetryLayer::call("payments")
        .http()
        .layer(service_fn(answers));
    for status in [200, 404, 500, 503, 429] {
        kept.local(|| assert_ready_ok!(task::spawn(service.call(status)).poll()));
    }
    for (outcome, calls) in [
        ("success", 2),
        ("failure", 1),
        ("refused", 1),
        ("overloaded", 1),
    ] {
        assert_eq!(
            duration(&kept, "call", outcome).unwrap().0,
            calls,
            "{outcome}"
        );
    }
    assert_eq!(refused(&kept, "call", "breaker", "forced_open"), Some(1));
}

#[test]
fn a_call_that_is_dropped_is_cancelled_wherever_it_stands() {
    let (kept, clock) = (Kept::default(), ManualClock::new());
    let layer = TelemetryLayer::call("payments").clock(clock.clone());
    let mut service = layer.layer(service_fn(told));
    kept.local(|| {
        let (_tell, answered) = oneshot::channel();
        drop(service.call(answered));
        let (_tell, answered) = oneshot::channel();
        let mut call = task::spawn(service.call(answered));
        assert_pending!(call.poll());
        clock.advance(SECOND);
        drop(call);
        let (tell, answered) = oneshot::channel();
        let mut call = task::spawn(service.call(answered));
        tell.send(Ok(())).unwrap();
        assert_ready_ok!(call.poll());
        drop(call);
    });
    assert_eq!(duration(&kept, "call", "cancelled"), Some((2, 1.0)));
    assert_eq!(duration(&kept, "call", "success"), Some((1, 0.0)));
}

#[test]
fn a_call_that_panics_is_told_so_and_once() {
    let kept = Kept::default();
    let layer = TelemetryLayer::call("payments");
    let mut in_call = layer.layer(service_fn(|()| -> Ready<Answer> { panic!("in call") }));
    let mut in_poll = layer.layer(service_fn(async |()| -> Answer { panic!("in poll") }));
    kept.local(|| {
        let called = catch_unwind(AssertUnwindSafe(|| drop(in_call.call(()))));
        assert!(called.is_err());
        let mut call = task::spawn(in_poll.call(()));
        assert!(catch_unwind(AssertUnwindSafe(|| call.poll())).is_err());
        drop(call);
    });
    assert_eq!(duration(&kept, "call", "panicked").unwrap().0, 2);
    assert_eq!(kept.series().len(), 1);
}

#[test]
fn attempts_are_counted_for_the_call_that_makes_them() {
    let kept = Kept::default();
    let attempt =
        TelemetryLayer::attempt("payments").layer(service_fn(async |()| Err::<(), ()>(())));
    // Each call makes as many attempts as it is asked for, and waits after each.
    let many = service_fn(move |attempts: u32| {
        let mut attempt = attempt.clone();
        async move {
            for _ in 0..attempts {
                assert_eq!(attempt.call(()).await, Err(()));
                tokio::task::yield_now().await;
            }
            Ok::<_, Infallible>(())
        }
    });
    let mut service = TelemetryLayer::call("payments").layer(many);
    kept.local(|| {
        let mut calls: Vec<_> = [1, 0, 3, 2].map(|n| task::spawn(service.call(n))).into();
        // In turn, so that each finds its own count again.
        while !calls.is_empty() {
            calls.retain_mut(|call| call.poll().is_pending());
        }
    });
    assert_eq!(
        attempts(&kept),
        Some((3, 6.0)),
        "a call without attempts tells none"
    );
    assert_eq!(duration(&kept, "attempt", "failure").unwrap().0, 6);
    assert_eq!(duration(&kept, "call", "success").unwrap().0, 4);
}

#[test]
fn attempts_of_a_call_within_a_call_are_its_own() {
    let kept = Kept::default();
    let layer = TelemetryLayer::attempt("payments");
    let attempt = layer.layer(service_fn(async |()| Ok::<_, Infallible>(())));
    let inner = {
        let attempt = attempt.clone();
        let twice = service_fn(move |()| {
            let mut attempt = attempt.clone();
            async move {
                attempt.call(()).await?;
                attempt.call(()).await
            }
        });
        TelemetryLayer::call("ledger").layer(twice)
    };
    let outer = service_fn(move |()| {
        let (mut attempt, mut inner) = (attempt.clone(), inner.clone());
        async move {
            attempt.call(()).await?;
            inner.call(()).await?;
            Ok::<_, Infallible>(())
        }
    });
    let mut outer = TelemetryLayer::call("payments").layer(outer);
    kept.local(|| assert_ready_ok!(task::spawn(outer.call(())).poll()));
    assert_eq!(attempts(&kept), Some((1, 1.0)));
    let inner = kept.histogram("resilience_call_attempts{name=\"ledger\"}");
    assert_eq!(inner, Some((1, 2.0)));
}

#[test]
fn a_panic_leaves_the_count_of_the_next_call_alone() {
    let kept = Kept::default();
    let layer = TelemetryLayer::attempt("payments");
    let attempt = layer.layer(service_fn(async |()| Ok::<_, Infallible>(())));
    let service = service_fn(move |panics: bool| {
        let mut attempt = attempt.clone();
        async move {
            let answer = attempt.call(()).await;
            assert!(!panics);
            answer
        }
    });
    let mut service = TelemetryLayer::call("payments").layer(service);
    kept.local(|| {
        let mut call = task::spawn(service.call(true));
        assert!(catch_unwind(AssertUnwindSafe(|| call.poll())).is_err());
        assert_ready_ok!(task::spawn(service.call(false)).poll());
    });
    assert_eq!(attempts(&kept), Some((2, 2.0)));
}

#[test]
fn made_up_reasons_do_not_make_series_without_end() {
    let kept = Kept::default();
    let reasons: Vec<&'static str> = (0..200)
        .map(|reason| &*Box::leak(format!("reason_{reason}").into_boxed_str()))
        .collect();
    let judge = |result: Result<&&'static str, &Infallible>| {
        Ended::Refused(Refusal::new("made_up", result.map_or("", |reason| *reason)))
    };
    let echo = service_fn(async |reason: &'static str| Ok(reason));
    let mut service = TelemetryLayer::call("payments").judge(judge).layer(echo);
    for reason in &reasons {
        kept.local(|| assert_ready_ok!(task::spawn(service.call(*reason)).poll()));
    }
    assert_eq!(kept.series().len(), 1 + 48);
    assert_eq!(refused(&kept, "call", "made_up", "reason_0"), Some(1));
    assert_eq!(refused(&kept, "call", "other", "other"), Some(200 - 47));
}

#[test]
fn two_layers_of_one_name_add_up() {
    let kept = Kept::default();
    let echo = || service_fn(async |()| Ok::<_, Infallible>(()));
    let mut one = TelemetryLayer::call("payments").layer(echo());
    let mut other = TelemetryLayer::call("payments").layer(echo());
    kept.local(|| {
        assert_ready_ok!(task::spawn(one.call(())).poll());
        assert_ready_ok!(task::spawn(one.clone().call(())).poll());
        assert_ready_ok!(task::spawn(other.call(())).poll());
    });
    assert_eq!(duration(&kept, "call", "success").unwrap().0, 3);
}

#[test]
fn readiness_is_that_of_the_service_within_and_tells_nothing() {
    let kept = Kept::default();
    kept.local(|| {
        let (mut service, mut handle) =
            mock::spawn_layer::<&str, &str, _>(TelemetryLayer::call("payments"));
        handle.allow(0);
        assert_pending!(service.poll_ready());
        handle.allow(1);
        assert_ready_ok!(service.poll_ready());
        let mut call = task::spawn(service.call("12"));
        assert_pending!(call.poll());
        let request = task::spawn(handle.next_request()).poll();
        let Poll::Ready(Some((request, response))) = request else {
            panic!("the request is there");
        };
        assert_eq!(request, "12");
        response.send_response("paid");
        assert_eq!(assert_ready_ok!(call.poll()), "paid");
        assert_eq!(kept.series().len(), 1);
        handle.send_error("gone");
        assert_ready_err!(service.poll_ready());
        assert_eq!(kept.series().len(), 1);
    });
}

#[test]
fn the_service_within_is_gone_when_its_answer_is_there() {
    struct Held(std::sync::Arc<()>);
    let there = std::sync::Arc::new(());
    let held = Held(there.clone());
    let mut held = Some(held);
    let mut service = TelemetryLayer::call("payments").layer(service_fn(move |()| {
        let held = held.take();
        async move {
            assert!(held.is_some_and(|held| std::sync::Arc::strong_count(&held.0) == 2));
            Ok::<_, Infallible>(())
        }
    }));
    let mut call = task::spawn(service.call(()));
    assert_ready_ok!(call.poll());
    assert_eq!(std::sync::Arc::strong_count(&there), 1);
    // Once more says nothing more.
    assert_pending!(call.poll());
}

#[derive(Clone)]
struct Noop;

impl Service<bool> for Noop {
    type Response = ();
    type Error = ();
    type Future = Ready<Result<(), ()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, succeeds: bool) -> Self::Future {
        ready(succeeds.then_some(()).ok_or(()))
    }
}

#[test]
fn a_call_that_is_told_allocates_nothing() {
    let kept = Kept::default();
    let judge = |result: Result<&(), &()>| match result {
        Ok(()) => Ended::Success,
        Err(()) => Ended::Refused(Refusal::new("breaker", "open")),
    };
    let attempt = TelemetryLayer::attempt("payments").judge(judge).layer(Noop);
    let mut service = TelemetryLayer::call("payments").judge(judge).layer(attempt);
    let mut context = Context::from_waker(Waker::noop());
    let mut thousand = || {
        for succeeds in [true, false].into_iter().cycle().take(1_000) {
            let call = pin!(service.call(succeeds));
            assert!(call.poll(&mut context).is_ready());
            // One that is dropped.
            drop(service.call(succeeds));
        }
    };
    kept.local(|| {
        // The first calls register the handles.
        thousand();
        assert_eq!(allocation_counter::measure(thousand).count_total, 0);
    });
    assert_eq!(duration(&kept, "call", "success").unwrap().0, 1_000);
    assert_eq!(duration(&kept, "attempt", "cancelled").unwrap().0, 2_000);
    assert_eq!(refused(&kept, "call", "breaker", "open"), Some(1_000));
    assert_eq!(attempts(&kept).unwrap().0, 4_000);
}
