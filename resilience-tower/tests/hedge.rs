//! The hedge layer over a mock upstream, on tokio's paused clock.
#![cfg(all(feature = "hedge", feature = "http", feature = "timeout"))]

use std::future::ready;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use resilience_core::breaker::{Outcome, classify_fn};
use resilience_core::clock::ManualClock;
use resilience_core::hedge::{Config, ConfigBuilder, HedgePolicy};
use resilience_core::retry::{BudgetConfig, RetryBudget};
use resilience_tower::hedge::{CloneIf, HedgeLayer};
use resilience_tower::retry::CloneRequest;
use resilience_tower::timeout::deadline::{Deadline, HasDeadline};
use tokio::sync::oneshot;
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;

const MS: Duration = Duration::from_millis(1);

fn fixed() -> ConfigBuilder {
    Config::builder().fixed_delay(100 * MS)
}

/// No share of calls, no floor: so many hedges and no more.
fn policy(config: ConfigBuilder, hedges: u32) -> HedgePolicy {
    let budget = BudgetConfig::new(0.0, 0).and_then(|budget| budget.burst(hedges));
    let budget = RetryBudget::with_clock(budget.unwrap(), ManualClock::new());
    HedgePolicy::with_clock(config.build().unwrap(), budget, ManualClock::new())
}

fn balance(policy: &HedgePolicy) -> u32 {
    policy.budget().snapshot().balance
}

type Respond = oneshot::Sender<Result<u32, u32>>;

/// The attempts of a service, to be answered one by one.
#[derive(Clone, Default)]
struct Attempts {
    begun: Arc<Mutex<Vec<Respond>>>,
    dropped: Arc<AtomicU32>,
}

