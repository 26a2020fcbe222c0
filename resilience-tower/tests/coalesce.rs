//! Calls that share an answer, over an upstream that answers when told to.
#![cfg(feature = "coalesce")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use proptest::prelude::*;
use resilience_core::clock::ManualClock;
use resilience_core::coalesce::{Config, Reason};
use resilience_tower::coalesce::{
    Coalesce, CoalesceLayer, Coalescing, Error, KeyFn, ShareAll, ShareAnswers,
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::upstream::Upstream;

type Net = Upstream<u64, String, &'static str>;
type Key = KeyFn<fn(&u64) -> Option<u64>>;

/// Requests share by their last digit; those above 99 have no key.
fn last_digit(request: &u64) -> Option<u64> {
    (*request < 100).then_some(request % 10)
}

fn shared(handle: &Coalescing) -> (Net, Coalesce<Net, u64, Key, ShareAll>) {
    let (net, layer) = (
        Net::new(),
        CoalesceLayer::new(handle.clone(), last_digit as _),
    );
    (net.clone(), layer.layer(net))
}

fn answers_only(handle: &Coalescing) -> (Net, Coalesce<Net, u64, Key, ShareAnswers>) {
    let (net, layer) = (
        Net::new(),
        CoalesceLayer::new(handle.clone(), last_digit as _),
    );
    (net.clone(), layer.share_answers_only().layer(net))
}

fn with(config: resilience_core::coalesce::ConfigBuilder) -> (Coalescing, ManualClock) {
    let clock = ManualClock::new();
    let handle = Coalescing::with_clock(config.build().unwrap(), clock.clone());
    (handle, clock)
}

fn ok(text: &str) -> Result<String, &'static str> {
    Ok(text.to_owned())
}

#[test]
fn a_thousand_callers_make_one_call() {
    let handle = Coalescing::default();
    let (net, mut service) = shared(&handle);
    let mut calls: Vec<_> = (0..1000).map(|_| task::spawn(service.call(7))).collect();
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    assert_eq!(net.total(), 1);
    net.answer(ok("seven"));
    for call in &mut calls {
        assert!(call.is_woken());
        assert_eq!(assert_ready!(call.poll()).unwrap(), "seven");
    }
    let snapshot = handle.snapshot();
    assert_eq!(
        (snapshot.calls, snapshot.followers, snapshot.keys),
        (1, 999, 0)
    );
}

#[test]
fn an_answer_is_for_those_that_waited_and_is_not_kept() {
    let (net, mut service) = shared(&Coalescing::default());
    for round in 1..4 {
        let mut call = task::spawn(service.call(7));
        assert_pending!(call.poll());
        assert_eq!(net.total(), round);
        net.answer(ok("seven"));
        assert_eq!(assert_ready!(call.poll()).unwrap(), "seven");
    }
}

#[test]
fn who_sees_the_call_end_is_not_woken_for_it() {
    let (net, mut service) = shared(&Coalescing::default());
    let [mut first, mut second] = [7, 17].map(|request| task::spawn(service.call(request)));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    net.answer(ok("seven"));
    assert_eq!(assert_ready!(first.poll()).unwrap(), "seven");
    assert!(!first.is_woken());
    assert!(second.is_woken());
    assert_eq!(assert_ready!(second.poll()).unwrap(), "seven");
}

#[test]
fn other_keys_and_requests_without_a_key_have_their_own_calls() {
    let (net, mut service) = shared(&Coalescing::default());
    let mut calls: Vec<_> = [1, 2, 101, 101, 11]
        .map(|request| task::spawn(service.call(request)))
        .into();
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    assert_eq!(net.total(), 4, "11 goes with 1");
    let asked = ["a", "b", "c", "d"].map(|answer| net.answer(ok(answer)));
    assert_eq!(asked, [1, 2, 101, 101]);
    let answers: Vec<_> = calls
        .iter_mut()
        .map(|call| assert_ready!(call.poll()).unwrap())
        .collect();
    assert_eq!(answers, ["a", "b", "c", "d", "a"]);
}

