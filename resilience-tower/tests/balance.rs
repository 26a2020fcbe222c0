//! Calls over several endpoints that are ready, are not, fail, come and go.
#![cfg(feature = "balance")]

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use resilience_core::balance::{
    Balancer, Config, ConfigBuilder, Criteria, Endpoint, EndpointId, EndpointSnapshot, Strategy,
    hash_key,
};
use resilience_core::breaker::{Outcome, classify_fn};
use resilience_core::clock::ManualClock;
use resilience_tower::balance::{Balance, CriteriaOf, Error, Reason};
use tokio::sync::oneshot;
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

/// What becomes of a call, said by the test.
type Answer = oneshot::Sender<Result<u32, &'static str>>;

/// An endpoint that does as the test says. Each clone remembers whether it said that it is ready.
struct Upstream {
    shared: Arc<Mutex<Shared>>,
    said_ready: bool,
}

#[derive(Default)]
struct Shared {
    ready: bool,
    broken: bool,
    panics: bool,
    wakers: Vec<Waker>,
    calls: VecDeque<Answer>,
}

impl Upstream {
    fn new(ready: bool) -> Self {
        let shared = Shared {
            ready,
            ..Shared::default()
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
            said_ready: false,
        }
    }

    fn set_ready(&self, ready: bool) {
        let mut shared = self.shared.lock().unwrap();
        shared.ready = ready;
        let wakers = std::mem::take(&mut shared.wakers);
        drop(shared);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn set_broken(&self) {
        self.shared.lock().unwrap().broken = true;
        self.set_ready(true);
    }

    /// Calls that wait for their answer.
    fn calls(&self) -> usize {
        self.shared.lock().unwrap().calls.len()
    }

    fn answer(&self, answer: Result<u32, &'static str>) {
        let call = self.shared.lock().unwrap().calls.pop_front();
        call.expect("a call").send(answer).expect("somebody waits");
    }
}

impl Clone for Upstream {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            said_ready: false,
        }
    }
}

impl Service<u32> for Upstream {
    type Response = u32;
    type Error = &'static str;
    type Future = Pin<Box<dyn Future<Output = Result<u32, &'static str>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        let mut shared = self.shared.lock().unwrap();
        if shared.broken {
            return Poll::Ready(Err("broken"));
        }
        if !shared.ready {
            shared.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        self.said_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u32) -> Self::Future {
        assert!(
            std::mem::take(&mut self.said_ready),
            "another clone said that it is ready"
        );
        let (answer, answered) = oneshot::channel();
        let mut shared = self.shared.lock().unwrap();
        let panics = shared.panics;
        shared.calls.push_back(answer);
        Box::pin(async move {
            assert!(!panics, "a bug in the client");
            answered.await.expect("the test answers")
        })
    }
}

fn balancer(config: ConfigBuilder, upstreams: &[&Upstream]) -> (Balancer<Upstream>, ManualClock) {
    let clock = ManualClock::new();
    clock.set(SECOND);
    let config = config.success_rate_deviations(None).build().unwrap();
    let balancer = Balancer::with_seed(config, clock.clone(), 1);
    let endpoints = upstreams.iter().enumerate();
    let endpoints = endpoints
        .map(|(index, upstream)| Endpoint::new(index.to_string(), Upstream::clone(upstream)));
    balancer.set_endpoints(endpoints).unwrap();
    (balancer, clock)
}

fn robin() -> ConfigBuilder {
    Config::builder().strategy(Strategy::RoundRobin)
}

fn endpoint<S>(balancer: &Balancer<S>, index: usize) -> EndpointSnapshot {
    balancer.snapshot().endpoints[index].clone()
}

fn in_flight<S>(balancer: &Balancer<S>) -> u32 {
    let endpoints = balancer.snapshot().endpoints;
    endpoints.iter().map(|one| one.in_flight).sum()
}

