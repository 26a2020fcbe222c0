//! A whole stack through an outage, the recovery, and a change of its settings.

use std::time::Duration;

use resilience_core::breaker::State;
use resilience_core::bulkhead;
use resilience_tower::admission::Policy;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt};

use super::{Does, MS, SECOND, Upstream, hasty, outbound};

#[tokio::test(start_paused = true)]
async fn an_outage_costs_few_calls_and_ends_by_itself() {
    let stack = outbound(|stack| {
        // Time enough for all three attempts.
        stack.deadline.as_mut().unwrap().total = 5 * SECOND;
        let breaker = hasty(30 * SECOND).map(|breaker| {
            breaker
                .consecutive_failures(None)
                .failure_rate(0.5)
                .minimum_calls(10)
        });
        stack.breaker = breaker;
    });
    let handle = stack.handle();
    let upstream = Upstream::new(Does::Answers);
    let service = stack.layer(upstream.clone());

    for request in 0..20 {
        assert_eq!(service.clone().oneshot(request).await.unwrap(), request);
    }
    assert_eq!(upstream.calls(), 20);

    // It hangs: attempts take a second each until the breaker opens.
    upstream.does(Does::Hangs);
    while handle.breaker().unwrap().state() == State::Closed {
        assert!(service.clone().oneshot(0).await.is_err());
    }
    let at_opening = upstream.calls();
    assert!(at_opening <= 20 + 20 + 2, "{at_opening}");

    // Meanwhile calls cost nothing, and none reaches the upstream.
    let began = Instant::now();
    for _ in 0..1_000 {
        let error = service.clone().oneshot(0).await.unwrap_err();
        let admission = error.admission().expect("it was refused");
        assert_eq!(admission.policy(), Some(Policy::Breaker));
        assert!(admission.retry_after().is_some_and(|wait| wait > SECOND));
    }
    assert_eq!(
        (began.elapsed(), upstream.calls()),
        (Duration::ZERO, at_opening)
    );

    // A probe meets an upstream that hangs still, then one that answers.
    sleep(30 * SECOND).await;
    assert!(service.clone().oneshot(0).await.is_err());
    assert_eq!(upstream.calls(), at_opening + 1);
    assert_eq!(handle.breaker().unwrap().state(), State::Open);
    upstream.does(Does::Answers);
    // The second opening in a row waits twice as long.
    sleep(60 * SECOND).await;
    assert_eq!(service.clone().oneshot(7).await.unwrap(), 7);
    assert_eq!(handle.breaker().unwrap().state(), State::Closed);
    assert_eq!(upstream.running(), 0);
    assert_eq!(handle.bulkhead().unwrap().snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn settings_change_while_calls_run() {
    let stack = outbound(|_| {});
    let handle = stack.handle();
    let upstream = Upstream::new(Does::AnswersAfter(800 * MS));
    let service = stack.layer(upstream.clone());
    let under_way = tokio::spawn(service.clone().oneshot(1));
    sleep(100 * MS).await;
    assert_eq!(upstream.running(), 1);

    let mut settings = handle.description();
    settings.attempt_timeout.as_mut().unwrap().after = 500 * MS;
    settings.retry.as_mut().unwrap().max_attempts = 2;
    settings.bulkhead = Some(bulkhead::Config::builder().limit(1));
    handle.apply(&settings).unwrap();

    // The new limit of calls at once holds at once.
    let error = service.clone().oneshot(2).await.unwrap_err();
    assert_eq!(error.admission().unwrap().policy(), Some(Policy::Bulkhead));
    // The call under way keeps the time that it began with.
    assert_eq!(under_way.await.unwrap().unwrap(), 1);
    // The next has the new one: two attempts of 500 ms, 100 ms apart.
    let began = Instant::now();
    let error = service.oneshot(3).await.unwrap_err();
    let admission = error.admission().unwrap();
    assert_eq!(admission.policy(), Some(Policy::AttemptTimeout));
    assert_eq!(admission.attempts(), 2);
    assert_eq!(began.elapsed().as_millis() / 10, 110);
}