#[test]
fn a_first_caller_that_goes_away_leaves_the_call_to_the_others() {
    let (net, mut service) = shared(&Coalescing::default());
    let mut leader = task::spawn(service.call(1));
    assert_pending!(leader.poll());
    let mut follower = task::spawn(service.call(11));
    assert_pending!(follower.poll());
    drop(leader);
    assert_eq!(net.running(), 1, "the call goes on");
    net.answer(ok("one"));
    assert!(follower.is_woken());
    assert_eq!(assert_ready!(follower.poll()).unwrap(), "one");
    assert_eq!(net.total(), 1);
}

#[test]
fn a_first_caller_that_goes_away_before_it_is_polled_is_replaced() {
    let (net, mut service) = shared(&Coalescing::default());
    let leader = service.call(1);
    let mut follower = task::spawn(service.call(11));
    drop(leader);
    assert_pending!(follower.poll());
    assert_eq!(net.answer(ok("eleven")), 11, "its own request");
    assert_eq!(assert_ready!(follower.poll()).unwrap(), "eleven");
}

#[test]
fn the_call_is_dropped_with_the_last_that_waits_for_it() {
    let handle = Coalescing::default();
    let (net, mut service) = shared(&handle);
    let mut calls: Vec<_> = (0..3).map(|_| task::spawn(service.call(1))).collect();
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    for left in [2, 1, 0] {
        calls.pop();
        assert_eq!(net.running(), usize::from(left > 0));
    }
    assert_eq!(handle.snapshot().keys, 0);
    // And the key is as good as new.
    let mut next = task::spawn(service.call(1));
    assert_pending!(next.poll());
    net.answer(ok("one"));
    assert_eq!(assert_ready!(next.poll()).unwrap(), "one");
}

// Known as "futurelock": a `select!` that goes on holds the future that has the turn, and polls it no
// more.
#[test]
fn a_caller_that_is_not_polled_any_more_holds_up_nobody() {
    let (net, mut service) = shared(&Coalescing::default());
    let mut stuck = task::spawn(service.call(1));
    let mut other = task::spawn(service.call(1));
    assert_pending!(other.poll());
    assert_pending!(stuck.poll());
    net.answer(ok("one"));
    assert!(other.is_woken());
    assert_eq!(assert_ready!(other.poll()).unwrap(), "one");
    assert_eq!(assert_ready!(stuck.poll()).unwrap(), "one");
}

#[test]
fn a_panic_is_an_error_for_all_and_the_key_goes_on() {
    let (net, mut service) = shared(&Coalescing::default());
    for _ in 0..2 {
        let mut calls: Vec<_> = (0..3).map(|_| task::spawn(service.call(1))).collect();
        for call in &mut calls {
            assert_pending!(call.poll());
        }
        net.panic();
        for call in &mut calls {
            assert!(call.is_woken());
            assert!(matches!(
                assert_ready!(call.poll()),
                Err(Error::Panicked(_))
            ));
        }
    }
    let mut next = task::spawn(service.call(1));
    assert_pending!(next.poll());
    net.answer(ok("one"));
    assert_eq!(assert_ready!(next.poll()).unwrap(), "one");
}

#[test]
fn an_error_is_shared() {
    let (net, mut service) = shared(&Coalescing::default());
    let mut calls: Vec<_> = (0..3).map(|_| task::spawn(service.call(1))).collect();
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    net.answer(Err("down"));
    for call in &mut calls {
        assert!(matches!(
            assert_ready!(call.poll()),
            Err(Error::Inner("down"))
        ));
    }
    assert_eq!(net.total(), 1);
}