/// Counts a future that is dropped, whether it had ended or not.
struct Counted(Arc<AtomicU32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Attempts {
    fn service(
        &self,
    ) -> impl Service<u32, Response = u32, Error = u32, Future: Send> + Clone + use<> {
        let attempts = self.clone();
        service_fn(move |_: u32| {
            let (sender, answer) = oneshot::channel();
            attempts.begun.lock().unwrap().push(sender);
            let counted = Counted(Arc::clone(&attempts.dropped));
            async move {
                let _counted = counted;
                answer.await.unwrap_or(Err(0))
            }
        })
    }

    fn begun(&self) -> usize {
        self.begun.lock().unwrap().len()
    }

    fn dropped(&self) -> u32 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Of the attempts that are not answered yet.
    fn answer(&self, attempt: usize, answer: Result<u32, u32>) {
        let sender = self.begun.lock().unwrap().remove(attempt);
        sender.send(answer).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_begins_after_the_delay_and_not_before_and_the_first_answer_counts() {
    let policy = policy(fixed(), 9);
    let layer = HedgeLayer::new(policy.clone(), CloneRequest);
    let (mut service, mut upstream) = mock::spawn_layer::<u8, u8, _>(layer);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(7));
    assert_pending!(call.poll());
    let (request, _stuck) = assert_ready!(upstream.poll_request()).unwrap();
    assert_eq!(request, 7);
    advance(99 * MS).await;
    assert_pending!(call.poll());
    assert_pending!(upstream.poll_request());
    advance(2 * MS).await;
    assert!(call.is_woken());
    assert_pending!(call.poll());
    let (request, respond) = assert_ready!(upstream.poll_request()).unwrap();
    assert_eq!(request, 7);
    respond.send_response(9);
    assert_eq!(assert_ready_ok!(call.poll()), 9);
    assert_pending!(call.poll());
    let snapshot = policy.snapshot();
    assert_eq!((snapshot.begun, snapshot.won, balance(&policy)), (1, 1, 8));
}

#[tokio::test(start_paused = true)]
async fn the_losers_are_dropped_when_there_is_an_answer_and_not_when_the_future_is() {
    for winner in [0, 1, 2] {
        let attempts = Attempts::default();
        let layer = HedgeLayer::new(policy(fixed().max_hedges(2), 9), CloneRequest);
        // Not by `oneshot`, which drops the future itself when it is ready.
        let mut call = task::spawn(layer.layer(attempts.service()).call(1));
        for begun in [1, 2, 3] {
            assert_pending!(call.poll());
            assert_eq!((attempts.begun(), attempts.dropped()), (begun, 0));
            advance(101 * MS).await;
        }
        assert_pending!(call.poll());
        assert_eq!(attempts.begun(), 3, "so many and no more");
        attempts.answer(winner, Ok(5));
        assert_eq!(assert_ready_ok!(call.poll()), 5);
        assert_eq!(attempts.dropped(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_fails_does_not_end_the_call_while_another_runs() {
    for fails in [0, 1] {
        let attempts = Attempts::default();
        let layer = HedgeLayer::new(policy(fixed(), 9), CloneRequest);
        let mut call = task::spawn(layer.layer(attempts.service()).oneshot(1));
        assert_pending!(call.poll());
        advance(101 * MS).await;
        assert_pending!(call.poll());
        attempts.answer(fails, Err(3));
        assert_pending!(call.poll());
        assert_eq!(attempts.dropped(), 1);
        attempts.answer(0, Ok(5));
        assert_eq!(assert_ready_ok!(call.poll()), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_attempts_fail_the_last_failure_is_the_answer() {
    let attempts = Attempts::default();
    let layer = HedgeLayer::new(policy(fixed(), 9), CloneRequest);
    let mut call = task::spawn(layer.layer(attempts.service()).oneshot(1));
    assert_pending!(call.poll());
    advance(101 * MS).await;
    assert_pending!(call.poll());
    attempts.answer(1, Err(3));
    assert_pending!(call.poll());
    attempts.answer(0, Err(4));
    assert_eq!(assert_ready_err!(call.poll()), 4);
}

#[tokio::test(start_paused = true)]
async fn a_first_attempt_that_fails_alone_is_the_answer_and_costs_nothing() {
    let attempts = Attempts::default();
    let policy = policy(fixed(), 9);
    let layer = HedgeLayer::new(policy.clone(), CloneRequest);
    let mut call = task::spawn(layer.layer(attempts.service()).oneshot(1));
    assert_pending!(call.poll());
    attempts.answer(0, Err(3));
    assert_eq!(assert_ready_err!(call.poll()), 3);
    advance(Duration::from_secs(9)).await;
    assert_pending!(call.poll());
    assert_eq!((attempts.begun(), balance(&policy)), (0, 9));
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_upstream_gets_no_more_hedges_of_that_call() {
    let attempts = Attempts::default();
    let policy = policy(fixed().max_hedges(3), 9);
    let layer = HedgeLayer::new(policy.clone(), CloneRequest);
    let layer = layer.classify(classify_fn(|result: Result<&u32, &u32>| match result {
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Overloaded { retry_after: None },
    }));
    let mut call = task::spawn(layer.layer(attempts.service()).oneshot(1));
    assert_pending!(call.poll());
    advance(101 * MS).await;
    assert_pending!(call.poll());
    attempts.answer(1, Err(3));
    for _ in 0..5 {
        assert_pending!(call.poll());
        advance(101 * MS).await;
    }
    assert_eq!((attempts.begun(), balance(&policy)), (1, 8));
}

/// A refusal within (a bulkhead that is full) is no answer while the first attempt runs, nor does
/// it teach that attempts take no time.
#[tokio::test(start_paused = true)]
async fn an_ignored_error_of_a_hedge_is_not_the_answer() {
    let attempts = Attempts::default();
    let layer = HedgeLayer::new(policy(fixed(), 9), CloneRequest);
    let layer = layer.classify(classify_fn(|result: Result<&u32, &u32>| match result {
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Ignored,
    }));
    let mut call = task::spawn(layer.layer(attempts.service()).oneshot(1));
    assert_pending!(call.poll());
    advance(101 * MS).await;
    assert_pending!(call.poll());
    attempts.answer(1, Err(3));
    assert_pending!(call.poll());
    attempts.answer(0, Ok(5));
    assert_eq!(assert_ready_ok!(call.poll()), 5);
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_leaves_the_first_attempt_alone() {
    let attempts = Attempts::default();
    let policy = policy(fixed(), 1);
    let service = HedgeLayer::new(policy.clone(), CloneRequest).layer(attempts.service());
    let mut calls = [1, 2].map(|call| task::spawn(service.clone().oneshot(call)));
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    advance(101 * MS).await;
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    assert_eq!(attempts.begun(), 3);
    assert_eq!(policy.snapshot().no_budget, 1);
    attempts.answer(1, Ok(6));
    assert_eq!(assert_ready_ok!(calls[1].poll()), 6);
}

/// tower-resilience called clones that nobody had polled ready (its pull request 307). The limit
/// panics when such a one is called.
#[tokio::test(start_paused = true)]
async fn every_attempt_goes_to_a_service_that_was_polled_ready() {
    let attempts = Attempts::default();
    let mut service = ServiceBuilder::new()
        .layer(HedgeLayer::new(policy(fixed(), 9), CloneRequest))
        .layer(ConcurrencyLimitLayer::new(2))
        .service(attempts.service());
    for round in 1..=3 {
        let mut call = task::spawn(service.ready().await.unwrap().call(1));
        assert_pending!(call.poll());
        advance(101 * MS).await;
        assert_pending!(call.poll());
        assert_eq!(attempts.begun(), 2);
        attempts.answer(1, Ok(round));
        assert_eq!(assert_ready_ok!(call.poll()), round);
        attempts.begun.lock().unwrap().clear();
    }
}

/// tower's hedge once reserved a place of the inner service for every call, hedged or not (its pull
/// request 472).
#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_hedged_yet_reserves_nothing_for_its_hedge() {
    let attempts = Attempts::default();
    let service = ServiceBuilder::new()
        .layer(HedgeLayer::new(policy(fixed(), 9), CloneRequest))
        .layer(ConcurrencyLimitLayer::new(2))
        .service(attempts.service());
    let mut calls = [1, 2].map(|call| task::spawn(service.clone().oneshot(call)));
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    assert_eq!(attempts.begun(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_waits_for_its_service_and_is_given_back_if_the_first_is_answered_before() {
    let attempts = Attempts::default();
    let policy = policy(fixed(), 9);
    let service = ServiceBuilder::new()
        .layer(HedgeLayer::new(policy.clone(), CloneRequest))
        .layer(ConcurrencyLimitLayer::new(1))
        .service(attempts.service());
    let mut call = task::spawn(service.oneshot(1));
    assert_pending!(call.poll());
    advance(101 * MS).await;
    assert_pending!(call.poll());
    assert_eq!((attempts.begun(), balance(&policy)), (1, 8));
    attempts.answer(0, Ok(5));
    assert_eq!(assert_ready_ok!(call.poll()), 5);
    assert_eq!((policy.snapshot().begun, balance(&policy)), (0, 9));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_to_become_ready_again_ends_the_hedge_alone() {
    let policy = policy(fixed(), 9);
    let layer = HedgeLayer::new(policy.clone(), CloneRequest);
    let (mut service, mut upstream) = mock::spawn_layer::<u8, u8, _>(layer);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call(7));
    assert_pending!(call.poll());
    let (_, respond) = assert_ready!(upstream.poll_request()).unwrap();
    upstream.send_error("closed");
    advance(101 * MS).await;
    assert_pending!(call.poll());
    assert_eq!(balance(&policy), 9);
    respond.send_response(3);
    assert_eq!(assert_ready_ok!(call.poll()), 3);
}

/// In each of its states: the first attempt runs, the hedge waits for its service, both run, the
/// hedge alone runs.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_drops_its_attempts_and_pays_only_for_what_began() {
    for (places, fails, begun, left) in [
        (2, false, 1, 9),
        (1, false, 1, 9),
        (2, false, 2, 8),
        (2, true, 2, 8),
    ] {
        let attempts = Attempts::default();
        let policy = policy(fixed(), 9);
        let limit = ConcurrencyLimitLayer::new(places);
        let limited = limit.layer(attempts.service());
        let layer = HedgeLayer::new(policy.clone(), CloneRequest);
        let mut call = task::spawn(layer.layer(limited.clone()).oneshot(1));
        assert_pending!(call.poll());
        if begun == 2 || places == 1 {
            advance(101 * MS).await;
            assert_pending!(call.poll());
        }
        assert_eq!(attempts.begun(), begun);
        if fails {
            attempts.answer(0, Err(1));
            assert_pending!(call.poll());
        }
        drop(call);
        assert_eq!(attempts.dropped() as usize, begun);
        assert_eq!(balance(&policy), left);
        let mut free = limited;
        let mut ready = task::spawn(free.ready());
        assert!(assert_ready!(ready.poll()).is_ok(), "its places are free");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_not_be_doubled_is_sent_once_and_not_measured() {
    let attempts = Attempts::default();
    let policy = policy(fixed(), 9);
    let may = CloneIf(|request: &u32| request.is_multiple_of(2));
    let service = HedgeLayer::new(policy.clone(), may).layer(attempts.service());
    for (request, begun) in [(1, 1), (2, 2)] {
        let mut call = task::spawn(service.clone().oneshot(request));
        assert_pending!(call.poll());
        advance(101 * MS).await;
        assert_pending!(call.poll());
        assert_eq!(attempts.begun(), begun);
        attempts.begun.lock().unwrap().clear();
        drop(call);
    }
    policy.set_config(fixed().build().unwrap());
    assert_eq!(policy.snapshot().samples, 2, "both attempts of the second");
}

#[derive(Clone, Copy)]
struct Due(Option<Deadline>);

impl HasDeadline for Due {
    fn deadline(&self) -> Option<Deadline> {
        self.0
    }

    fn set_deadline(&mut self, deadline: Deadline) {
        self.0 = Some(deadline);
    }
}

#[tokio::test(start_paused = true)]
async fn no_hedge_begins_at_the_deadline_of_its_request_or_after_it() {
    for (deadline, hedges) in [(None, 1), (Some(300), 1), (Some(100), 0), (Some(50), 0)] {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let service = service_fn(move |_: Due| {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<Result<(), ()>>()
        });
        let layer = HedgeLayer::new(policy(fixed(), 9), CloneRequest).honour_deadline();
        let due = deadline.and_then(|ms| Deadline::after(ms * MS));
        let mut call = task::spawn(layer.layer(service).oneshot(Due(due)));
        assert_pending!(call.poll());
        advance(101 * MS).await;
        assert_pending!(call.poll());
        assert_eq!(calls.load(Ordering::Relaxed), 1 + hedges, "{deadline:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_begins_on_time_also_beside_an_attempt_that_uses_up_its_tasks_budget() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let service = service_fn(move |_: u32| {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            if call == 0 {
                loop {
                    tokio::task::consume_budget().await;
                }
            }
            Ok::<_, ()>(call)
        }
    });
    let layer = HedgeLayer::new(policy(fixed(), 9), CloneRequest);
    let call = tokio::spawn(layer.layer(service).oneshot(1));
    for _ in 0..3 {
        tokio::task::yield_now().await;
        advance(60 * MS).await;
    }
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(call.is_finished());
    assert_eq!(call.await.unwrap(), Ok(1));
}

/// Outside of a runtime a timer would panic.
#[test]
fn an_answer_that_is_there_at_once_costs_no_timer_and_no_allocation() {
    let policy = policy(fixed(), 9);
    let echo = service_fn(|request: u32| ready(Ok::<_, ()>(request)));
    let mut service = HedgeLayer::new(policy.clone(), CloneRequest).layer(echo);
    let mut context = Context::from_waker(Waker::noop());
    // A thread's first look at settings that change live takes a place in a list.
    policy.config();
    let counted = measure(|| {
        for request in 0..1_000 {
            assert!(service.poll_ready(&mut context).is_ready());
            let answer = pin!(service.call(request)).poll(&mut context);
            assert_eq!(answer, Poll::Ready(Ok(request)));
        }
    });
    assert_eq!(counted.count_total, 0);
    // Worked out with the first and every 16th of those that take equally long.
    assert_eq!(policy.snapshot().samples, 993);
}

#[tokio::test(start_paused = true)]
async fn a_first_attempt_that_is_pending_allocates_nothing_for_a_hedge_it_does_not_need() {
    let attempts = Attempts::default();
    let layer = HedgeLayer::new(policy(fixed(), 9), CloneRequest);
    let mut call = task::spawn(layer.layer(attempts.service()).oneshot(1));
    assert_pending!(call.poll());
    let counted = measure(|| {
        for _ in 0..100 {
            assert_pending!(call.poll());
        }
    });
    assert_eq!(counted.count_total, 0);
    assert_eq!(Instant::now().elapsed(), Duration::ZERO);
}
