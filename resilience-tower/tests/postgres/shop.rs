//! A service that writes and reads its own writes, and what it was told.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use engines::postgres as engine;
use resilience_core::{
    retry::{BudgetConfig, RetryBudget},
    route::{Lsn, Reason, Token},
};
use resilience_tower::read_write::{
    Checkout, Cluster, Config, Error, Why,
    postgres::{self, Node},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::rig::{BOUND, reached, start};

pub(super) type Told = Token<Lsn>;
pub(super) type Failed = Error<postgres::Error>;

/// How long a statement may take: shorter than a server is stopped for.
const STATEMENT: Duration = Duration::from_millis(500);

pub(super) struct Shop {
    pub(super) servers: engine::Cluster,
    pub(super) cluster: Cluster<Node>,
    next: AtomicI64,
}

/// A read of one write.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) found: bool,
    pub(super) node: String,
    pub(super) why: Why,
}

/// What became of writes, as the service was told.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) acknowledged: Vec<(i64, Told)>,
    pub(super) unknown: Vec<i64>,
    pub(super) not_run: Vec<i64>,
}

impl Book {
    pub(super) fn others(&self) -> String {
        let (unknown, not_run) = (self.unknown.len(), self.not_run.len());
        format!("{unknown} of unknown outcome, {not_run} not run")
    }
}

impl Shop {
    pub(super) async fn open() -> Arc<Self> {
        let servers = start(engine::Config::default()).await;
        let nodes = servers.nodes().iter();
        let nodes = nodes.map(|server| (server.name().to_owned(), reached(server).build()));
        // How many reads may move is not what is tested here: all that must.
        let all = BudgetConfig::new(1.0, 1_000).expect("a share");
        // A machine that does other things as well looks late.
        let config = Config::builder().observation_ttl(Duration::from_secs(3));
        let config = config.spill(all).build().expect("settings");
        let cluster = Cluster::builder(nodes)
            .config(config)
            .observe_timeout(Duration::from_secs(1))
            .retry_budget(RetryBudget::new(all))
            .max_attempts(8);
        let cluster = cluster.spawn().expect("settings");
        let shop = Self {
            servers,
            cluster,
            next: AtomicI64::new(1),
        };
        shop.wait_up(4).await;
        Arc::new(shop)
    }

    /// Waits until so many nodes are up, one of which is the primary.
    pub(super) async fn wait_up(&self, nodes: usize) {
        let until = Instant::now() + BOUND;
        loop {
            let told = self.cluster.snapshot().route;
            let current = told.nodes.iter().filter(|node| {
                node.up && !node.fenced && !node.lagging && node.epoch == told.epoch
            });
            if current.count() >= nodes && told.primary.is_some() {
                return;
            }
            assert!(Instant::now() < until, "{nodes} nodes up: {told:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn write(&self) -> (i64, Result<Told, Failed>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let until = Instant::now() + BOUND;
        loop {
            match self.write_once(id).await {
                Err(error) => match come_again(error, until).await {
                    Ok(()) => {}
                    Err(error) => return (id, Err(error)),
                },
                told => return (id, told),
            }
        }
    }

    async fn write_once(&self, id: i64) -> Result<Told, Failed> {
        let checkout = Checkout::write().deadline(BOUND);
        let write = async |mut lease: resilience_tower::read_write::Lease<Node>| {
            let begun = lease.transaction().await?;
            begun
                .execute("INSERT INTO writes VALUES ($1)", &[&id])
                .await?;
            begun.commit().await
        };
        self.cluster.run(&checkout, write).await
    }

    /// One that is acknowledged.
    pub(super) async fn written(&self) -> (i64, Told) {
        let (id, token) = self.write().await;
        (id, token.expect("it is acknowledged"))
    }

    /// A read of one's own write.
    pub(super) async fn read(&self, id: i64, token: &Told) -> Result<Read, Failed> {
        let until = Instant::now() + BOUND;
        loop {
            match self.read_once(id, token).await {
                Err(error) => come_again(error, until).await?,
                read => return read,
            }
        }
    }

    async fn read_once(&self, id: i64, token: &Told) -> Result<Read, Failed> {
        let checkout = Checkout::read(token.clone());
        let read = async |lease: resilience_tower::read_write::Lease<Node>| {
            let question = "SELECT EXISTS (SELECT FROM writes WHERE id = $1)";
            let row = timeout(STATEMENT, lease.query_one(question, &[&id])).await??;
            Ok(Read {
                found: row.get(0),
                node: lease.node().to_owned(),
                why: lease.why(),
            })
        };
        self.cluster.run(&checkout, read).await
    }

    /// A write, and the read that must show it.
    pub(super) async fn round(&self) -> Read {
        let (id, token) = self.written().await;
        let read = self.read(id, &token).await.expect("a node is healthy");
        assert!(read.found, "write {id} is not shown: {read:?}");
        read
    }

    /// The server that takes writes.
    pub(super) fn primary(&self) -> &engine::Node {
        let primary = self.cluster.snapshot().route.primary;
        self.server(&primary.expect("there is one"))
    }

    pub(super) fn server(&self, name: &str) -> &engine::Node {
        let mut nodes = self.servers.nodes().iter();
        nodes.find(|node| node.name() == name).expect("its name")
    }

    /// What a server holds.
    pub(super) async fn held(&self, server: &engine::Node) -> BTreeSet<i64> {
        let rows = server
            .sql("SELECT id FROM writes")
            .await
            .expect("it answers");
        rows.lines().filter_map(|id| id.parse().ok()).collect()
    }

    /// Writes by four tasks while `fault` goes on.
    pub(super) async fn writes_during(self: &Arc<Self>, fault: impl Future<Output = ()>) -> Book {
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let (shop, over) = (Arc::clone(self), Arc::clone(&over));
            tasks.spawn(async move {
                let mut told = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    told.push(shop.write().await);
                }
                told
            });
        }
        fault.await;
        over.store(true, Ordering::Relaxed);
        let mut book = Book::default();
        for (id, told) in tasks.join_all().await.into_iter().flatten() {
            match told {
                Ok(token) => book.acknowledged.push((id, token)),
                Err(Error::OutcomeUnknown { .. }) => book.unknown.push(id),
                Err(_) => book.not_run.push(id),
            }
        }
        assert!(!book.acknowledged.is_empty(), "nothing was written");
        book
    }

