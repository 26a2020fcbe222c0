//! A call that is dropped, wherever it stands, leaves nothing behind.

use resilience_core::breaker::{Mode, State};
use resilience_core::bulkhead;
use resilience_tower::stack::Handle;
use tokio::time::advance;
use tokio_test::{assert_pending, task};
use tower::{Layer, ServiceExt};

use super::{Does, MS, SECOND, Upstream, hasty, outbound};

fn holds_nothing(handle: &Handle, upstream: &Upstream) {
    let bulkhead = handle.bulkhead().unwrap().snapshot();
    assert_eq!((bulkhead.in_flight, bulkhead.queued), (0, 0));
    assert_eq!(upstream.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn before_its_first_poll() {
    let stack = outbound(|_| {});
    let upstream = Upstream::new(Does::Hangs);
    drop(tower::Service::call(&mut stack.layer(upstream.clone()), 7));
    assert_eq!(upstream.calls(), 1);
    holds_nothing(&stack.handle(), &upstream);
}

#[tokio::test(start_paused = true)]
async fn during_an_attempt() {
    let stack = outbound(|stack| stack.breaker = hasty(30 * SECOND));
    let upstream = Upstream::new(Does::Hangs);
    let mut call = task::spawn(stack.layer(upstream.clone()).oneshot(7));
    assert_pending!(call.poll());
    assert_eq!(stack.handle().bulkhead().unwrap().snapshot().in_flight, 1);
    drop(call);
    holds_nothing(&stack.handle(), &upstream);
    let breaker = stack.handle().breaker().unwrap().snapshot();
    assert_eq!((breaker.state, breaker.failures), (State::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn during_a_probe_whose_permit_goes_to_the_next_call() {
    let stack = outbound(|stack| stack.breaker = hasty(30 * SECOND));
    let breaker = stack.handle().breaker().unwrap().clone();
    breaker.set_mode(Mode::ForcedOpen);
    breaker.set_mode(Mode::Automatic);
    assert_eq!(breaker.state(), State::HalfOpen);
    let upstream = Upstream::new(Does::Hangs);
    let service = stack.layer(upstream.clone());
    let mut probe = task::spawn(service.clone().oneshot(7));
    assert_pending!(probe.poll());
    let mut refused = task::spawn(service.clone().oneshot(8));
    assert!(refused.poll().is_ready());
    drop(probe);
    holds_nothing(&stack.handle(), &upstream);
    upstream.does(Does::Answers);
    assert_eq!(service.oneshot(9).await.unwrap(), 9);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn while_it_waits_for_the_next_attempt() {
    let stack = outbound(|_| {});
    let upstream = Upstream::new(Does::Fails);
    let mut call = task::spawn(stack.layer(upstream.clone()).oneshot(7));
    assert_pending!(call.poll());
    holds_nothing(&stack.handle(), &upstream);
    drop(call);
    advance(10 * SECOND).await;
    assert_eq!(upstream.calls(), 1);
    // The retry that was granted stays paid for.
    let budget = stack.handle().retry().unwrap().budget().snapshot();
    assert!(budget.balance <= budget.config.burst_size());
}

#[tokio::test(start_paused = true)]
async fn during_a_later_attempt() {
    let stack = outbound(|_| {});
    let upstream = Upstream::new(Does::Fails);
    let mut call = task::spawn(stack.layer(upstream.clone()).oneshot(7));
    assert_pending!(call.poll());
    upstream.does(Does::Hangs);
    advance(101 * MS).await;
    assert_pending!(call.poll());
    assert_eq!(upstream.running(), 1);
    drop(call);
    holds_nothing(&stack.handle(), &upstream);
}

#[tokio::test(start_paused = true)]
async fn in_the_line_and_with_a_turn_that_it_did_not_learn_of() {
    for turn in [false, true] {
        let stack = outbound(|stack| {
            let line = bulkhead::Config::builder().limit(1).max_queue(5);
            stack.bulkhead = Some(line.max_wait(60 * SECOND));
        });
        let upstream = Upstream::new(Does::Hangs);
        let service = stack.layer(upstream.clone());
        let mut first = task::spawn(service.clone().oneshot(1));
        assert_pending!(first.poll());
        let mut second = task::spawn(service.clone().oneshot(2));
        assert_pending!(second.poll());
        let mut third = task::spawn(service.oneshot(3));
        assert_pending!(third.poll());
        if turn {
            drop(first);
            assert!(second.is_woken());
            drop(second);
        } else {
            drop(second);
            drop(first);
        }
        // The next in line has the place.
        assert!(third.is_woken());
        assert_pending!(third.poll());
        assert_eq!((upstream.calls(), upstream.running()), (2, 1));
        drop(third);
        holds_nothing(&stack.handle(), &upstream);
    }
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_is_ready_and_never_called_holds_nothing() {
    let stack = outbound(|stack| {
        stack.bulkhead = Some(bulkhead::Config::builder().limit(1));
    });
    let upstream = Upstream::new(Does::Answers);
    let mut ready = stack.layer(upstream.clone());
    ready.ready().await.unwrap();
    holds_nothing(&stack.handle(), &upstream);
    assert_eq!(ready.clone().oneshot(7).await.unwrap(), 7);
}
