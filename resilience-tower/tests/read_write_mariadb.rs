//! MariaDB nodes of a read/write split, on real servers.
#![cfg(all(feature = "read-write", feature = "mariadb"))]

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use engines::mariadb as servers;
use mysql_async::{Opts, OptsBuilder, PoolConstraints, PoolOpts, prelude::Queryable};
use resilience_tower::read_write::{
    Checkout, Disposition, Error, Failure, ReadFreshness, Reason,
    mariadb::{Connection, Epochs, Error as NodeError, Node},
};

use crate::stores::{Store, comes_back, eventually, read, round, spawned, write};

impl Store for Node {
    async fn set(connection: &mut Connection, name: &str, count: u64) -> Result<(), NodeError> {
        let statement = "INSERT INTO stock VALUES (?, ?) ON DUPLICATE KEY UPDATE count = ?";
        Ok(connection
            .exec_drop(statement, (name, count, count))
            .await?)
    }

    async fn get(connection: &mut Connection, name: &str) -> Result<Option<u64>, NodeError> {
        let statement = "SELECT count FROM stock WHERE name = ?";
        Ok(connection.exec_first(statement, (name,)).await?)
    }
}

#[tokio::test]
async fn reads_see_the_writes_they_come_after_and_a_promotion_tells_what_it_lost() {
    let servers = servers::Cluster::start(servers::Config::default())
        .await
        .unwrap();
    let [primary, replica] = [0, 1].map(|index| servers.node(index));
    let epochs = Epochs::new("epochs").unwrap();
    let stock =
        "CREATE TABLE stock (name VARCHAR(20) PRIMARY KEY, count BIGINT NOT NULL) ENGINE=InnoDB";
    for statement in [stock, &epochs.create(), &epochs.begin()] {
        primary.sql(statement).await.unwrap();
    }
    replica
        .wait_applied(&primary.position().await.unwrap())
        .await
        .unwrap();
    let nodes = servers.nodes().iter().map(|server| {
        let opts = Opts::from_url(&server.url()).unwrap();
        let node = Node::builder(opts, "shop").epochs(&epochs);
        (server.name().to_owned(), node.build().unwrap())
    });
    let cluster = spawned(nodes);

    round(&cluster, 0, 100).await;
    comes_back(&cluster, replica.name(), 1).await;

    // It answers, and applies nothing.
    replica.stop_sql_thread().await.unwrap();
    let read_on = round(&cluster, 100, 150).await;
    assert!(!read_on.iter().any(|node| node == replica.name()));
    replica.start_threads().await.unwrap();
    comes_back(&cluster, replica.name(), 2).await;

    replica.freeze().await.unwrap();
    round(&cluster, 150, 170).await;
    replica.thaw().unwrap();
    comes_back(&cluster, replica.name(), 3).await;

    // A promotion is counted before the position is asked for: the write is not done again.
    let ran = AtomicU32::new(0);
    let checkout = Checkout::write();
    let run = cluster.run(&checkout, async |mut lease| {
        ran.fetch_add(1, Ordering::Relaxed);
        lease
            .query_drop("INSERT INTO stock VALUES ('counted', 1) ON DUPLICATE KEY UPDATE count = 2")
            .await?;
        primary.sql(&epochs.begin()).await.unwrap();
        lease.commit_token().await
    });
    match run.await {
        Err(Error::Inner(NodeError::NoToken(error))) => {
            assert!(matches!(*error, NodeError::Changed), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(ran.into_inner(), 1);
    let counted = async || {
        let nodes = cluster.snapshot().route.nodes;
        nodes.iter().all(|node| node.up && node.epoch == Some(2))
    };
    eventually("all are of the next epoch", counted).await;

    // All connections are leased: that says nothing of the node.
    let one = OptsBuilder::from_opts(Opts::from_url(&primary.url()).unwrap())
        .pool_opts(PoolOpts::new().with_constraints(PoolConstraints::new(0, 1).unwrap()));
    let node = Node::builder(one, "shop").epochs(&epochs);
    let node = node.pool_wait(Duration::from_millis(10)).build().unwrap();
    let small = spawned([(primary.name().to_owned(), node)].into_iter());
    let checkout = Checkout::read(ReadFreshness::Any);
    let held = small.lease(&checkout).await.unwrap();
    match small.lease(&checkout).await {
        Err(Error::Unreachable {
            failure: Failure::Misrouted,
            source: Some(NodeError::Exhausted),
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
    drop((held, small));

    // Sessions for reads write nowhere.
    for freshness in [ReadFreshness::Any, ReadFreshness::Primary] {
        let mut lease = cluster.lease(&Checkout::read(freshness)).await.unwrap();
        let refused = lease
            .query_drop("INSERT INTO stock VALUES ('read', 1)")
            .await;
        let refused = NodeError::from(refused.unwrap_err());
        let expected = match lease.node() == primary.name() {
            true => Disposition::Never,
            false => Disposition::RetryElsewhere,
        };
        assert_eq!(lease.failed(&refused), expected, "{refused}");
    }

    // The primary takes no writes for a while: what comes waits for one that does.
    let mut lease = cluster.lease(&Checkout::write()).await.unwrap();
    primary.sql("SET GLOBAL read_only = ON").await.unwrap();
    let misrouted = lease
        .query_drop("INSERT INTO stock VALUES ('wrong', 1)")
        .await;
    let misrouted = NodeError::from(misrouted.unwrap_err());
    assert_eq!(
        lease.failed(&misrouted),
        Disposition::RetryElsewhere,
        "{misrouted}"
    );
    let waiting = tokio::spawn({
        let cluster = cluster.clone();
        async move { write(&cluster, "waiting", 1).await }
    });
    primary.sql("SET GLOBAL read_only = OFF").await.unwrap();
    let (_, kept) = waiting.await.unwrap().unwrap();

    // The replica hears of nothing more: these are acknowledged, and nowhere else.
    replica
        .wait_applied(&primary.position().await.unwrap())
        .await
        .unwrap();
    replica.stop_io_thread().await.unwrap();
    let mut lost = Vec::new();
    for count in 0..5 {
        lost.push(write(&cluster, "lost", count).await.unwrap().1);
    }
    primary.kill().await.unwrap();
    let begin = epochs.begin();
    for statement in [
        "STOP SLAVE",
        "RESET SLAVE ALL",
        &begin,
        "SET GLOBAL read_only = OFF",
    ] {
        replica.sql(statement).await.unwrap();
    }
    let (node, next) = write(&cluster, "next", 1).await.unwrap();
    assert_eq!(node, replica.name());
    assert_eq!(read(&cluster, next, "next").await.unwrap().1, Some(1));
    for token in &lost {
        match read(&cluster, token.clone(), "lost").await {
            Err(Error::NoRoute(refused)) => assert_eq!(refused.reason, Reason::Diverged),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(read(&cluster, kept, "waiting").await.unwrap().1, Some(1));
    assert_eq!(
        read(&cluster, ReadFreshness::Any, "lost").await.unwrap().1,
        None
    );

    // The old primary is back, writable, and is given nothing.
    primary.start().await.unwrap();
    let fenced = async || {
        let nodes = cluster.snapshot().route.nodes;
        nodes
            .iter()
            .any(|node| &*node.name == primary.name() && node.fenced)
    };
    eventually("the old primary is fenced", fenced).await;
    let before = primary.position().await.unwrap();
    round(&cluster, 200, 250).await;
    assert_eq!(
        primary.position().await.unwrap(),
        before,
        "a write went to the old primary"
    );
    match read(&cluster, lost.pop().unwrap(), "lost").await {
        Err(Error::NoRoute(refused)) => assert_eq!(refused.reason, Reason::Diverged),
        other => panic!("{other:?}"),
    }
}
