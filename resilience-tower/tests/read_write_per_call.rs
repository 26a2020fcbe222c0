//! Requests over nodes that are services: each goes to the right one, by an instance that was ready.
#![cfg(feature = "read-write")]

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use futures_util::future::{Either, FutureExt, Pending};
use parking_lot::Mutex;
use resilience_core::clock::Clock;
use resilience_core::retry::{BudgetConfig, RetryBudget};
use resilience_core::route::{Counter, Reason};
use resilience_tower::read_write::per_call::{Endpoint, Plain, ReadWrite, Went};
use resilience_tower::read_write::{
    Builder, Checkout, Cluster, Config, Error, Failure, Intent, NoRoute, Node, Observation,
    ReadFreshness, Role, Token, Why,
};
use tokio::time::{Instant, timeout};
use tower::{Service, ServiceExt};

const MS: Duration = Duration::from_millis(1);

/// A node that does as the test says.
#[derive(Clone)]
struct Fake(Arc<Mutex<State>>);

struct State {
    role: Role,
    epoch: u64,
    position: u64,
    down: bool,
    ready: bool,
    /// What becomes of the next calls; then all succeed.
    script: VecDeque<Act>,
    calls: u64,
}

enum Act {
    Fail(Failure),
    FailReady,
    /// From then on.
    NotReady,
    Hang,
    Panic,
    /// Its future does.
    PanicLater,
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?}")]
struct Broken(Failure);

/// The service of a node: to be called only when it was ready itself.
struct Store {
    node: Fake,
    ready: bool,
}

/// A clock that goes by tokio's, and never tells the same time twice.
#[derive(Debug)]
struct Tokio(Instant, AtomicU64);

impl Clock for Tokio {
    fn now(&self) -> Duration {
        let ticks = self.1.fetch_add(1, Ordering::Relaxed);
        self.0.elapsed() + Duration::from_nanos(ticks)
    }
}

impl Clone for Store {
    fn clone(&self) -> Self {
        Self {
            node: self.node.clone(),
            ready: false,
        }
    }
}

impl Service<Checkout<Counter>> for Store {
    type Response = u64;
    type Error = Broken;
    type Future = Either<Ready<Result<u64, Broken>>, Either<Pending<Result<u64, Broken>>, Panics>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut state = self.node.0.lock();
        if matches!(state.script.front(), Some(Act::FailReady)) {
            state.script.pop_front();
            return Poll::Ready(Err(Broken(Failure::Lost)));
        }
        if matches!(state.script.front(), Some(Act::NotReady)) {
            state.script.pop_front();
            state.ready = false;
        }
        self.ready = state.ready;
        match state.ready {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    fn call(&mut self, _: Checkout<Counter>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called without being ready"
        );
        let mut state = self.node.0.lock();
        state.calls += 1;
        match state.script.pop_front() {
            Some(Act::Fail(failure)) => Either::Left(ready(Err(Broken(failure)))),
            Some(Act::Hang) => Either::Right(Either::Left(futures_util::future::pending())),
            Some(Act::PanicLater) => Either::Right(Either::Right(Panics)),
            Some(Act::Panic) => {
                drop(state);
                panic!("in the service of a node")
            }
            _ => Either::Left(ready(Ok(state.position))),
        }
    }
}

struct Panics;

impl Future for Panics {
    type Output = Result<u64, Broken>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        panic!("in the future of a node")
    }
}

struct Adapter {
    service: Store,
}

impl Node for Adapter {
    type Position = Counter;
    type Connection = ();
    type Error = Broken;

    async fn observe(&self, at: Duration) -> Result<Observation<Counter>, Broken> {
        let state = self.service.node.0.lock();
        match state.down {
            true => Err(Broken(Failure::NotSent)),
            false => {
                let position = Counter(state.position);
                Ok(Observation::new(state.role, 7, state.epoch, position, at))
            }
        }
    }

    async fn connect(&self, _: u64, _: Intent) -> Result<(), Broken> {
        Ok(())
    }

    async fn position(&self, (): &mut ()) -> Result<(u64, Counter), Broken> {
        let state = self.service.node.0.lock();
        Ok((state.epoch, Counter(state.position)))
    }