    /// Reads one's own writes by four tasks while `fault` goes on: none fails, none is stale. How many,
    /// and of them by the primary.
    pub(super) async fn reads_during(
        self: &Arc<Self>,
        fault: impl Future<Output = ()>,
    ) -> (u64, u64) {
        let over = Arc::new(AtomicBool::new(false));
        let counts = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let (id, token) = self.written().await;
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let (shop, over, token) = (Arc::clone(self), Arc::clone(&over), token.clone());
            let counts = Arc::clone(&counts);
            tasks.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let read = shop.read(id, &token).await.expect("a node is healthy");
                    assert!(read.found, "write {id} is not shown: {read:?}");
                    counts.0.fetch_add(1, Ordering::Relaxed);
                    if read.why == Why::Spilled {
                        counts.1.fetch_add(1, Ordering::Relaxed);
                    }
                    sleep(Duration::from_millis(2)).await;
                }
            });
        }
        fault.await;
        over.store(true, Ordering::Relaxed);
        tasks.join_all().await;
        let (reads, spilled) = &*counts;
        (
            reads.load(Ordering::Relaxed),
            spilled.load(Ordering::Relaxed),
        )
    }

    /// Each write is what the service was told: there, or lost and told so, or not there.
    pub(super) async fn check(&self, book: &Book) -> Checked {
        let held = self.held(self.primary()).await;
        let mut checked = Checked::default();
        for (id, token) in &book.acknowledged {
            match self.read(*id, token).await {
                Ok(read) => {
                    assert!(read.found, "write {id} is not shown: {read:?}");
                    assert!(held.contains(id));
                    checked.found += 1;
                }
                Err(Error::NoRoute(none)) if none.reason == Reason::Diverged => {
                    assert!(!held.contains(id), "write {id} is there");
                    checked.diverged += 1;
                }
                Err(error) => panic!("write {id}: {error:?}"),
            }
        }
        for id in &book.not_run {
            assert!(!held.contains(id), "write {id} ran");
        }
        checked.unknown_held = book.unknown.iter().filter(|id| held.contains(id)).count();
        checked
    }
}

/// Does as it is told by an error that tells when to come again, as a service would: the looks of a
/// busy machine are late, or a breaker is still open.
async fn come_again(error: Failed, until: Instant) -> Result<(), Failed> {
    match error.retry_after() {
        Some(time) if Instant::now() < until => {
            sleep(time.min(Duration::from_millis(50))).await;
            Ok(())
        }
        _ => Err(error),
    }
}

#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) found: usize,
    pub(super) diverged: usize,
    pub(super) unknown_held: usize,
}