fn reason<T: std::fmt::Debug>(result: Result<T, Error<&'static str>>) -> Reason {
    match result.unwrap_err() {
        Error::Unavailable(unavailable) => unavailable.reason(),
        error => panic!("{error}"),
    }
}

#[test]
fn an_endpoint_that_is_not_ready_is_passed_over_and_none_the_worse_for_it() {
    for strategy in [
        Strategy::RoundRobin,
        Strategy::SmoothWeighted,
        Strategy::LeastConnections,
        Strategy::PeakEwma,
        Strategy::ConsistentHash,
    ] {
        let (busy, free) = (Upstream::new(false), Upstream::new(true));
        let config = Config::builder().strategy(strategy).consecutive_failures(1);
        let (balancer, _) = balancer(config, &[&busy, &busy, &free, &busy]);
        let mut service = Balance::new(balancer.clone());
        for _ in 0..50 {
            let mut call = task::spawn(service.call(1));
            assert_pending!(call.poll());
            assert_eq!(in_flight(&balancer), 1, "{strategy:?}");
            free.answer(Ok(7));
            assert_eq!(assert_ready_ok!(call.poll()), 7);
        }
        assert_eq!(busy.calls(), 0);
        let busy = endpoint(&balancer, 0);
        assert_eq!((busy.in_flight, busy.latency, busy.failures), (0, None, 0));
        assert_eq!(busy.ejected_for, None);
        assert_eq!(endpoint(&balancer, 2).successes, 50);
    }
}

// A balancer that polls a pair of endpoints and takes the one that is pending at its word for
// ever is not woken by the other.
#[test]
fn a_call_that_waits_is_made_by_the_first_endpoint_that_becomes_ready() {
    for first in [0, 1, 2] {
        let upstreams = [(); 3].map(|()| Upstream::new(false));
        let (balancer, _) = balancer(robin(), &upstreams.each_ref());
        let mut service = Balance::new(balancer.clone());
        let mut call = task::spawn(service.call(1));
        assert_pending!(call.poll());
        // It waits, and is in flight nowhere.
        assert_eq!((in_flight(&balancer), service.waiting()), (0, 1));
        let endpoints = balancer.snapshot().endpoints;
        assert!(endpoints.iter().all(|one| one.latency.is_none()));
        upstreams[first].set_ready(true);
        assert!(call.is_woken());
        assert_pending!(call.poll());
        assert_eq!((upstreams[first].calls(), service.waiting()), (1, 0));
        assert_eq!(endpoint(&balancer, first).in_flight, 1);
        upstreams[first].answer(Ok(3));
        assert_eq!(assert_ready_ok!(call.poll()), 3);
        assert_eq!(in_flight(&balancer), 0);
    }
}

#[test]
fn a_call_that_waits_sees_endpoints_come_and_go() {
    let old = Upstream::new(false);
    let (balancer, _) = balancer(robin(), &[&old]);
    let mut service = Balance::new(balancer.clone());
    let mut call = task::spawn(service.call(1));
    assert_pending!(call.poll());
    let new = Upstream::new(false);
    balancer.insert(Endpoint::new("new", new.clone())).unwrap();
    assert!(call.is_woken());
    assert_pending!(call.poll());
    balancer.remove("0");
    assert!(call.is_woken());
    assert_pending!(call.poll());
    // Nobody waits for one that is gone.
    old.set_ready(true);
    assert_pending!(call.poll());
    assert_eq!(old.calls(), 0);
    new.set_ready(true);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    new.answer(Ok(9));
    assert_eq!(assert_ready_ok!(call.poll()), 9);
}