    fn failure(&self, error: &Broken) -> Failure {
        error.0
    }
}

impl Endpoint for Adapter {
    type Service = Store;

    fn service(&self) -> &Store {
        &self.service
    }
}

impl Fake {
    fn new(role: Role) -> Self {
        Self(Arc::new(Mutex::new(State {
            role,
            epoch: 1,
            position: 1,
            down: false,
            ready: true,
            script: VecDeque::new(),
            calls: 0,
        })))
    }

    fn then(&self, acts: impl IntoIterator<Item = Act>) {
        self.0.lock().script.extend(acts);
    }

    fn calls(&self) -> u64 {
        self.0.lock().calls
    }
}

/// `a` is the primary, `b` and `c` are replicas; all are known.
struct Bench {
    a: Fake,
    b: Fake,
    c: Fake,
    cluster: Cluster<Adapter>,
}

type Asks = fn(&Checkout<Counter>) -> Checkout<Counter>;
type Rules = Plain<Asks, fn(&Broken) -> Failure>;
type Answered = Result<(u64, Went), Error<Broken>>;

impl Bench {
    async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    async fn with(change: impl FnOnce(Builder<Adapter>) -> Builder<Adapter>) -> Self {
        let [a, b, c] = [Role::Primary, Role::Replica, Role::Replica].map(Fake::new);
        let nodes = [("a", &a), ("b", &b), ("c", &c)].map(|(name, node)| {
            let service = Store {
                node: node.clone(),
                ready: false,
            };
            (name, Adapter { service })
        });
        let builder = Cluster::builder(nodes).clock(resilience_core::clock::SharedClock::new(
            Tokio(Instant::now(), AtomicU64::new(0)),
        ));
        let cluster = change(builder).spawn().unwrap();
        let bench = Self { a, b, c, cluster };
        bench.settled().await;
        bench
    }

    /// All nodes were looked at twice.
    async fn settled(&self) {
        tokio::time::sleep(MS * 120).await;
    }

    fn service(&self) -> ReadWrite<Adapter, Rules> {
        let rules: Rules = Plain::new(Checkout::clone, |error| error.0);
        ReadWrite::new(self.cluster.clone(), rules)
    }

    async fn call(&self, checkout: Checkout<Counter>) -> Answered {
        timeout(MS * 60_000, self.service().oneshot(checkout))
            .await
            .expect("an answer")
    }

    fn both_replicas(&self, act: fn() -> Act) {
        self.b.then([act()]);
        self.c.then([act()]);
    }
}

fn any() -> Checkout<Counter> {
    Checkout::read(ReadFreshness::Any)
}

fn at_least(position: u64) -> Checkout<Counter> {
    Checkout::read(Token {
        cluster: 7,
        epoch: 1,
        position: Counter(position),
    })
}