#[test]
fn an_error_that_is_not_shared_goes_to_one_and_the_others_call_themselves() {
    for first_polled in 0..3 {
        let (net, mut service) = answers_only(&Coalescing::default());
        let mut calls: Vec<_> = [1, 11, 21]
            .map(|request| task::spawn(service.call(request)))
            .into();
        for call in &mut calls {
            assert_pending!(call.poll());
        }
        net.answer(Err("down"));
        // Whoever sees it first: the error is of the request that was sent.
        let order = [first_polled, (first_polled + 1) % 3, (first_polled + 2) % 3];
        for at in order {
            let polled = calls[at].poll();
            if at == 0 {
                assert!(matches!(assert_ready!(polled), Err(Error::Inner("down"))));
            } else {
                assert_pending!(polled);
            }
        }
        let mut asked = vec![net.answer(ok("own")), net.answer(ok("own"))];
        asked.sort_unstable();
        assert_eq!(asked, [11, 21]);
        for call in &mut calls[1..] {
            assert_eq!(assert_ready!(call.poll()).unwrap(), "own");
        }
    }
}

#[test]
fn an_error_whose_caller_went_away_goes_to_who_sees_it() {
    let (net, mut service) = answers_only(&Coalescing::default());
    let mut leader = task::spawn(service.call(1));
    let mut follower = task::spawn(service.call(11));
    let mut last = task::spawn(service.call(21));
    assert_pending!(leader.poll());
    assert_pending!(follower.poll());
    assert_pending!(last.poll());
    drop(leader);
    net.answer(Err("down"));
    assert!(matches!(
        assert_ready!(follower.poll()),
        Err(Error::Inner("down"))
    ));
    assert_pending!(last.poll());
    assert_eq!(net.answer(ok("own")), 21);
}

#[test]
fn keys_and_followers_are_bounded() {
    let (handle, _) = with(Config::builder().max_keys(2).max_followers(1));
    let (net, mut service) = shared(&handle);
    let mut running: Vec<_> = [1, 2, 1]
        .map(|request| task::spawn(service.call(request)))
        .into();
    for (request, expected, limit) in [(1, Reason::Followers, 1), (3, Reason::Keys, 2)] {
        match assert_ready!(task::spawn(service.call(request)).poll()) {
            Err(Error::Refused(refused)) => {
                assert_eq!((refused.reason, refused.limit), (expected, limit));
            }
            other => panic!("{other:?}"),
        }
    }
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.refused_keys, snapshot.refused_followers), (1, 1));
    // One that waits no more makes room.
    running.pop();
    running.push(task::spawn(service.call(1)));
    drop(running.remove(1));
    running.push(task::spawn(service.call(3)));
    for call in &mut running {
        assert_pending!(call.poll());
    }
    assert_eq!((net.total(), handle.snapshot().keys), (2, 2));
}

#[test]
fn a_call_that_hangs_does_not_take_its_key_along() {
    let (handle, clock) = with(Config::builder().join_within(Duration::from_secs(5)));
    let (net, mut service) = shared(&handle);
    let mut old = task::spawn(service.call(1));
    assert_pending!(old.poll());
    clock.advance(Duration::from_secs(5));
    let mut new = task::spawn(service.call(1));
    assert_pending!(new.poll());
    assert_eq!((net.total(), handle.snapshot().keys), (2, 1));
    net.answer(ok("late"));
    assert_eq!(assert_ready!(old.poll()).unwrap(), "late");
    // The end of the old one closes not the new one.
    let mut third = task::spawn(service.call(1));
    assert_pending!(third.poll());
    assert_eq!(net.total(), 2);
    net.answer(ok("new"));
    assert_eq!(assert_ready!(new.poll()).unwrap(), "new");
    assert_eq!(assert_ready!(third.poll()).unwrap(), "new");
    assert_eq!(handle.snapshot().keys, 0);
}