// An endpoint that keeps its name and its weight is none the less another one.
#[test]
fn a_call_that_waits_sees_another_service_of_the_same_endpoint() {
    let old = Upstream::new(false);
    let (balancer, _) = balancer(robin(), &[&old]);
    let mut service = Balance::new(balancer.clone());
    let mut call = task::spawn(service.call(1));
    assert_pending!(call.poll());
    let new = Upstream::new(true);
    let again = [Endpoint::new("0", new.clone())];
    balancer.set_endpoints(again).unwrap();
    assert!(call.is_woken());
    assert_pending!(call.poll());
    assert_eq!((old.calls(), new.calls()), (0, 1));
    new.answer(Ok(9));
    assert_eq!(assert_ready_ok!(call.poll()), 9);
}

#[test]
fn a_call_that_waits_is_told_when_the_last_endpoint_goes() {
    let upstream = Upstream::new(false);
    let (balancer, _) = balancer(robin(), &[&upstream]);
    let mut service = Balance::new(balancer.clone());
    for (change, expected) in [("drain", Reason::Draining), ("remove", Reason::Empty)] {
        balancer.set_weight("0", 1).unwrap();
        let mut call = task::spawn(service.call(1));
        assert_pending!(call.poll());
        match change {
            "drain" => assert!(balancer.drain("0")),
            _ => assert!(balancer.remove("0")),
        }
        assert!(call.is_woken());
        let told = assert_ready_err!(call.poll());
        assert_eq!(reason::<u32>(Err(told)), expected);
        assert_eq!(service.waiting(), 0);
    }
}

#[test]
fn no_more_calls_wait_than_may_and_a_dropped_one_makes_place() {
    let upstream = Upstream::new(false);
    let (balancer, _) = balancer(robin(), &[&upstream]);
    let mut service = Balance::new(balancer.clone()).max_waiting(2);
    let mut clone = service.clone();
    let mut first = task::spawn(service.call(1));
    let mut second = task::spawn(clone.call(1));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    let mut third = task::spawn(service.call(1));
    assert_eq!(
        reason(Err::<(), _>(assert_ready_err!(third.poll()))),
        Reason::NotReady
    );
    drop(second);
    let mut fourth = task::spawn(service.call(1));
    assert_pending!(fourth.poll());
    upstream.set_ready(true);
    assert!(first.is_woken() && fourth.is_woken());
    assert_pending!(first.poll());
    assert_pending!(fourth.poll());
    assert_eq!(upstream.calls(), 2);
    let none = Balance::new(balancer).max_waiting(0);
    upstream.set_ready(false);
    let mut refused = task::spawn(none.oneshot(1));
    let Error::Unavailable(unavailable) = assert_ready_err!(refused.poll()) else {
        panic!("no endpoint was called");
    };
    let expected = (Reason::NotReady, 1);
    assert_eq!((unavailable.reason(), unavailable.endpoints), expected);
}

#[test]
fn a_call_that_is_dropped_at_any_point_is_in_flight_no_more() {
    let upstream = Upstream::new(true);
    let (balancer, clock) = balancer(robin().consecutive_failures(1), &[&upstream]);
    let mut service = Balance::new(balancer.clone());
    // Made and never polled.
    drop(service.call(1));
    assert_eq!(in_flight(&balancer), 0);
    // Polled, without an answer.
    let mut call = task::spawn(service.call(1));
    assert_pending!(call.poll());
    assert_eq!(in_flight(&balancer), 1);
    clock.advance(SECOND * 5);
    drop(call);
    let known = endpoint(&balancer, 0);
    assert_eq!((known.in_flight, known.failures), (0, 0));
    assert_eq!(
        known.latency,
        Some(SECOND * 5),
        "it would have taken longer"
    );
    // Waiting, polled or not.
    upstream.set_ready(false);
    drop(service.call(1));
    let mut call = task::spawn(service.call(1));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!((in_flight(&balancer), service.waiting()), (0, 0));
    // Waiting, and woken.
    let mut call = task::spawn(service.call(1));
    assert_pending!(call.poll());
    upstream.set_ready(true);
    drop(call);
    assert_eq!((in_flight(&balancer), service.waiting()), (0, 0));
    // Answered, and kept.
    let mut call = task::spawn(service.call(1));
    while upstream.calls() > 1 {
        upstream.shared.lock().unwrap().calls.pop_front();
    }
    upstream.answer(Ok(1));
    assert_ready_ok!(call.poll());
    assert_eq!(in_flight(&balancer), 0);
}