#[tokio::test(start_paused = true)]
async fn a_read_goes_to_a_replica_and_a_write_to_the_primary() {
    let bench = Bench::new().await;
    for _ in 0..20 {
        let (_, went) = bench.call(any()).await.unwrap();
        assert!(["b", "c"].contains(&&*went.node), "{went:?}");
        assert_eq!((went.why, went.attempts, went.cluster), (Why::Fresh, 1, 7));
        let (_, went) = bench.call(Checkout::write()).await.unwrap();
        assert_eq!((&*went.node, went.why), ("a", Why::Write));
    }
    let (_, went) = bench
        .call(Checkout::read(ReadFreshness::Primary))
        .await
        .unwrap();
    assert_eq!((&*went.node, went.why), ("a", Why::Asked));
    assert_eq!(bench.b.calls() + bench.c.calls(), 20);
    assert_eq!(bench.cluster.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_nobody_has_waits_looks_and_spills_to_the_primary() {
    let bench = Bench::new().await;
    bench.a.0.lock().position = 5;
    // Past all that is known: the nodes are looked at, and the primary has it.
    let (position, went) = bench.call(at_least(5)).await.unwrap();
    assert_eq!((position, &*went.node, went.why), (5, "a", Why::Spilled));
    bench.b.0.lock().position = 5;
    bench.settled().await;
    let (position, went) = bench.call(at_least(5)).await.unwrap();
    assert_eq!((position, &*went.node, went.why), (5, "b", Why::Fresh));
    let error = bench.call(at_least(9)).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::NoRoute(NoRoute {
                reason: Reason::Future,
                ..
            })
        ),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_lost_goes_elsewhere_and_a_write_is_of_unknown_outcome() {
    let bench = Bench::new().await;
    let lost = || Act::Fail(Failure::Lost);
    bench.both_replicas(lost);
    let (_, went) = bench.call(any()).await.unwrap();
    assert_eq!(
        (&*went.node, went.why, went.attempts),
        ("a", Why::Spilled, 3)
    );
    assert_eq!((bench.b.calls(), bench.c.calls()), (1, 1));
    bench.a.then([lost()]);
    let error = bench.call(Checkout::write()).await.unwrap_err();
    assert!(matches!(&error, Error::OutcomeUnknown { node, source: Some(_) } if &**node == "a"));
    assert_eq!(bench.a.calls(), 2);
    assert_eq!(bench.cluster.snapshot().outcome_unknown, 1);
    // One that may run twice does.
    bench.a.then([lost()]);
    let (_, went) = bench.call(Checkout::write().idempotent()).await.unwrap();
    assert_eq!((&*went.node, went.attempts), ("a", 2));
}

#[tokio::test(start_paused = true)]
async fn an_error_about_the_call_is_not_tried_elsewhere() {
    let bench = Bench::new().await;
    bench.both_replicas(|| Act::Fail(Failure::Failed));
    let error = bench.call(any()).await.unwrap_err();
    assert!(matches!(error, Error::Inner(Broken(Failure::Failed))));
    assert_eq!(bench.b.calls() + bench.c.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_did_not_run_goes_to_the_primary_of_then() {
    let bench = Bench::new().await;
    bench.a.then([Act::Fail(Failure::Misrouted)]);
    {
        let mut a = bench.a.0.lock();
        (a.role, a.epoch) = (Role::Replica, 2);
        let mut b = bench.b.0.lock();
        (b.role, b.epoch) = (Role::Primary, 2);
    }
    let (_, went) = bench.call(Checkout::write()).await.unwrap();
    assert_eq!((&*went.node, went.why, went.attempts), ("b", Why::Write, 2));
    assert_eq!((bench.a.calls(), bench.b.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn attempts_and_budget_bound_what_is_tried_again() {
    let bench = Bench::with(|builder| builder.max_attempts(2)).await;
    bench.both_replicas(|| Act::Fail(Failure::Lost));
    let error = bench.call(any()).await.unwrap_err();
    let Error::Unreachable {
        failure, source, ..
    } = error
    else {
        panic!("{error:?}")
    };
    assert!(failure == Failure::Lost && source.is_some());
    let none = RetryBudget::new(BudgetConfig::new(0.0, 0).unwrap().burst(1).unwrap());
    none.try_withdraw().unwrap();
    let bench = Bench::with(|builder| builder.retry_budget(none)).await;
    bench.both_replicas(|| Act::Fail(Failure::Lost));
    assert!(matches!(
        bench.call(any()).await,
        Err(Error::Unreachable { .. })
    ));
    assert_eq!(bench.b.calls() + bench.c.calls(), 1);
    // What was not sent costs nothing.
    for node in [&bench.b, &bench.c] {
        node.0.lock().script.clear();
    }
    bench.both_replicas(|| Act::Fail(Failure::NotSent));
    let (_, went) = bench.call(any()).await.unwrap();
    assert_eq!((&*went.node, went.attempts), ("a", 3));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_fails_when_asked_whether_it_is_ready_is_not_called() {
    let bench = Bench::new().await;
    bench.both_replicas(|| Act::FailReady);
    let (_, went) = bench.call(any()).await.unwrap();
    assert_eq!((&*went.node, went.attempts), ("a", 3));
    // Nothing was sent: a write is tried again as well.
    bench.a.then([Act::FailReady]);
    let (_, went) = bench.call(Checkout::write()).await.unwrap();
    assert_eq!((&*went.node, went.attempts), ("a", 2));
    assert_eq!(bench.b.calls() + bench.c.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_a_call_and_a_write_that_was_sent_is_unknown() {
    let bench = Bench::new().await;
    let deadline = MS * 50;
    bench.both_replicas(|| Act::Hang);
    let error = bench.call(any().deadline(deadline)).await.unwrap_err();
    assert!(matches!(error, Error::Deadline));
    bench.a.then([Act::Hang]);
    let error = bench
        .call(Checkout::write().deadline(deadline))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::OutcomeUnknown { source: None, .. }),
        "{error:?}"
    );
    bench.a.then([Act::Hang]);
    let twice = Checkout::write().idempotent().deadline(deadline);
    let error = bench.call(twice).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { source: None, .. }));
    bench.a.0.lock().ready = false;
    let error = bench
        .call(Checkout::write().deadline(deadline))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Deadline));
    // While there is no primary.
    bench.a.0.lock().down = true;
    bench.settled().await;
    let error = bench
        .call(Checkout::write().deadline(deadline))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Deadline | Error::NoRoute(_)),
        "{error:?}"
    );
    assert_eq!(bench.a.calls(), 2);
    assert_eq!(bench.cluster.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_may_have_run_is_unknown_whatever_happened_last() {
    let deadline = MS * 50;
    let twice = || Checkout::write().idempotent().deadline(deadline);
    let unknown = |answered: Answered| {
        let error = answered.unwrap_err();
        assert!(
            matches!(
                &error,
                Error::OutcomeUnknown { node, source: Some(Broken(Failure::Lost)) } if &**node == "a"
            ),
            "{error:?}"
        );
    };
    // The attempts are spent, by one that did not run.
    let bench = Bench::with(|builder| builder.max_attempts(2)).await;
    bench
        .a
        .then([Act::Fail(Failure::Lost), Act::Fail(Failure::Refused)]);
    unknown(bench.call(twice()).await);
    // The time is, while the node is waited for.
    bench.a.then([Act::Fail(Failure::Lost), Act::NotReady]);
    unknown(bench.call(twice()).await);
    // Nobody takes writes.
    bench.a.0.lock().ready = true;
    bench.a.then([Act::Fail(Failure::Lost)]);
    bench.a.0.lock().role = Role::Replica;
    unknown(bench.call(twice()).await);
    assert_eq!(bench.cluster.snapshot().outcome_unknown, 3);
    assert_eq!(bench.cluster.snapshot().in_flight, 0);
    // An error that is about the call is an answer.
    let bench = Bench::new().await;
    bench
        .a
        .then([Act::Fail(Failure::Lost), Act::Fail(Failure::Failed)]);
    assert!(matches!(bench.call(twice()).await, Err(Error::Inner(_))));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_drained_while_a_call_waits_for_it_is_not_called() {
    let bench = Bench::new().await;
    bench.b.0.lock().ready = false;
    bench.c.0.lock().ready = false;
    let mut call = Box::pin(bench.service().oneshot(any()));
    assert!(call.as_mut().now_or_never().is_none());
    bench.cluster.set_draining("b", true);
    bench.cluster.set_draining("c", true);
    bench.b.0.lock().ready = true;
    bench.c.0.lock().ready = true;
    let (_, went) = timeout(MS * 60_000, call).await.unwrap().unwrap();
    assert_eq!((&*went.node, went.attempts), ("a", 1));
    assert_eq!(bench.b.calls() + bench.c.calls(), 0);
    assert_eq!(bench.cluster.snapshot().outdated, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_is_in_flight_no_more() {
    let bench = Bench::new().await;
    bench.a.then([Act::Hang]);
    let mut call = Box::pin(bench.service().oneshot(Checkout::write()));
    assert!(call.as_mut().now_or_never().is_none());
    assert_eq!(bench.cluster.snapshot().in_flight, 1);
    drop(call);
    let snapshot = bench.cluster.snapshot();
    assert_eq!(snapshot.in_flight, 0);
    assert!(
        snapshot
            .balance
            .endpoints
            .iter()
            .all(|node| node.in_flight == 0)
    );
    // One that is dropped in its search as well.
    let mut call = Box::pin(bench.service().oneshot(at_least(9)));
    assert!(call.as_mut().now_or_never().is_none());
    drop(call);
    assert_eq!(bench.cluster.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_node_is_a_failure_of_it() {
    let bench = Bench::new().await;
    bench.a.then([Act::Panic]);
    let panicked = tokio::spawn(bench.service().oneshot(Checkout::write())).await;
    assert!(panicked.unwrap_err().is_panic());
    let snapshot = bench.cluster.snapshot();
    assert_eq!(snapshot.in_flight, 0);
    assert_eq!(snapshot.balance.endpoints[0].failures, 1);
}

// The future outlives the panic.
#[tokio::test(start_paused = true)]
async fn a_panic_that_is_caught_is_a_failure_of_the_node_at_once() {
    let bench = Bench::new().await;
    bench.a.then([Act::PanicLater]);
    let mut call = Box::pin(bench.service().oneshot(Checkout::write()));
    let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().now_or_never()));
    assert!(polled.is_err());
    let snapshot = bench.cluster.snapshot();
    assert_eq!(
        (snapshot.in_flight, snapshot.balance.endpoints[0].failures),
        (0, 1)
    );
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_nobody_takes_ends_with_what_the_last_node_said() {
    let bench = Bench::new().await;
    for node in [&bench.a, &bench.b, &bench.c] {
        node.then([Act::Fail(Failure::NotSent)]);
    }
    let error = bench.call(any()).await.unwrap_err();
    let told = matches!(
        error,
        Error::Unreachable {
            failure: Failure::NotSent,
            source: Some(_),
            ..
        }
    );
    assert!(told, "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_for_the_node_that_comes_back() {
    let bench = Bench::new().await;
    for node in [&bench.a, &bench.b, &bench.c] {
        node.0.lock().down = true;
    }
    bench.settled().await;
    let mut read = Box::pin(bench.service().oneshot(any()));
    assert!(read.as_mut().now_or_never().is_none());
    bench.b.0.lock().down = false;
    assert!(read.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_write_goes_behind_those_that_wait() {
    let bench = Bench::new().await;
    bench.a.0.lock().down = true;
    bench.settled().await;
    let mut first = Box::pin(bench.service().oneshot(Checkout::write()));
    assert!(first.as_mut().now_or_never().is_none());
    bench.a.0.lock().down = false;
    bench.settled().await;
    // Whoever waits has not been asked again yet.
    let mut second = Box::pin(bench.service().oneshot(Checkout::write()));
    assert!(second.as_mut().now_or_never().is_none());
    let (first, second) = tokio::join!(first, second);
    assert!(first.is_ok() && second.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_drains_refuses_calls() {
    let bench = Bench::new().await;
    bench.cluster.drain(MS).await.unwrap();
    let error = bench.call(any()).await.unwrap_err();
    assert!(matches!(
        error,
        Error::NoRoute(NoRoute {
            reason: Reason::Draining,
            ..
        })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_breaker_is_open_is_passed_over() {
    use resilience_core::breaker::Mode;
    let bench = Bench::new().await;
    bench
        .cluster
        .breaker("b")
        .unwrap()
        .set_mode(Mode::ForcedOpen);
    for _ in 0..10 {
        let (_, went) = bench.call(any()).await.unwrap();
        assert_eq!((&*went.node, went.attempts), ("c", 1));
    }
    bench
        .cluster
        .breaker("a")
        .unwrap()
        .set_mode(Mode::ForcedOpen);
    assert!(matches!(
        bench.call(Checkout::write()).await,
        Err(Error::Breaker(_))
    ));
    assert_eq!((bench.a.calls(), bench.b.calls()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_routed_at_once_allocates_nothing() {
    let bench = Bench::with(|builder| builder.config(Config::default())).await;
    let mut service = bench.service();
    let mut once = |checkout: Checkout<Counter>| {
        let mut call = pin!(service.call(checkout));
        match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok((_, went))) => went.attempts,
            other => panic!("{other:?}"),
        }
    };
    // What threads keep for themselves is there.
    for _ in 0..50 {
        once(any());
        once(at_least(1));
        once(Checkout::write());
    }
    for checkout in [any(), at_least(1), Checkout::write()] {
        let measured = measure(|| {
            assert_eq!(once(checkout), 1);
        });
        assert_eq!(measured.count_total, 0);
    }
}