#[test]
fn a_change_of_the_settings_holds_for_the_next_call() {
    let (handle, _) = with(Config::builder().max_keys(1));
    let (_net, mut service) = shared(&handle);
    let _first = service.call(1);
    assert!(matches!(
        assert_ready!(task::spawn(service.call(2)).poll()),
        Err(Error::Refused(_))
    ));
    handle.set_config(Config::builder().max_keys(2).build().unwrap());
    assert_pending!(task::spawn(service.call(2)).poll());
    let back = handle.downgrade();
    assert_eq!(back().unwrap().config().max_keys(), 2);
}

#[test]
fn a_call_that_is_gone_leaves_nothing_behind() {
    let handle = Coalescing::default();
    let back = handle.downgrade();
    let (net, mut service) = shared(&handle);
    let mut call = task::spawn(service.call(1));
    assert_pending!(call.poll());
    drop((handle, service));
    // The call goes on without its service.
    net.answer(ok("one"));
    assert_eq!(assert_ready!(call.poll()).unwrap(), "one");
    drop(call);
    assert!(back().is_none());
}

// `ConcurrencyLimit` panics when a clone is called that was not polled ready; and its permits must not
// be taken by those that only wait for another's answer.
#[tokio::test]
async fn the_service_that_is_called_was_polled_ready_and_followers_take_none() {
    let layer = CoalesceLayer::new(Coalescing::default(), last_digit as fn(&u64) -> _);
    let service = ServiceBuilder::new()
        .layer(layer)
        .layer(ConcurrencyLimitLayer::new(1))
        .service(service_fn(async |request: u64| {
            tokio::task::yield_now().await;
            Ok::<_, &'static str>(request)
        }));
    let mut ready: Vec<_> = (0..3).map(|_| service.clone()).collect();
    for clone in &mut ready {
        clone.ready().await.unwrap();
    }
    let calls = ready.iter_mut().map(|service| service.call(5));
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap(), 5);
    }
    drop(ready);
    assert_eq!(service.oneshot(6).await.unwrap(), 6);
}

#[test]
fn an_inner_service_that_does_not_become_ready_is_an_error_for_all() {
    #[derive(Clone)]
    struct Closed;
    impl Service<u64> for Closed {
        type Response = u64;
        type Error = &'static str;
        type Future = std::future::Ready<Result<u64, &'static str>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), &'static str>> {
            std::task::Poll::Ready(Err("closed"))
        }
        fn call(&mut self, _: u64) -> Self::Future {
            unreachable!("it is not ready")
        }
    }
    let layer = CoalesceLayer::new(Coalescing::default(), last_digit as fn(&u64) -> _);
    let mut service = layer.layer(Closed);
    let mut calls = [service.call(1), service.call(1)].map(task::spawn);
    for call in &mut calls {
        assert!(matches!(
            assert_ready!(call.poll()),
            Err(Error::Inner("closed"))
        ));
    }
}

#[test]
fn threads_that_come_and_go_get_their_answers() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let upstream = service_fn(move |request: u64| {
        let counter = Arc::clone(&counter);
        async move {
            counter.fetch_add(1, Ordering::Relaxed);
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            Ok::<_, &'static str>(request)
        }
    });
    let handle = Coalescing::default();
    let service =
        CoalesceLayer::new(handle.clone(), |request: &u64| Some(request % 4)).layer(upstream);
    let thread = |_| {
        let service = service.clone();
        std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().build().unwrap();
            let calls = (0..2_000_u64).map(|request| {
                let call = service.clone().oneshot(request % 4);
                async move {
                    if request % 5 == 0 {
                        // Polled once, and dropped.
                        let mut call = std::pin::pin!(call);
                        let once = std::future::poll_fn(|cx| {
                            let _ = call.as_mut().poll(cx);
                            std::task::Poll::Ready(())
                        });
                        once.await;
                    } else {
                        assert_eq!(call.await.unwrap(), request % 4);
                    }
                }
            });
            let limit = Duration::from_secs(60);
            let all = async { tokio::time::timeout(limit, join_all(calls)).await };
            runtime.block_on(all).expect("nobody hangs");
        })
    };
    let threads: Vec<_> = (0..4).map(thread).collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let snapshot = handle.snapshot();
    assert_eq!(snapshot.keys, 0);
    assert_eq!(snapshot.calls + snapshot.followers, 8_000);
    assert!(calls.load(Ordering::Relaxed) as u64 <= snapshot.calls);
}

