//! What a node says of itself, and which connections it gives.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use engines::postgres as engine;
use resilience_core::route::{Lsn, NodeSnapshot, Request, Router, Step};
use resilience_tower::read_write::{
    Checkout, Cluster, Error as ClusterError, Failure, Intent, Node as _, Position, Role, Token,
    postgres::{Connection, Error, Node},
};
use tokio::time::{Instant, sleep};

use super::rig::{BOUND, reached, reached_as, start};

/// A node, and all that it has told.
struct Watched {
    node: Node,
    router: Router<Lsn, ()>,
}

impl Watched {
    fn of(node: Node) -> Self {
        let router = Router::new(Default::default(), Default::default(), None);
        let endpoint = resilience_core::balance::Endpoint::new("it", ());
        router.set_nodes([endpoint]).expect("one node");
        Self { node, router }
    }

    async fn look(&self) -> Result<NodeSnapshot<Lsn>, Error> {
        let told = self.node.observe(self.router.now()).await?;
        self.router.observe("it", told);
        let mut nodes = self.router.snapshot().nodes;
        Ok(nodes.remove(0))
    }

    /// Looks until it is `so`.
    async fn wait(&self, what: &str, so: impl Fn(&NodeSnapshot<Lsn>) -> bool) -> NodeSnapshot<Lsn> {
        let until = Instant::now() + BOUND;
        loop {
            let told = self.look().await;
            match told {
                Ok(told) if so(&told) => return told,
                told => assert!(Instant::now() < until, "{what}: {told:?}"),
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Which run of the server was looked at last.
    fn run(&self) -> u64 {
        let now = self.router.now();
        let any = resilience_core::route::Freshness::Any;
        match self.router.route(&Request::read(any, now)) {
            Ok(Step::Go(route)) => route.incarnation(),
            other => panic!("not looked at: {other:?}"),
        }
    }

    async fn connect(&self, intent: Intent) -> Connection {
        self.look().await.expect("it answers");
        let connected = self.node.connect(self.run(), intent).await;
        connected.expect("it takes connections")
    }

    fn judge(&self, error: impl Into<Error>) -> Failure {
        self.node.failure(&error.into())
    }
}

#[tokio::test]
async fn a_node_says_what_it_is_and_gives_connections_that_are_safe() {
    let servers = start(engine::Config::default().with_replicas(2)).await;
    let node = |number| Watched::of(reached(servers.node(number)).build());
    let (primary, replica, other) = (node(0), node(1), node(2));

    sessions(&primary, &replica).await;
    commits(&primary, &replica).await;
    positions(&servers, &primary, &replica).await;
    privileges(&servers).await;
    untold(&servers).await;
    exhausted(&servers).await;
    failures(&primary, &replica).await;
    statistics(&servers).await;
    crashes(&servers, &replica).await;
    timelines(&servers, &primary, &replica, &other).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_connections_and_is_silent_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let silent = silent.expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let config = format!("host=127.0.0.1 port={port} user=app");
    let node = Node::new(config.parse().expect("settings"));
    let told = tokio::time::timeout(BOUND, node.observe(Duration::ZERO)).await;
    told.expect("it is given up").expect_err("it is silent");
}

async fn backend(connection: &Connection) -> i32 {
    let row = connection.query_one("SELECT pg_backend_pid()", &[]).await;
    row.expect("it answers").get(0)
}

/// The backend of the next lease that reads, once the last one has been given back.
async fn next_backend(node: &Watched) -> i32 {
    // The pool has one place: this waits for it.
    backend(&node.connect(Intent::Read).await).await
}

async fn sessions(primary: &Watched, replica: &Watched) {
    for node in [primary, replica] {
        // A lease that reads cannot write.
        let reads = node.connect(Intent::Read).await;
        let wrote = reads.execute("INSERT INTO writes VALUES (0)", &[]).await;
        let refused = wrote.expect_err("it is read-only");
        assert_eq!(node.judge(refused), Failure::Misrouted);
    }
    // Nor one that writes, on a replica.
    let writes = replica.connect(Intent::Write).await;
    let wrote = writes.execute("INSERT INTO writes VALUES (0)", &[]).await;
    assert_eq!(
        replica.judge(wrote.expect_err("a replica")),
        Failure::Misrouted
    );
    drop(writes);
}

/// With one place in the pool, a lease waits until the one before was looked after.
async fn one_session(node: &Watched) {
    let clean = next_backend(node).await;
    assert_eq!(next_backend(node).await, clean, "a clean session is kept");

    let left = [
        (
            "an open transaction",
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1",
        ),
        ("may write", "SET default_transaction_read_only = off"),
    ];
    for (what, statements) in left {
        let lease = node.connect(Intent::Read).await;
        let before = backend(&lease).await;
        lease.batch_execute(statements).await.expect(what);
        drop(lease);
        assert_ne!(next_backend(node).await, before, "{what}");
    }
    let lease = node.connect(Intent::Read).await;
    let before = backend(&lease).await;
    lease.batch_execute("BEGIN").await.expect("it begins");
    let failed = lease.batch_execute("SELECT 1 / 0").await;
    failed.expect_err("division by zero");
    drop(lease);
    assert_ne!(next_backend(node).await, before, "a failed transaction");
}

async fn count(connection: &Connection, id: i64) -> i64 {
    let row = connection
        .query_one("SELECT count(*) FROM writes WHERE id = $1", &[&id])
        .await;
    row.expect("it answers").get(0)
}

/// Waits until a replica has all that a token asks for.
async fn covered(replica: &Watched, token: &Token<Lsn>) {
    let what = format!("{token:?} on a replica");
    replica
        .wait(&what, |told| {
            let position = told.position.as_ref();
            told.epoch == Some(token.epoch)
                && position.is_some_and(|position| position.covers(&token.position).is_yes())
        })
        .await;
}

async fn commits(primary: &Watched, replica: &Watched) {
    let mut writes = primary.connect(Intent::Write).await;

    // A token that a replica covers is one whose write is there.
    for id in 1..=20 {
        let begun = writes.transaction().await.expect("it begins");
        let wrote = begun
            .execute("INSERT INTO writes VALUES ($1)", &[&id])
            .await;
        wrote.expect("it writes");
        let token = begun.commit().await.expect("it commits");
        covered(replica, &token).await;
        assert_eq!(count(&replica.connect(Intent::Read).await, id).await, 1);
    }
    // No warning, no open transaction: the session is as before.
    let alone = writes.query_one("SELECT 1", &[]).await;
    alone.expect("it goes on");

    // `COMMIT` of a transaction that failed answers without an error, and commits nothing.
    let begun = writes.transaction().await.expect("it begins");
    let wrote = begun.execute("INSERT INTO writes VALUES (21)", &[]).await;
    wrote.expect("it writes");
    let again = begun.execute("INSERT INTO writes VALUES (21)", &[]).await;
    again.expect_err("the key is taken");
    let committed = begun.commit().await;
    assert_eq!(
        primary.judge(committed.expect_err("it failed")),
        Failure::Failed
    );
    assert_eq!(count(&writes, 21).await, 0);

    // A transaction that is dropped rolls back, and the connection goes on.
    let begun = writes.transaction().await.expect("it begins");
    let wrote = begun.execute("INSERT INTO writes VALUES (21)", &[]).await;
    wrote.expect("it writes");
    drop(begun);
    assert_eq!(count(&writes, 21).await, 0);

    // A write by itself.
    let wrote = writes.execute("INSERT INTO writes VALUES (21)", &[]).await;
    wrote.expect("it writes");
    let (epoch, position) = primary.node.position(&mut writes).await.expect("told");
    let cluster = 0;
    covered(
        replica,
        &Token {
            cluster,
            epoch,
            position,
        },
    )
    .await;
    assert_eq!(count(&replica.connect(Intent::Read).await, 21).await, 1);

    // A replica has no commits.
    let mut reads = replica.connect(Intent::Read).await;
    let told = replica.node.position(&mut reads).await;
    let untold = told.expect_err("a replica");
    assert!(
        matches!(&untold, Error::NoToken(error) if matches!(**error, Error::NotPrimary)),
        "{untold:?}"
    );
    assert_eq!(replica.judge(untold), Failure::Failed);
}

/// A write is acknowledged, and then the server ends the connection instead of telling the position.
async fn untold(servers: &engine::Cluster) {
    let server = servers.node(0);
    let cluster = Cluster::builder([("it", reached(server).build())]);
    let second = Duration::from_secs(1);
    let cluster = cluster.observe_timeout(second).connect_timeout(second);
    let cluster = cluster.spawn().expect("settings");
    let ran = AtomicU32::new(0);
    let checkout = Checkout::write();
    let run = cluster.run(&checkout, async |mut lease| {
        ran.fetch_add(1, Ordering::Relaxed);
        lease
            .execute("INSERT INTO writes SELECT max(id) + 1 FROM writes", &[])
            .await?;
        let end = format!("SELECT pg_terminate_backend({})", backend(&lease).await);
        server.sql(&end).await.expect("told");
        lease.commit_token().await
    });
    let failed = run.await.expect_err("there is no token");
    assert!(
        matches!(&failed, ClusterError::Inner(Error::NoToken(_))),
        "{failed:?}"
    );
    assert_eq!(ran.into_inner(), 1);
}

/// The statistics begin anew, and the server goes on.
async fn statistics(servers: &engine::Cluster) {
    let server = servers.node(0);
    let node = Watched::of(reached(server).build());
    node.look().await.expect("it answers");
    let before = node.run();
    let reset = "SELECT pg_stat_reset_shared('bgwriter')";
    server.sql(reset).await.expect("told");
    let stale = node.node.connect(before, Intent::Read).await;
    assert!(matches!(stale, Err(Error::Restarted)), "{stale:?}");
    drop(node.connect(Intent::Read).await);
    assert_ne!(node.run(), before);
}

/// Nobody gives back a connection: that says nothing of the node.
async fn exhausted(servers: &engine::Cluster) {
    let node = reached(servers.node(0)).pool_size(1);
    let node = Watched::of(node.pool_wait(Duration::from_millis(10)).build());
    let held = node.connect(Intent::Read).await;
    let none = node.node.connect(node.run(), Intent::Read).await;
    let none = none.expect_err("one is leased");
    assert!(matches!(none, Error::Exhausted), "{none:?}");
    assert_eq!(node.judge(none), Failure::Misrouted);
    drop(held);
}

async fn lsn(connection: &Connection, function: &str) -> Lsn {
    let question = format!("SELECT {function}()::text");
    let row = connection.query_one(&question, &[]).await.expect("told");
    row.get::<_, &str>(0).parse().expect("a position")
}

async fn positions(servers: &engine::Cluster, primary: &Watched, replica: &Watched) {
    // Nothing is flushed but by commits that wait for it, for a while.
    let server = servers.node(0);
    server.set("wal_writer_delay", "10s").await.expect("set");
    let mut writes = primary.connect(Intent::Write).await;

    // An asynchronous commit is ahead of what is flushed, also if only its transaction is.
    let begun = writes.transaction().await.expect("it begins");
    let wrote = "SET LOCAL synchronous_commit = off; INSERT INTO writes VALUES (30)";
    begun.batch_execute(wrote).await.expect("it writes");
    let token = begun.commit().await.expect("it commits");
    let flushed = lsn(&writes, "pg_current_wal_flush_lsn").await;
    // The log writer may have been awake.
    if token.position > flushed {
        let asynchronous = reached(server).asynchronous_commit(true).build();
        let told = Watched::of(asynchronous).look().await.expect("it answers");
        let position = told.position.expect("it is somewhere");
        assert!(position.covers(&token.position).is_yes(), "{position}");
    }
    covered(replica, &token).await;
    assert_eq!(count(&replica.connect(Intent::Read).await, 30).await, 1);

    // At the border of two pages the insert position is behind the header of a page that is not
    // there. Its token must not wait for the write after it.
    writes
        .batch_execute("SET synchronous_commit = off")
        .await
        .expect("set");
    let at_border = to_page_border(&writes).await;
    let (epoch, position) = primary.node.position(&mut writes).await.expect("told");
    assert_eq!(position.0 % 8_192, 0, "{position} of {at_border}");
    let cluster = 0;
    server.set("wal_writer_delay", "10ms").await.expect("set");
    covered(
        replica,
        &Token {
            cluster,
            epoch,
            position,
        },
    )
    .await;
}

/// Writes until the insert position is behind the header of a page of which nothing is written.
async fn to_page_border(writes: &Connection) -> Lsn {
    const PAGE: u64 = 8_192;
    let emit =
        |length: u64| format!("SELECT pg_logical_emit_message(false, '', repeat('x', {length}))");
    // What a message costs beside its text.
    let overhead = 56;
    for _ in 0..1_000 {
        let here = lsn(writes, "pg_current_wal_insert_lsn").await;
        let left = PAGE - here.0 % PAGE;
        if here.0 % PAGE == 24 {
            return here;
        }
        // A text of more than 255 bytes costs three more; those that are rounded up to 8 do not show.
        let length = if left > 400 {
            left / 2
        } else {
            left.saturating_sub(overhead)
        };
        writes
            .batch_execute(&emit(length.max(1)))
            .await
            .expect("it writes");
    }
    panic!("no page border in 1000 messages");
}

async fn privileges(servers: &engine::Cluster) {
    // Without `pg_monitor` a replica is not believed.
    let plain = Watched::of(reached_as(servers.node(1), "app").build());
    let told = plain.look().await;
    assert!(matches!(told, Err(Error::Privilege)), "{told:?}");
    // A primary needs none on its first timeline.
    let plain = Watched::of(reached_as(servers.node(0), "app").build());
    let told = plain.look().await.expect("it answers");
    assert_eq!(told.role, Some(Role::Primary));
}

async fn failures(primary: &Watched, replica: &Watched) {
    let writes = primary.connect(Intent::Write).await;
    // Ended by an administrator, before it ran.
    let me = backend(&writes).await;
    let end = primary.connect(Intent::Write).await;
    let ended = end.execute("SELECT pg_terminate_backend($1)", &[&me]).await;
    let _ = ended;
    let failed = loop {
        if let Err(error) = writes.batch_execute("SELECT pg_sleep(0.01)").await {
            break error;
        }
    };
    let judged = primary.judge(failed);
    assert!(
        matches!(judged, Failure::Refused | Failure::Lost),
        "{judged:?}"
    );

    // About the call: its own mistakes, and the server's word.
    let reads = replica.connect(Intent::Read).await;
    let wrong = reads.query_one("SELECT $1::int", &[&"text"]).await;
    assert_eq!(
        replica.judge(wrong.expect_err("no number")),
        Failure::Failed
    );
    let wrong = reads.query_one("SELECT 1 WHERE false", &[]).await;
    assert_eq!(replica.judge(wrong.expect_err("no row")), Failure::Failed);
    let wrong = reads.query_one("SELECT 1 / 0", &[]).await;
    assert_eq!(replica.judge(wrong.expect_err("by zero")), Failure::Failed);

    // What a statement may use is spent, or what the server has.
    for (code, failure) in [
        ("53400", Failure::Failed),
        ("53200", Failure::Failed),
        ("53100", Failure::Refused),
        // Told to quit, maybe in the middle of a commit; a word that the connection is lost; likewise
        // before anything ran; a transaction that does not fit to others; a write where none may be.
        ("57P02", Failure::Lost),
        ("08006", Failure::Lost),
        ("57P03", Failure::Refused),
        ("40001", Failure::Failed),
        ("25006", Failure::Misrouted),
    ] {
        let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{code}'; END $$");
        let raised = reads.batch_execute(&raise).await.expect_err("raised");
        assert_eq!(replica.judge(raised), failure, "{code}");
    }

    // Nobody is there.
    let nobody = Node::new("host=127.0.0.1 port=1 user=app".parse().expect("settings"));
    let refused = nobody.connect(0, Intent::Read).await.expect_err("nobody");
    assert_eq!(nobody.failure(&refused), Failure::NotSent);
    let refused = nobody.observe(Duration::ZERO).await.expect_err("nobody");
    assert_eq!(nobody.failure(&refused), Failure::NotSent);
}

async fn crashes(servers: &engine::Cluster, replica: &Watched) {
    // A process of the server crashes: all others are begun anew under the same postmaster, and the
    // replica opens at its last restart point.
    replica.look().await.expect("it answers");
    let before = replica.run();
    let server = servers.node(1);
    let start = "SELECT pg_postmaster_start_time()";
    let started = server.sql(start).await.expect("told");
    let victim = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
    let victim = server.sql(victim).await.expect("told");
    let killed = std::process::Command::new("kill")
        .args(["-9", victim.trim()])
        .status();
    assert!(killed.is_ok_and(|status| status.success()));
    let until = Instant::now() + BOUND;
    loop {
        let looked = replica.look().await;
        if looked.is_ok() && replica.run() != before {
            break;
        }
        assert!(Instant::now() < until, "it comes back as another run");
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(server.sql(start).await.expect("told"), started);

    // A connection to the run before is not given, whatever the pool holds.
    let stale = replica.node.connect(before, Intent::Read).await;
    assert!(matches!(stale, Err(Error::Restarted)), "{stale:?}");
    assert_eq!(replica.judge(Error::Restarted), Failure::Misrouted);
    drop(replica.connect(Intent::Read).await);

    // Nor is one that lay in the pool while the server was restarted.
    let before = replica.run();
    server.restart().await.expect("it restarts");
    let again = replica.wait("it is back", |told| told.up).await;
    assert_eq!(again.role, Some(Role::Replica));
    assert_ne!(replica.run(), before);
    let lease = replica.connect(Intent::Read).await;
    assert!(count(&lease, 1).await == 1);
}

async fn timelines(
    servers: &engine::Cluster,
    primary: &Watched,
    replica: &Watched,
    other: &Watched,
) {
    let one = reached(servers.node(1)).pool_size(1).pool_wait(BOUND);
    one_session(&Watched::of(one.build())).await;

    // Whoever receives nothing is on the timeline of its log files, while there is but one.
    for node in [replica, other] {
        node.look().await.expect("it answers");
    }
    servers.node(0).kill().await.expect("killed");
    for node in [replica, other] {
        let told = node.wait("without a primary", |told| told.up).await;
        assert_eq!((told.role, told.epoch), (Some(Role::Replica), Some(1)));
    }
    let dead = primary.node.observe(primary.router.now()).await;
    dead.expect_err("it is dead");

    servers.node(1).promote().await.expect("promoted");
    let told = replica
        .wait("promoted", |told| told.role == Some(Role::Primary))
        .await;
    assert_eq!(told.epoch, Some(2));

    // The history is told with it: where the first timeline ended.
    let now = replica.router.now();
    let told = replica.node.observe(now).await.expect("it answers");
    assert!(format!("{told:?}").contains("Fork { epoch: 1"), "{told:?}");
    // A role that may not read it tells none.
    let plain = Watched::of(reached_as(servers.node(1), "app").build());
    let told = plain.node.observe(now).await.expect("it answers");
    assert!(format!("{told:?}").contains("history: None"), "{told:?}");

    // A replica is on the new timeline as soon as it receives it, and stays there in this run.
    servers
        .node(2)
        .follow(servers.node(1))
        .await
        .expect("it follows");
    other.wait("followed", |told| told.epoch == Some(2)).await;
    servers.node(2).stream().cut();
    let until = Instant::now() + BOUND;
    loop {
        let receivers = "SELECT count(*) FROM pg_stat_wal_receiver";
        if servers.node(2).sql(receivers).await.expect("told").trim() == "0" {
            break;
        }
        assert!(Instant::now() < until, "its receiver ends");
        sleep(Duration::from_millis(10)).await;
    }
    let told = other.look().await.expect("it answers");
    assert_eq!((told.role, told.epoch), (Some(Role::Replica), Some(2)));

    // Started anew without a primary, it is never taken for one of the first timeline.
    let fresh = Watched::of(reached(servers.node(2)).build());
    let told = fresh.look().await;
    let fits = match &told {
        Ok(told) => told.epoch == Some(2),
        Err(error) => matches!(error, Error::Timeline { least: 1, most: 2 }),
    };
    assert!(fits, "{told:?}");
    servers.node(2).stream().open();
    fresh
        .wait("it receives again", |told| told.epoch == Some(2))
        .await;
}