#[test]
fn a_service_that_is_ready_and_never_called_holds_nothing() {
    let upstream = Upstream::new(true);
    let (balancer, _) = balancer(robin(), &[&upstream]);
    let service = Balance::new(balancer.clone());
    let mut clones = vec![service.clone(), service.clone(), service];
    for clone in &mut clones {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(clone.poll_ready(&mut cx).is_ready());
    }
    assert_eq!(in_flight(&balancer), 0);
    let shared = Arc::clone(&upstream.shared);
    // The test's, this one, and the balancer's.
    assert_eq!(Arc::strong_count(&shared), 3);
}

#[test]
fn an_endpoint_that_fails_when_asked_is_a_failure_and_the_call_goes_to_another() {
    let (broken, good) = (Upstream::new(true), Upstream::new(true));
    broken.set_broken();
    let (balancer, _) = balancer(robin().consecutive_failures(2), &[&broken, &good]);
    let mut service = Balance::new(balancer.clone());
    for _ in 0..4 {
        let mut call = task::spawn(service.call(1));
        assert_pending!(call.poll());
        good.answer(Ok(2));
        assert_eq!(assert_ready_ok!(call.poll()), 2);
    }
    let known = endpoint(&balancer, 0);
    assert_eq!((known.failures, known.ejected_for.is_some()), (2, true));
    good.set_broken();
    let mut call = task::spawn(service.call(1));
    assert!(matches!(
        assert_ready_err!(call.poll()),
        Error::Inner("broken")
    ));
}

#[test]
fn an_endpoint_that_breaks_while_a_call_waits_leaves_it_to_the_others() {
    let upstreams = [(); 2].map(|()| Upstream::new(false));
    let (balancer, _) = balancer(robin(), &upstreams.each_ref());
    let mut service = Balance::new(balancer.clone());
    let mut call = task::spawn(service.call(1));
    assert_pending!(call.poll());
    upstreams[0].set_broken();
    assert_pending!(call.poll());
    assert_eq!(endpoint(&balancer, 0).failures, 1);
    upstreams[1].set_broken();
    assert!(call.is_woken());
    assert!(matches!(
        assert_ready_err!(call.poll()),
        Error::Inner("broken")
    ));
    // Nothing is left to poll.
    assert_pending!(call.poll());
    assert_eq!((in_flight(&balancer), service.waiting()), (0, 0));
}

#[test]
fn a_panic_of_an_endpoint_is_a_failure_also_when_it_is_caught() {
    let upstream = Upstream::new(true);
    upstream.shared.lock().unwrap().panics = true;
    let (balancer, _) = balancer(robin(), &[&upstream]);
    let mut service = Balance::new(balancer.clone());
    let mut call = task::spawn(service.call(1));
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _ = call.poll();
    }));
    assert!(caught.is_err());
    let known = endpoint(&balancer, 0);
    assert_eq!((known.failures, known.in_flight), (1, 0));
    drop(call);
    assert_eq!(endpoint(&balancer, 0).failures, 1);
    let panics = Balancer::new(Config::default());
    let service = service_fn(|_: u32| -> std::future::Ready<Result<u32, &'static str>> {
        panic!("a bug in the client");
    });
    panics.insert(Endpoint::new("a", service)).unwrap();
    let mut service = Balance::new(panics.clone());
    assert!(catch_unwind(AssertUnwindSafe(|| drop(service.call(1)))).is_err());
    let known = endpoint(&panics, 0);
    assert_eq!((known.failures, known.in_flight), (1, 0));
}

