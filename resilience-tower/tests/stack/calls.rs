//! What becomes of a call.

use resilience_core::breaker::{Mode, OnCancel, State};
use resilience_core::{adaptive, breaker, bulkhead, hedge};
use resilience_tower::admission::{Decided, Decision, Policy};
use resilience_tower::hedge::CloneIf;
use resilience_tower::stack::{self, Budget, Error, Quota};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt};

use super::{Does, MS, SECOND, Upstream, hasty, outbound};

fn who<E>(error: &Error<E>) -> (Policy, &'static str, u32) {
    let admission = error.admission().expect("a policy has decided");
    assert_eq!(admission.name(), Some("payments"));
    let policy = admission.policy().expect("it is a refusal");
    (policy, admission.reason(), admission.attempts())
}

#[tokio::test(start_paused = true)]
async fn an_answer_passes_all_policies() {
    let stack = outbound(|_| {});
    let upstream = Upstream::new(Does::Answers);
    let mut service = stack.layer(upstream.clone());
    assert_eq!(service.ready().await.unwrap().call(7).await.unwrap(), 7);
    let handle = stack.handle();
    assert_eq!(handle.name(), "payments");
    assert_eq!(handle.bulkhead().unwrap().snapshot().in_flight, 0);
    assert_eq!(handle.breaker().unwrap().snapshot().failures, 0);
    assert_eq!(service.handle().deadline().unwrap().snapshot().deadline, 0);
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_a_failure_and_tried_again() {
    let stack = outbound(|_| {});
    let upstream = Upstream::new(Does::Hangs);
    let mut call = task::spawn(stack.layer(upstream.clone()).oneshot(7));
    assert_pending!(call.poll());
    advance(1_001 * MS).await;
    assert_pending!(call.poll());
    let handle = stack.handle();
    assert_eq!(upstream.running(), 0);
    assert_eq!(handle.breaker().unwrap().snapshot().failures, 1);
    upstream.does(Does::Answers);
    advance(101 * MS).await;
    assert_eq!(assert_ready_ok!(call.poll()), 7);
    assert_eq!(upstream.calls(), 2);
    assert_eq!(handle.attempt_timeout().unwrap().snapshot().attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_that_takes_too_long_is_told_as_one() {
    let stack = outbound(|stack| stack.retry.as_mut().unwrap().max_attempts = 2);
    let error = stack.layer(Upstream::new(Does::Hangs)).oneshot(7).await;
    let error = error.unwrap_err();
    assert_eq!(who(&error), (Policy::AttemptTimeout, "attempt", 2));
    assert_eq!(error.admission().unwrap().decision(), Decision::TimeUp);
    assert_eq!(
        error.to_string(),
        "payments: no answer in time (attempt_timeout: attempt)"
    );
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_attempts_and_says_how_many_there_were() {
    let stack = outbound(|_| {});
    let began = Instant::now();
    let upstream = Upstream::new(Does::Hangs);
    let error = stack.layer(upstream.clone()).oneshot(7).await.unwrap_err();
    // 1 s, 100 ms, 1 s, 200 ms, and what is left of 3 s.
    assert_eq!(who(&error), (Policy::Deadline, "deadline", 3));
    assert_eq!(began.elapsed().as_millis(), 3_000);
    assert_eq!((upstream.calls(), upstream.running()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_comes_in_the_line_of_a_later_attempt_says_which_it_was() {
    let stack = outbound(|stack| {
        let line = bulkhead::Config::builder().limit(1).max_queue(1);
        stack.bulkhead = Some(line.max_wait(60 * SECOND));
        stack.attempt_timeout.as_mut().unwrap().after = 2_990 * MS;
    });
    let upstream = Upstream::new(Does::Fails);
    let service = stack.layer(upstream.clone());
    let mut call = task::spawn(service.clone().oneshot(1));
    assert_pending!(call.poll());
    upstream.does(Does::Hangs);
    advance(50 * MS).await;
    let mut other = task::spawn(service.oneshot(2));
    assert_pending!(other.poll());
    advance(51 * MS).await;
    assert_pending!(call.poll());
    assert_eq!(stack.handle().bulkhead().unwrap().snapshot().queued, 1);
    advance(2_900 * MS).await;
    let error = assert_ready_err!(call.poll());
    assert_eq!(who(&error), (Policy::Deadline, "deadline", 2));
    assert_eq!(stack.handle().deadline().unwrap().snapshot().deadline, 1);
}

#[tokio::test(start_paused = true)]
async fn a_turn_does_not_go_to_a_call_whose_deadline_is_over() {
    let stack = outbound(|stack| {
        let line = bulkhead::Config::builder().limit(1).max_queue(2);
        stack.bulkhead = Some(line.max_wait(60 * SECOND));
    });
    let upstream = Upstream::new(Does::Hangs);
    let service = stack.layer(upstream.clone());
    let bulkhead = stack.handle().bulkhead().unwrap().clone();
    let permit = bulkhead.try_acquire_owned().unwrap();
    let mut late = task::spawn(service.clone().oneshot(1));
    assert_pending!(late.poll());
    advance(SECOND).await;
    let mut next = task::spawn(service.oneshot(2));
    assert_pending!(next.poll());
    // Nobody has told the first in line, whose 3 s are over, when the permit comes back.
    advance(2_500 * MS).await;
    drop(permit);
    assert_pending!(next.poll());
    assert_eq!(upstream.running(), 1);
    let error = assert_ready_err!(late.poll());
    assert_eq!(who(&error), (Policy::Deadline, "deadline", 1));
    assert_eq!(stack.handle().deadline().unwrap().snapshot().deadline, 1);
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_line_ends_at_the_deadline_or_when_the_line_says() {
    for (max_wait, policy, took) in [
        (SECOND, Policy::Bulkhead, SECOND),
        (60 * SECOND, Policy::Deadline, 3 * SECOND),
    ] {
        let stack = outbound(|stack| {
            let line = bulkhead::Config::builder().limit(1).max_queue(1);
            stack.bulkhead = Some(line.max_wait(max_wait));
        });
        let upstream = Upstream::new(Does::Answers);
        let service = stack.layer(upstream.clone());
        let bulkhead = stack.handle().bulkhead().unwrap().clone();
        let _permit = bulkhead.try_acquire_owned().unwrap();
        let began = Instant::now();
        let error = service.oneshot(1).await.unwrap_err();
        assert_eq!(who(&error), (policy, "deadline", 1));
        // Tokio's timers go by whole milliseconds.
        assert!(began.elapsed().abs_diff(took) <= MS, "{max_wait:?}");
        assert_eq!((bulkhead.snapshot().queued, upstream.calls()), (0, 0));
    }
}

/// The wait in line leaves the attempt less than its own limit. If that counted as a failure,
/// impatient callers would open the breaker for all others.
#[tokio::test(start_paused = true)]
async fn a_deadline_that_comes_during_an_attempt_counts_as_a_dropped_call() {
    for (on_cancel, state) in [
        (OnCancel::Ignore, State::Closed),
        (OnCancel::Failure, State::Open),
    ] {
        let stack = outbound(|stack| {
            let line = bulkhead::Config::builder().limit(1).max_queue(1);
            stack.bulkhead = Some(line.max_wait(60 * SECOND));
            stack.breaker = hasty(30 * SECOND).map(|breaker| breaker.on_cancel(on_cancel));
            stack.attempt_timeout.as_mut().unwrap().after = 2_999 * MS;
        });
        let service = stack.layer(Upstream::new(Does::AnswersAfter(2_900 * MS)));
        let mut first = task::spawn(service.clone().oneshot(1));
        assert_pending!(first.poll());
        advance(50 * MS).await;
        let mut second = task::spawn(service.oneshot(2));
        assert_pending!(second.poll());
        advance(2_851 * MS).await;
        assert_eq!(assert_ready_ok!(first.poll()), 1);
        assert_pending!(second.poll());
        advance(150 * MS).await;
        let error = assert_ready_err!(second.poll());
        assert_eq!(who(&error), (Policy::Deadline, "deadline", 1));
        let handle = stack.handle();
        assert_eq!(handle.bulkhead().unwrap().snapshot().in_flight, 0);
        assert_eq!(handle.breaker().unwrap().state(), state, "{on_cancel:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_breaker_that_lasts_beyond_the_deadline_ends_the_call_at_once() {
    let stack = outbound(|stack| stack.breaker = hasty(30 * SECOND));
    let handle = stack.handle();
    handle.breaker().unwrap().try_acquire().unwrap().failure();
    let upstream = Upstream::new(Does::Answers);
    let mut call = task::spawn(stack.layer(upstream.clone()).oneshot(7));
    let error = assert_ready_err!(call.poll());
    assert_eq!(who(&error), (Policy::Breaker, "open", 1));
    assert_eq!(error.admission().unwrap().retry_after(), Some(30 * SECOND));
    assert_eq!(upstream.calls(), 0);
    let budget = handle.retry().unwrap().budget();
    assert_eq!(budget.snapshot().balance, budget.config().burst_size());
}

#[tokio::test(start_paused = true)]
async fn a_retry_comes_back_to_an_open_breaker_when_that_admits_a_probe_and_not_before() {
    let stack = outbound(|stack| stack.breaker = hasty(500 * MS));
    let breaker = stack.handle().breaker().unwrap().clone();
    breaker.try_acquire().unwrap().failure();
    let upstream = Upstream::new(Does::Answers);
    let mut call = task::spawn(stack.layer(upstream.clone()).oneshot(7));
    assert_pending!(call.poll());
    advance(599 * MS).await;
    assert_pending!(call.poll());
    // What it asked for, and the backoff.
    advance(2 * MS).await;
    assert_eq!(assert_ready_ok!(call.poll()), 7);
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.rejected, snapshot.state), (1, State::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_was_forced_open_ends_the_call_however_soon_it_would_reset() {
    let stack = outbound(|stack| stack.breaker = hasty(10 * MS));
    stack.handle().breaker().unwrap().set_mode(Mode::ForcedOpen);
    let mut call = task::spawn(stack.layer(Upstream::new(Does::Answers)).oneshot(7));
    let error = assert_ready_err!(call.poll());
    assert_eq!(who(&error), (Policy::Breaker, "forced_open", 1));
}

#[tokio::test(start_paused = true)]
async fn the_attempt_that_opens_the_breaker_is_the_last_within_a_short_deadline() {
    let stack = outbound(|stack| stack.breaker = hasty(30 * SECOND));
    let upstream = Upstream::new(Does::Fails);
    let error = stack.layer(upstream.clone()).oneshot(7).await.unwrap_err();
    // The second attempt met the breaker.
    assert_eq!(who(&error), (Policy::Breaker, "open", 2));
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_bulkhead_ends_the_call_and_is_no_failure_of_the_upstream() {
    let stack = outbound(|stack| {
        stack.bulkhead = Some(bulkhead::Config::builder().limit(1));
        stack.breaker = hasty(30 * SECOND);
    });
    let upstream = Upstream::new(Does::AnswersAfter(500 * MS));
    let service = stack.layer(upstream.clone());
    let mut first = task::spawn(service.clone().oneshot(1));
    assert_pending!(first.poll());
    let mut second = task::spawn(service.oneshot(2));
    let error = assert_ready_err!(second.poll());
    assert_eq!(who(&error), (Policy::Bulkhead, "full", 1));
    assert_eq!(error.admission().unwrap().retry_after(), None);
    let breaker = stack.handle().breaker().unwrap().snapshot();
    assert_eq!((breaker.state, breaker.failures), (State::Closed, 0));
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_retry_holds_no_place_while_it_waits() {
    let stack = outbound(|_| {});
    let upstream = Upstream::new(Does::Fails);
    let mut call = task::spawn(stack.layer(upstream).oneshot(7));
    assert_pending!(call.poll());
    assert_eq!(stack.handle().bulkhead().unwrap().snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_again_by_a_plain_stack() {
    let upstream = Upstream::new(Does::Fails);
    let plain = stack::outbound("payments");
    let error = plain.layer(upstream.clone()).oneshot(7).await.unwrap_err();
    assert!(matches!(error, Error::Inner("failed")));
    assert_eq!(error.admission(), None);
    assert_eq!(error.into_inner(), Some("failed"));
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn all_attempts_that_fail_leave_the_error_of_the_last() {
    let stack = outbound(|_| {});
    let upstream = Upstream::new(Does::Fails);
    let error = stack.layer(upstream.clone()).oneshot(7).await.unwrap_err();
    assert_eq!(error.to_string(), "failed");
    assert_eq!(Decided::admission(&error), None);
    assert_eq!(upstream.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_counts_calls_and_an_upstream_quota_attempts() {
    let per = 3_600 * SECOND;
    let quota = |permits| {
        let burst = None;
        Some(Quota {
            permits,
            per,
            burst,
        })
    };
    let stack = outbound(|stack| {
        stack.order.insert(0, Policy::RateLimit);
        stack.order.insert(5, Policy::UpstreamQuota);
        stack.rate_limit = quota(2);
        stack.upstream_quota = quota(4);
    });
    let upstream = Upstream::new(Does::Fails);
    let service = stack.layer(upstream.clone());
    let handle = stack.handle();
    assert!(service.clone().oneshot(7).await.is_err());
    let remaining =
        |limiter: &resilience_core::rate_limit::RateLimiter| limiter.snapshot().remaining;
    assert_eq!(remaining(handle.rate_limit().unwrap()), 1);
    assert_eq!(remaining(handle.upstream_quota().unwrap()), 1);
    // The second attempt is refused for longer than the deadline.
    let error = service.clone().oneshot(7).await.unwrap_err();
    assert_eq!(who(&error), (Policy::UpstreamQuota, "limited", 2));
    assert_eq!(handle.breaker().unwrap().snapshot().failures, 4);
    let error = service.oneshot(7).await.unwrap_err();
    assert_eq!(who(&error), (Policy::RateLimit, "limited", 0));
    assert_eq!(error.admission().unwrap().decision(), Decision::Refused);
    assert_eq!(upstream.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_for_the_upstream_quota() {
    let stack = outbound(|stack| {
        stack.order.insert(4, Policy::UpstreamQuota);
        stack.upstream_quota = Some(Quota {
            permits: 1,
            per: SECOND,
            burst: None,
        });
    });
    let service = stack.layer(Upstream::new(Does::Answers));
    assert!(service.clone().oneshot(1).await.is_ok());
    let began = Instant::now();
    assert!(service.oneshot(2).await.is_ok());
    assert_eq!(began.elapsed().as_millis(), 1_100);
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_takes_attempts_that_take_too_long_for_overload() {
    let limit = adaptive::Config::builder()
        .initial_limit(20)
        .min_samples(1)
        .window(100 * MS);
    let stack = stack::compose("payments")
        .deadline(10 * SECOND)
        .breaker(breaker::Config::builder())
        .adaptive(limit)
        .attempt_timeout(50 * MS)
        .build()
        .unwrap()
        .clock(super::clock());
    let service = stack.layer(Upstream::new(Does::Hangs));
    for _ in 0..5 {
        let error = service.clone().oneshot(7).await.unwrap_err();
        assert_eq!(who(&error), (Policy::AttemptTimeout, "attempt", 1));
        advance(100 * MS).await;
    }
    let snapshot = stack.handle().adaptive().unwrap().snapshot();
    assert!(snapshot.limit < 20, "{snapshot:?}");
    assert_eq!(snapshot.in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_adaptive_limit_tells_itself() {
    let limit = adaptive::Config::builder().initial_limit(1).min_limit(1);
    let stack = stack::compose("payments")
        .adaptive(limit)
        .attempt_timeout(SECOND)
        .build()
        .unwrap();
    let service = stack.layer(Upstream::new(Does::Hangs));
    let mut first = task::spawn(service.clone().oneshot(1));
    assert_pending!(first.poll());
    let error = service.oneshot(2).await.unwrap_err();
    assert_eq!(who(&error), (Policy::Adaptive, "full", 1));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_ready_tells_its_own_error() {
    let (inner, mut upstream) = tower_test::mock::pair::<u32, u32>();
    upstream.send_error("broken");
    let mut service = outbound(|_| {}).layer(inner);
    let Err(error) = service.ready().await else {
        panic!("it is broken");
    };
    assert_eq!(error.into_inner().unwrap().to_string(), "broken");
}

#[tokio::test(start_paused = true)]
async fn an_empty_stack_only_passes_calls_on() {
    let stack = stack::compose("payments").build().unwrap();
    let service = stack.layer(Upstream::new(Does::Answers));
    assert_eq!(service.oneshot(7).await.unwrap(), 7);
    let handle = stack.handle();
    assert!(handle.breaker().is_none() && handle.retry().is_none());
    assert!(handle.deadline().is_none() && handle.bulkhead().is_none());
}

#[tokio::test(start_paused = true)]
async fn stacks_of_one_upstream_may_share_a_budget() {
    use resilience_core::retry::{BudgetConfig, RetryBudget};

    let config = BudgetConfig::new(0.0, 0).unwrap().burst(2).unwrap();
    let budget = RetryBudget::with_clock(config, super::clock());
    let upstream = Upstream::new(Does::Fails);
    for calls in [3, 1] {
        let before = upstream.calls();
        let stack = outbound(|_| {}).budget(budget.clone());
        assert!(stack.layer(upstream.clone()).oneshot(7).await.is_err());
        assert_eq!(upstream.calls() - before, calls);
        let described = stack.handle().description().retry.unwrap().budget;
        assert_eq!((described.share, described.burst), (0.0, Some(2)));
    }
    // It is not one stack's to change before it is made.
    let stack = outbound(|_| {}).budget(budget.clone());
    let stack = stack.configure(|stack| stack.retry.as_mut().unwrap().budget.share = 0.9);
    let described = stack.unwrap().handle().description().retry.unwrap().budget;
    assert_eq!(described.share, 0.0);
    assert_eq!(budget.config().share(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_is_an_attempt_of_its_own_to_all_within_and_paid_by_the_budget_of_retries() {
    let stack = outbound(|stack| {
        stack.order.insert(2, Policy::Hedge);
        let delay = hedge::Config::builder().fixed_delay(100 * MS);
        stack.hedge = Some(delay);
        stack.retry.as_mut().unwrap().budget = Budget {
            share: 0.0,
            floor_per_second: 0,
            burst: Some(5),
        };
    });
    let stack = stack.hedges(CloneIf(|&request: &u32| request == 7));
    let handle = stack.handle();
    for (request, calls) in [(7, 2), (8, 1)] {
        let upstream = Upstream::new(Does::Hangs);
        let mut call = task::spawn(stack.layer(upstream.clone()).oneshot(request));
        assert_pending!(call.poll());
        upstream.does(Does::Answers);
        advance(101 * MS).await;
        assert_eq!(call.poll().is_ready(), calls == 2);
        assert_eq!(upstream.calls(), calls);
        drop(call);
        assert_eq!(upstream.running(), 0);
        assert_eq!(handle.bulkhead().unwrap().snapshot().in_flight, 0);
    }
    let hedge = handle.hedge().unwrap();
    assert_eq!((hedge.snapshot().begun, hedge.snapshot().won), (1, 1));
    assert_eq!(handle.retry().unwrap().budget().snapshot().balance, 4);
}
