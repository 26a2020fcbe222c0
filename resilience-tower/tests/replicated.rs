//! A replicated store that does as the test says.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;

use resilience_core::balance::{Endpoint, EndpointSnapshot};
use resilience_core::breaker;
use resilience_core::clock::{Clock, SharedClock};
use resilience_core::route::Counter;
use resilience_tower::read_write::{
    Builder, Cluster, Failure, Fork, Intent, Node, Observation, Role, Token,
};
use tokio::time::{Instant, sleep};

pub(crate) const CLUSTER: u64 = 7;

pub(crate) const fn millis(time: u64) -> Duration {
    Duration::from_millis(time)
}

/// What a node is, and does.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) role: Role,
    pub(crate) epoch: u64,
    pub(crate) position: u64,
    pub(crate) incarnation: u64,
    /// It answers nothing.
    pub(crate) hung: bool,
    /// It refuses connections and looks.
    pub(crate) down: bool,
    /// Looks and connections take so long.
    pub(crate) takes: Duration,
    pub(crate) connect_takes: Duration,
    /// What a connection fails with.
    pub(crate) connect_fails: Option<Failure>,
    pub(crate) panics: bool,
    /// It panics before there is a future.
    pub(crate) panics_at_once: bool,
    /// Whoever connects is sent away until there was a look.
    pub(crate) knows_nothing: bool,
    /// Where the epoch before ended, if it tells.
    pub(crate) forked_at: Option<u64>,
}

/// A node, and what was asked of it.
#[derive(Clone)]
pub(crate) struct Fake(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    looks: AtomicU64,
    looking: AtomicU64,
    most_looking: AtomicU64,
    connects: AtomicU64,
    open: AtomicU64,
}

/// A connection to a [`Fake`].
pub(crate) struct Connection {
    node: Fake,
    written: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?}")]
pub(crate) struct Broken(pub(crate) Failure);

impl Fake {
    pub(crate) fn new(role: Role) -> Self {
        let state = State {
            role,
            epoch: 1,
            position: 0,
            incarnation: 1,
            hung: false,
            down: false,
            takes: millis(1),
            connect_takes: Duration::ZERO,
            connect_fails: None,
            panics: false,
            panics_at_once: false,
            knows_nothing: false,
            forked_at: None,
        };
        let zero = || AtomicU64::new(0);
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            looks: zero(),
            looking: zero(),
            most_looking: zero(),
            connects: zero(),
            open: zero(),
        }))
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.state.lock().unwrap());
    }

    pub(crate) fn state(&self) -> State {
        self.0.state.lock().unwrap().clone()
    }

    pub(crate) fn looks(&self) -> u64 {
        self.0.looks.load(Ordering::SeqCst)
    }

    /// The most looks at once.
    pub(crate) fn most_looking(&self) -> u64 {
        self.0.most_looking.load(Ordering::SeqCst)
    }

    pub(crate) fn connects(&self) -> u64 {
        self.0.connects.load(Ordering::SeqCst)
    }

    /// Connections that were not given back.
    pub(crate) fn open(&self) -> u64 {
        self.0.open.load(Ordering::SeqCst)
    }

    async fn look(&self, at: Duration) -> Result<Observation<Counter>, Broken> {
        let _looking = Count::one(&self.0.looking, &self.0.most_looking);
        let state = self.answers(self.state().takes).await?;
        assert!(!state.panics, "a bug in the adapter");
        self.set(|state| state.knows_nothing = false);
        let position = Counter(state.position);
        let seen = Observation::new(state.role, CLUSTER, state.epoch, position, at);
        let seen = seen.incarnation(state.incarnation);
        Ok(match state.forked_at {
            Some(position) => seen.history([Fork {
                epoch: state.epoch - 1,
                position: Counter(position),
            }]),
            None => seen,
        })
    }

    async fn answers(&self, takes: Duration) -> Result<State, Broken> {
        if !takes.is_zero() {
            sleep(takes).await;
        }
        let state = self.state();
        if state.hung {
            std::future::pending::<()>().await;
        }
        match state.down {
            true => Err(Broken(Failure::NotSent)),
            false => Ok(state),
        }
    }
}

struct Count<'a>(&'a AtomicU64);