proptest! {
    /// At any time each key has at most one call, which runs as long as somebody waits for it, and
    /// each caller gets the answer of the call that it joined.
    #[test]
    fn it_does_what_a_plain_model_does(
        steps in prop::collection::vec((0..6_u8, 0..12_usize), 1..80),
    ) {
        let handle = Coalescing::default();
        let (net, mut service) = shared(&handle);
        // Callers: key and number of the call they wait for; calls: key, begun, order of arrival.
        let mut callers = Vec::new();
        let mut underway: Vec<(u64, usize)> = Vec::new();
        let mut numbers = 0_usize;
        let mut upstream: Vec<(u64, usize)> = Vec::new();
        for (kind, which) in steps {
            match kind {
                0 | 1 => {
                    let key = which as u64 % 3;
                    let joined = underway.iter().find(|(of, _)| *of == key).copied();
                    let (_, number) = joined.unwrap_or_else(|| {
                        numbers += 1;
                        underway.push((key, numbers));
                        (key, numbers)
                    });
                    callers.push((key, number, task::spawn(service.call(key))));
                }
                2 if !callers.is_empty() => {
                    let at = which % callers.len();
                    let (key, number, call) = &mut callers[at];
                    assert_pending!(call.poll());
                    if !upstream.contains(&(*key, *number)) {
                        upstream.push((*key, *number));
                    }
                }
                3 if !callers.is_empty() => {
                    let (key, number, call) = callers.swap_remove(which % callers.len());
                    drop(call);
                    if !callers.iter().any(|(_, other, _)| *other == number) {
                        underway.retain(|one| *one != (key, number));
                        upstream.retain(|one| *one != (key, number));
                    }
                }
                4 if !upstream.is_empty() => {
                    let (key, number) = upstream.remove(0);
                    prop_assert_eq!(net.answer(ok(&number.to_string())), key);
                    underway.retain(|one| *one != (key, number));
                    callers = callers
                        .into_iter()
                        .filter_map(|(of, waits_for, mut call)| {
                            if waits_for != number {
                                return Some((of, waits_for, call));
                            }
                            let answer = assert_ready!(call.poll()).unwrap();
                            assert_eq!(answer, number.to_string());
                            None
                        })
                        .collect();
                }
                _ => {}
            }
            prop_assert_eq!(net.running(), upstream.len());
            prop_assert_eq!(handle.snapshot().keys, underway.len());
        }
        drop(callers);
        prop_assert_eq!(net.running(), 0);
        prop_assert_eq!(handle.snapshot().keys, 0);
    }
}

/// The first caller goes away while the shared call waits for the inner service to become ready.
#[tokio::test]
async fn a_caller_that_goes_away_before_the_service_is_ready_leaves_its_place_to_the_others() {
    let net = Net::new();
    let limited = ConcurrencyLimitLayer::new(1).layer(net.clone());
    let mut busy = limited.clone();
    busy.ready().await.unwrap();
    let running = task::spawn(busy.call(1));
    let layer = CoalesceLayer::new(Coalescing::default(), last_digit as fn(&u64) -> _);
    let mut service = layer.layer(limited);
    let mut leader = task::spawn(service.call(5));
    let mut follower = task::spawn(service.call(15));
    assert_pending!(leader.poll());
    assert_pending!(follower.poll());
    drop(leader);
    assert_eq!(net.total(), 1, "it is not ready yet");
    drop(running);
    assert!(follower.is_woken());
    assert_pending!(follower.poll());
    assert_eq!(net.answer(ok("five")), 5);
    assert_eq!(assert_ready!(follower.poll()).unwrap(), "five");
}

