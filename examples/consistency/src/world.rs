//! The servers, and the cluster as a service sees it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use engines::postgres as engine;
use resilience_core::retry::{BudgetConfig, RetryBudget};
use resilience_tower::read_write::{
    Cluster, Config,
    postgres::{self, Node},
};
use tokio::time::{Instant, sleep};

use crate::Failed;

/// Longer than anything takes.
pub(crate) const BOUND: Duration = Duration::from_secs(90);

pub(crate) type Error = resilience_tower::read_write::Error<postgres::Error>;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) servers: engine::Cluster,
    pub(crate) cluster: Cluster<Node>,
    /// Odd while there may be no primary, or a fault makes reads of the primary impossible; goes up at each change.
    broken: AtomicU64,
    /// Odd while anything is broken.
    disturbed: AtomicU64,
    next: AtomicU64,
}

impl World {
    pub(crate) async fn start(replicas: usize) -> Result<Self, Failed> {
        let config = engine::Config::default().with_replicas(replicas);
        let servers = engine::Cluster::start(config).await?;
        let table = "CREATE TABLE writes (id bigint PRIMARY KEY)";
        servers.node(0).sql(table).await?;
        servers.wait_caught_up().await?;
        let mut nodes = Vec::new();
        for server in servers.nodes() {
            nodes.push((server.name().to_owned(), Node::new(server.url().parse()?)));
        }
        // How many reads may move is not what is checked here: all that must.
        let all = BudgetConfig::new(1.0, 1_000)?;
        // A machine that does other things as well looks late.
        let patient = Config::builder().observation_ttl(Duration::from_secs(3));
        let cluster = Cluster::builder(nodes)
            .config(patient.spill(all).build()?)
            .observe_timeout(Duration::from_secs(1))
            .retry_budget(RetryBudget::new(all))
            .max_attempts(u32::try_from(replicas)? + 5)
            .spawn()?;
        let world = Self {
            servers,
            cluster,
            broken: AtomicU64::new(0),
            disturbed: AtomicU64::new(0),
            next: AtomicU64::new(1),
        };
        world.wait_up(replicas + 1).await?;
        Ok(world)
    }

    pub(crate) fn next_id(&self) -> i64 {
        self.next.fetch_add(1, Ordering::Relaxed).cast_signed()
    }

    /// Waits until so many nodes take calls, one of which is the primary.
    pub(crate) async fn wait_up(&self, nodes: usize) -> Result<(), Failed> {
        let until = Instant::now() + BOUND;
        loop {
            let told = self.cluster.snapshot().route;
            let current = told.nodes.iter().filter(|node| {
                node.up && !node.fenced && !node.lagging && node.epoch == told.epoch
            });
            if current.count() >= nodes && told.primary.is_some() {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("{nodes} nodes are not up: {told:?}").into());
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// All is well, and all replicas have all.
    pub(crate) async fn settle(&self) -> Result<(), Failed> {
        self.wait_up(self.servers.nodes().len()).await?;
        Ok(self.servers.wait_caught_up().await?)
    }

    pub(crate) fn primary(&self) -> Result<&engine::Node, Failed> {
        let name = self.cluster.snapshot().route.primary;
        let mut nodes = self.servers.nodes().iter();
        let node = nodes.find(|node| Some(node.name()) == name.as_deref());
        Ok(node.ok_or("no primary")?)
    }

    pub(crate) fn replicas(&self) -> Result<Vec<&engine::Node>, Failed> {
        let primary = self.primary()?.name();
        let nodes = self.servers.nodes().iter();
        Ok(nodes.filter(|node| node.name() != primary).collect())
    }

    /// The primary is about to go.
    pub(crate) fn breaks(&self) {
        self.broken.fetch_add(1, Ordering::SeqCst);
    }

    /// It is back, or replaced.
    pub(crate) fn mended(&self) {
        self.broken.fetch_add(1, Ordering::SeqCst);
    }

    /// For [`was_whole`](Self::was_whole).
    pub(crate) fn mark(&self) -> u64 {
        self.broken.load(Ordering::SeqCst)
    }

    /// A fault begins, or is over.
    pub(crate) fn disturb(&self) {
        self.disturbed.fetch_add(1, Ordering::SeqCst);
    }

    /// For [`was_quiet`](Self::was_quiet).
    pub(crate) fn quiet_mark(&self) -> u64 {
        self.disturbed.load(Ordering::SeqCst)
    }

    /// There was no fault since `mark`.
    pub(crate) fn was_quiet(&self, mark: u64) -> bool {
        mark.is_multiple_of(2) && self.quiet_mark() == mark
    }

    /// There was a primary all the time since `mark`.
    pub(crate) fn was_whole(&self, mark: u64) -> bool {
        mark.is_multiple_of(2) && self.mark() == mark
    }
}