impl<'a> Count<'a> {
    fn one(counter: &'a AtomicU64, most: &AtomicU64) -> Self {
        let now = counter.fetch_add(1, Ordering::SeqCst) + 1;
        most.fetch_max(now, Ordering::SeqCst);
        Self(counter)
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Node for Fake {
    type Position = Counter;
    type Connection = Connection;
    type Error = Broken;

    fn observe(
        &self,
        at: Duration,
    ) -> impl Future<Output = Result<Observation<Counter>, Broken>> + Send {
        self.0.looks.fetch_add(1, Ordering::SeqCst);
        assert!(!self.state().panics_at_once, "a bug in the adapter");
        self.look(at)
    }

    async fn connect(&self, incarnation: u64, _: Intent) -> Result<Connection, Broken> {
        self.0.connects.fetch_add(1, Ordering::SeqCst);
        let state = self.answers(self.state().connect_takes).await?;
        if let Some(failure) = state.connect_fails {
            return Err(Broken(failure));
        }
        if state.incarnation != incarnation || state.knows_nothing {
            return Err(Broken(Failure::Misrouted));
        }
        self.0.open.fetch_add(1, Ordering::SeqCst);
        Ok(Connection {
            node: self.clone(),
            written: None,
        })
    }

    async fn position(&self, connection: &mut Connection) -> Result<(u64, Counter), Broken> {
        // What was written stays so.
        let state = self.answers(Duration::ZERO).await;
        let state = state.map_err(|_| Broken(Failure::Failed))?;
        let written = connection.written.unwrap_or(state.position);
        Ok((state.epoch, Counter(written)))
    }

    fn failure(&self, error: &Broken) -> Failure {
        error.0
    }
}

impl Connection {
    /// Writes, on a node that takes it.
    pub(crate) fn write(&mut self) -> Token<Counter> {
        let mut state = self.node.0.state.lock().unwrap();
        assert_eq!(state.role, Role::Primary);
        state.position += 1;
        self.written = Some(state.position);
        Token {
            cluster: CLUSTER,
            epoch: state.epoch,
            position: Counter(state.position),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.node.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Tokio's time, and a little more at each reading: two questions are never asked at the same time.
#[derive(Debug)]
pub(crate) struct Ticking {
    origin: Instant,
    read: AtomicU64,
}

impl Ticking {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
            read: AtomicU64::new(0),
        }
    }
}

impl Clock for Ticking {
    fn now(&self) -> Duration {
        let read = self.read.fetch_add(1, Ordering::SeqCst);
        self.origin.elapsed() + Duration::from_nanos(read)
    }
}

/// A primary, and replicas of it: `n0`, `n1` and so on.
pub(crate) fn nodes(many: usize) -> Vec<Fake> {
    let role = |index| match index {
        0 => Role::Primary,
        _ => Role::Replica,
    };
    (0..many).map(|index| Fake::new(role(index))).collect()
}

pub(crate) fn named(nodes: &[Fake]) -> Vec<(String, Fake)> {
    let nodes = nodes.iter().enumerate();
    nodes
        .map(|(index, node)| (format!("n{index}"), node.clone()))
        .collect()
}

pub(crate) fn cluster(nodes: &[Fake]) -> Builder<Fake> {
    of(named(nodes).into_iter().map(Endpoint::from))
}

pub(crate) fn of(nodes: impl IntoIterator<Item = Endpoint<Fake>>) -> Builder<Fake> {
    Cluster::builder(nodes).clock(SharedClock::new(Ticking::new()))
}

/// Calls in flight: as the cluster counts them, which must be as the balancer does.
pub(crate) fn in_flight(cluster: &Cluster<Fake>) -> u64 {
    let snapshot = cluster.snapshot();
    let nodes = snapshot.balance.endpoints.iter();
    let nodes: u32 = nodes.map(|node| node.in_flight).sum();
    assert_eq!(u64::from(nodes), snapshot.in_flight);
    snapshot.in_flight
}

/// Successes of a node, as its breaker and the balancer were told.
pub(crate) fn successes(cluster: &Cluster<Fake>, node: &str) -> u64 {
    told(
        cluster,
        node,
        |breaker| breaker.calls - breaker.failures,
        |node| node.successes,
    )
}

/// Failures likewise.
pub(crate) fn failures(cluster: &Cluster<Fake>, node: &str) -> u64 {
    told(
        cluster,
        node,
        |breaker| breaker.failures,
        |node| node.failures,
    )
}

fn told(
    cluster: &Cluster<Fake>,
    name: &str,
    breaker: fn(&breaker::Snapshot) -> u64,
    balance: fn(&EndpointSnapshot) -> u64,
) -> u64 {
    let snapshot = cluster.snapshot();
    let node = snapshot.nodes.iter().find(|node| &*node.name == name);
    let endpoints = &snapshot.balance.endpoints;
    let endpoint = endpoints.iter().find(|node| &*node.name == name);
    breaker(&node.unwrap().breaker) + balance(endpoint.unwrap())
}
