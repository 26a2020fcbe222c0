//! The read/write split over three nodes that do nothing: a primary and two replicas.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use resilience_core::balance::{self, Endpoint as Place};
use resilience_core::route::{Config, Counter, Freshness, Request, Router, Step};
use resilience_tower::read_write::per_call::{Endpoint, Plain, ReadWrite};
use resilience_tower::read_write::{
    Checkout, Cluster, Failure, Intent, Node, Observation, Role, Token,
};
use tokio::runtime::Runtime;
use tower_service::Service;

use crate::service::Noop;

/// A write that all nodes have.
const TOKEN: Token<Counter> = Token {
    cluster: 7,
    epoch: 1,
    position: Counter(1),
};

const NODES: [(&str, Role); 3] = [
    ("a", Role::Primary),
    ("b", Role::Replica),
    ("c", Role::Replica),
];

/// A node that is what it was from the beginning.
#[derive(Debug)]
pub struct Still(Role);

impl Still {
    const fn seen(&self, at: Duration) -> Observation<Counter> {
        Observation::new(self.0, TOKEN.cluster, TOKEN.epoch, TOKEN.position, at)
    }
}

impl Node for Still {
    type Position = Counter;
    type Connection = Noop;
    type Error = Infallible;

    async fn observe(&self, at: Duration) -> Result<Observation<Counter>, Infallible> {
        Ok(self.seen(at))
    }

    async fn connect(&self, _: u64, _: Intent) -> Result<Noop, Infallible> {
        Ok(Noop)
    }

    async fn position(&self, _: &mut Noop) -> Result<(u64, Counter), Infallible> {
        Ok((TOKEN.epoch, TOKEN.position))
    }

    fn failure(&self, error: &Infallible) -> Failure {
        match *error {}
    }
}

impl Endpoint for Still {
    type Service = Noop;

    fn service(&self) -> &Noop {
        &Noop
    }
}

/// What was seen once counts for as long as anything is measured.
fn config() -> Config {
    let day = Duration::from_secs(86_400);
    let config = Config::builder().poll_interval(day).observation_ttl(day);
    config.build().expect("a day is allowed")
}

/// The router alone.
#[must_use]
pub fn router() -> Router<Counter, ()> {
    let router = Router::new(config(), balance::Config::default(), None);
    let nodes = NODES.map(|(name, _)| Place::new(name, ()));
    router.set_nodes(nodes).expect("three names");
    for (name, role) in NODES {
        router.observe(name, Still(role).seen(router.now()));
    }
    router
}

/// A read of whatever a replica has, and its end.
#[must_use]
pub fn pick_any(router: &Router<Counter, ()>) -> bool {
    pick(router, Freshness::Any)
}

/// A read of a write that all have, and its end.
#[must_use]
pub fn pick_by_token(router: &Router<Counter, ()>) -> bool {
    pick(router, Freshness::AtLeast(&TOKEN))
}

fn pick(router: &Router<Counter, ()>, freshness: Freshness<'_, Counter>) -> bool {
    // As it is when the call arrives: the router reads the clock by itself.
    let request = Request::read(freshness, Duration::ZERO);
    match router.route(&request) {
        Ok(Step::Go(route)) => {
            route.success();
            true
        }
        _ => false,
    }
}

/// The nodes, looked at once.
#[must_use]
pub fn cluster(runtime: &Runtime) -> Cluster<Still> {
    runtime.block_on(async {
        let nodes = NODES.map(|(name, role)| (name, Still(role)));
        let cluster = Cluster::builder(nodes).config(config());
        let cluster = cluster.spawn().expect("three names");
        // The first lease waits for the first look at all nodes.
        let lease = cluster.lease(&read()).await;
        lease.expect("all nodes answer").succeeded();
        cluster
    })
}

fn read() -> Checkout<Counter> {
    Checkout::read(Arc::new(TOKEN))
}

/// A lease for a read of that write, and its end, as often as it is called.
pub fn lease(cluster: &Cluster<Still>, runtime: &Runtime) -> impl FnMut() -> bool {
    let entered = runtime.enter();
    let checkout = read();
    move || {
        let _ = &entered;
        let lease = pin!(cluster.lease(&checkout));
        match lease.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(lease)) => {
                lease.succeeded();
                true
            }
            _ => false,
        }
    }
}

/// The service per call, with the same read.
pub fn per_call(
    cluster: &Cluster<Still>,
) -> impl Service<u64, Error: std::fmt::Debug> + Clone + Send + Sync + 'static + use<> {
    let checkout = read();
    let ask = move |_: &u64| checkout.clone();
    let rules = Plain::new(ask, |error: &Infallible| match *error {});
    ReadWrite::new(cluster.clone(), rules)
}