#[test]
fn the_classifier_says_what_a_failure_is_and_failures_eject() {
    let (bad, good) = (Upstream::new(true), Upstream::new(true));
    let (balancer, _) = balancer(robin().consecutive_failures(3), &[&bad, &good]);
    let mut service = Balance::new(balancer.clone()).classify(classify_fn(
        |result: Result<&u32, &&'static str>| match result {
            Ok(500) => Outcome::Failure,
            Err(&"not found") => Outcome::Success,
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Failure,
        },
    ));
    for _ in 0..3 {
        for (upstream, answer) in [(&bad, Ok(500)), (&good, Err("not found"))] {
            let mut call = task::spawn(service.call(1));
            assert_pending!(call.poll());
            upstream.answer(answer);
            assert_eq!(tokio_test::assert_ready!(call.poll()).ok(), answer.ok());
        }
    }
    assert!(endpoint(&balancer, 0).ejected_for.is_some());
    assert_eq!(endpoint(&balancer, 1).successes, 3);
}

#[test]
fn without_an_endpoint_a_call_is_refused_with_the_reason() {
    let upstream = Upstream::new(true);
    let (balancer, _) = balancer(robin().refuse_unhealthy(true), &[&upstream]);
    let mut service = Balance::new(balancer.clone());
    let mut refused = |expected| {
        let mut call = task::spawn(service.call(1));
        let error = assert_ready_err!(call.poll());
        assert!(error.to_string().contains(Reason::as_str(expected)));
        assert_eq!(reason::<u32>(Err(error)), expected);
    };
    balancer.set_health("0", false);
    refused(Reason::Unhealthy);
    balancer.drain("0");
    refused(Reason::Draining);
    balancer.remove("0");
    refused(Reason::Empty);
    assert_eq!(upstream.calls(), 0);
}

#[test]
fn calls_of_one_key_go_to_one_endpoint() {
    let upstreams = [(); 5].map(|()| Upstream::new(true));
    let config = Config::builder().strategy(Strategy::ConsistentHash);
    let (balancer, _) = balancer(config, &upstreams.each_ref());
    let mut service = Balance::new(balancer).criteria(|user: &u32| hash_key(&user.to_le_bytes()));
    let mut used = 0;
    for user in 0..20 {
        let calls: Vec<_> = (0..10).map(|_| task::spawn(service.call(user))).collect();
        let counts: Vec<_> = upstreams.iter().map(Upstream::calls).collect();
        assert_eq!(counts.iter().filter(|calls| **calls > 0).count(), 1);
        used |= 1 << counts.iter().position(|calls| *calls > 0).unwrap();
        drop(calls);
        for upstream in &upstreams {
            upstream.shared.lock().unwrap().calls.clear();
        }
    }
    assert!(u32::count_ones(used) >= 3);
}

/// A request that knows where it was tried.
#[derive(Clone, Copy)]
struct Tried;

impl CriteriaOf<Vec<EndpointId>> for Tried {
    fn criteria_of<'a>(&self, tried: &'a Vec<EndpointId>) -> Criteria<'a> {
        Criteria::default().excluding(tried)
    }
}

#[test]
fn a_request_that_was_tried_goes_elsewhere_and_back_only_if_the_others_are_not_ready() {
    #[derive(Clone)]
    struct Named(usize, Upstream);
    impl Service<Vec<EndpointId>> for Named {
        type Response = usize;
        type Error = &'static str;
        type Future = std::future::Ready<Result<usize, &'static str>>;
        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
            self.1.poll_ready(cx)
        }
        fn call(&mut self, _: Vec<EndpointId>) -> Self::Future {
            std::future::ready(Ok(self.0))
        }
    }
    let upstreams = [(); 3].map(|()| Upstream::new(true));
    let balancer = Balancer::new(robin().build().unwrap());
    let endpoints = upstreams.iter().enumerate();
    let endpoints =
        endpoints.map(|(index, one)| Endpoint::new(index.to_string(), Named(index, one.clone())));
    balancer.set_endpoints(endpoints).unwrap();
    let ids: Vec<_> = balancer
        .snapshot()
        .endpoints
        .iter()
        .map(|one| one.id)
        .collect();
    let mut service = Balance::new(balancer).criteria(Tried);
    let mut call = |tried: &[usize]| {
        let tried: Vec<_> = tried.iter().map(|one| ids[*one]).collect();
        assert_ready_ok!(task::spawn(service.call(tried)).poll())
    };
    for _ in 0..10 {
        assert_eq!(call(&[0, 1]), 2);
        assert_ne!(call(&[1]), 1);
    }
    upstreams[2].set_ready(false);
    assert_eq!(call(&[1]), 0);
    // The one that was not tried is not ready; of those that were tried, one is.
    upstreams[0].set_ready(false);
    for _ in 0..10 {
        assert_eq!(call(&[0, 1]), 1);
    }
}