#[cfg(feature = "timeout")]
#[tokio::test(start_paused = true)]
async fn each_caller_has_its_own_deadline() {
    use resilience_tower::timeout::{Error as TimedOut, Timeout};
    use tokio::time::{Instant, sleep};

    let upstream = service_fn(async |request: u64| {
        sleep(Duration::from_secs(3)).await;
        Ok::<_, &'static str>(request)
    });
    let layer = CoalesceLayer::new(Coalescing::default(), last_digit as fn(&u64) -> _);
    let service = layer.layer(upstream);
    let began = Instant::now();
    let call = |seconds| {
        let timed = Timeout::new(service.clone(), Duration::from_secs(seconds));
        async move { (timed.oneshot(1).await, began.elapsed().as_secs()) }
    };
    // The first begins the call, and is the first to give up.
    let (first, second, third) = tokio::join!(call(1), call(5), call(2));
    assert!(matches!(first, (Err(TimedOut::Elapsed(_)), 1)));
    assert!(matches!(second, (Ok(1), 3)));
    assert!(matches!(third, (Err(TimedOut::Elapsed(_)), 2)));
}

// Woken while another one polls the call, a caller found nothing to do; and the other one polled it no
// more.
#[test]
fn a_wake_that_came_while_the_call_was_polled_reaches_the_others_again() {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::task::Poll;

    type Meanwhile = Rc<RefCell<Option<Box<dyn FnOnce()>>>>;
    let meanwhile: Meanwhile = Rc::default();
    let hook = Rc::clone(&meanwhile);
    let upstream = service_fn(move |_: u64| {
        let hook = Rc::clone(&hook);
        std::future::poll_fn(move |cx| {
            let Some(other) = hook.borrow_mut().take() else {
                return Poll::Ready(Ok::<_, &'static str>(7));
            };
            cx.waker().wake_by_ref();
            other();
            Poll::Pending
        })
    });
    let layer = CoalesceLayer::new(Coalescing::default(), last_digit as fn(&u64) -> _);
    let mut service = layer.layer(upstream);
    let mut first = task::spawn(service.call(1));
    let other = Rc::new(RefCell::new(task::spawn(service.call(1))));
    let polled = Rc::clone(&other);
    *meanwhile.borrow_mut() = Some(Box::new(move || {
        assert_pending!(polled.borrow_mut().poll());
    }));
    assert_pending!(first.poll());
    assert!(other.borrow().is_woken());
    assert_eq!(assert_ready!(other.borrow_mut().poll()).unwrap(), 7);
}

#[test]
fn what_nobody_else_waits_for_is_not_copied() {
    use resilience_tower::coalesce::Share;

    #[derive(Clone)]
    struct Counting(Arc<AtomicUsize>);
    impl Share<String, &'static str> for Counting {
        type Kept = String;
        fn keep(&self, result: Result<&String, &&'static str>) -> Option<String> {
            self.0.fetch_add(1, Ordering::Relaxed);
            result.ok().cloned()
        }
        fn give(&self, kept: &String) -> Result<String, &'static str> {
            Ok(kept.clone())
        }
    }

    let (net, copies) = (Net::new(), Arc::new(AtomicUsize::new(0)));
    let share = Counting(Arc::clone(&copies));
    let key = KeyFn(last_digit as fn(&u64) -> _);
    let mut service = CoalesceLayer::of(Coalescing::default(), key, share).layer(net.clone());
    for (callers, expected) in [(1, 0), (3, 1)] {
        let mut calls: Vec<_> = (0..callers).map(|_| task::spawn(service.call(1))).collect();
        for call in &mut calls {
            assert_pending!(call.poll());
        }
        net.answer(ok("one"));
        for call in &mut calls {
            assert_eq!(assert_ready!(call.poll()).unwrap(), "one");
        }
        assert_eq!(copies.load(Ordering::Relaxed), expected);
    }
}