#[test]
fn the_response_future_can_be_sent_to_another_thread() {
    fn is_send<T: Send>(_: &T) {}
    let (balancer, _) = balancer(robin(), &[]);
    let mut service = Balance::new(balancer);
    is_send(&service.call(1));
    is_send(&service);
}

#[tokio::test]
async fn endpoints_of_different_types_go_behind_a_box() {
    let balancer = Balancer::new(robin().build().unwrap());
    let one = service_fn(|_: u32| async { Ok::<_, &'static str>(1_u32) });
    let two = service_fn(|_: u32| async { Ok::<_, &'static str>(2_u32) });
    let boxed = tower::util::BoxCloneSyncService::new;
    balancer.insert(Endpoint::new("1", boxed(one))).unwrap();
    let boxed = tower::util::BoxCloneSyncService::new;
    balancer.insert(Endpoint::new("2", boxed(two))).unwrap();
    let service = Balance::new(balancer);
    let first = service.clone().oneshot(0).await.unwrap();
    let second = service.oneshot(0).await.unwrap();
    assert_eq!(first + second, 3);
}

#[test]
fn a_call_allocates_nothing() {
    #[derive(Clone)]
    struct Noop;
    impl Service<u32> for Noop {
        type Response = u32;
        type Error = &'static str;
        type Future = std::future::Ready<Result<u32, &'static str>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, request: u32) -> Self::Future {
            std::future::ready(match request % 7 {
                0 => Err("seven"),
                _ => Ok(request),
            })
        }
    }
    for strategy in [
        Strategy::RoundRobin,
        Strategy::SmoothWeighted,
        Strategy::LeastConnections,
        Strategy::PeakEwma,
        Strategy::ConsistentHash,
    ] {
        let balancer = Balancer::new(Config::builder().strategy(strategy).build().unwrap());
        let endpoints = (0..3).map(|one| Endpoint::new(one.to_string(), Noop));
        balancer.set_endpoints(endpoints).unwrap();
        let mut service = Balance::new(balancer);
        let mut cx = Context::from_waker(Waker::noop());
        let mut calls = || {
            for request in 0..1_000 {
                assert!(service.poll_ready(&mut cx).is_ready());
                let call = std::pin::pin!(service.call(request));
                assert!(call.poll(&mut cx).is_ready());
            }
        };
        calls();
        let counted = allocation_counter::measure(calls);
        assert_eq!(counted.count_total, 0, "{strategy:?}");
    }
}

#[test]
fn calls_of_many_threads_find_an_endpoint_while_the_endpoints_change() {
    const CALLS: u32 = 3_000;
    let ready = |name: &str| {
        let service = service_fn(|request: u32| std::future::ready(Ok::<_, &'static str>(request)));
        Endpoint::new(name, service)
    };
    let balancer = Balancer::new(Config::builder().consecutive_failures(2).build().unwrap());
    balancer.insert(ready("stays")).unwrap();
    let service = Balance::new(balancer.clone());
    std::thread::scope(|scope| {
        let calls = || {
            let mut service = service.clone();
            for request in 0..CALLS {
                let mut cx = Context::from_waker(Waker::noop());
                let call = std::pin::pin!(service.call(request));
                assert!(matches!(call.poll(&mut cx), Poll::Ready(Ok(answer)) if answer == request));
            }
        };
        let workers: Vec<_> = (0..3).map(|_| scope.spawn(calls)).collect();
        for round in 0_u32.. {
            if workers
                .iter()
                .all(std::thread::ScopedJoinHandle::is_finished)
            {
                break;
            }
            let name = ["a", "b", "c"][round as usize % 3];
            match round % 4 {
                0 | 1 => balancer.insert(ready(name)).unwrap(),
                2 => assert!(balancer.set_health("stays", round % 8 == 2)),
                _ => drop(balancer.remove(name)),
            }
        }
    });
    assert_eq!(in_flight(&balancer), 0);
    assert_eq!(service.waiting(), 0);
}

#[cfg(feature = "http")]
mod over_http {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::{Request, Response, StatusCode};
    use http_body_util::{BodyExt, Full, StreamBody};
    use resilience_tower::balance::Unavailable;
    use resilience_tower::breaker::http::{HttpClassifier, OnBodyEnd};

    use super::*;

    #[tokio::test]
    async fn a_refusal_is_a_response_with_the_reason() {
        let service = service_fn(|_: Request<()>| async {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
        });
        let balancer = Balancer::new(Config::default());
        balancer.insert(Endpoint::new("a", service)).unwrap();
        let service = Balance::new(balancer.clone());
        let response = service
            .clone()
            .into_response()
            .oneshot(Request::new(()))
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        balancer.drain("a");
        let response = service
            .clone()
            .into_response()
            .oneshot(Request::new(()))
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let refusal = response.extensions().get::<Unavailable>().unwrap();
        assert_eq!(refusal.reason(), Reason::Draining);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["reason"], "draining");
        let response = service
            .into_grpc_response()
            .oneshot(Request::new(()))
            .await
            .unwrap();
        assert_eq!(response.headers()["grpc-status"], "14");
    }

    #[tokio::test]
    async fn judged_by_its_body_a_call_is_in_flight_until_that_ends_and_its_latency_is_the_heads() {
        let clock = ManualClock::new();
        let balancer = Balancer::with_clock(robin().build().unwrap(), clock.clone());
        let service = service_fn(|broken: bool| async move {
            let last = match broken {
                true => Err("reset"),
                false => Ok(http_body::Frame::data(Bytes::from_static(b"!"))),
            };
            let first = Ok(http_body::Frame::data(Bytes::from_static(b"hello")));
            let frames = futures_util::stream::iter([first, last]);
            Ok::<_, Infallible>(Response::new(StreamBody::new(frames)))
        });
        balancer.insert(Endpoint::new("a", service)).unwrap();
        let service = Balance::new(balancer.clone()).judge(OnBodyEnd(HttpClassifier));
        let response = service.clone().oneshot(false).await.unwrap();
        clock.advance(SECOND * 20);
        assert_eq!(in_flight(&balancer), 1);
        response.into_body().collect().await.unwrap();
        let known = endpoint(&balancer, 0);
        assert_eq!((known.in_flight, known.successes), (0, 1));
        assert!(known.latency.unwrap() < SECOND);
        let response = service.clone().oneshot(true).await.unwrap();
        assert!(response.into_body().collect().await.is_err());
        let known = endpoint(&balancer, 0);
        assert_eq!((known.in_flight, known.failures), (0, 1));
        // A body that nobody reads to its end says nothing.
        let response = service.oneshot(false).await.unwrap();
        assert_eq!(in_flight(&balancer), 1);
        drop(response);
        let known = endpoint(&balancer, 0);
        assert_eq!(
            (known.in_flight, known.successes, known.failures),
            (0, 1, 1)
        );
    }
}
