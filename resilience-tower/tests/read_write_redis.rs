//! Redis nodes of a read/write split, on real servers.
#![cfg(all(feature = "read-write", feature = "redis"))]

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use engines::redis as servers;
use redis::AsyncCommands;
use resilience_core::retry::{BudgetConfig, RetryBudget};
use resilience_tower::read_write::{
    Checkout, Cluster, Config, Disposition, Error, Failure, Lease, Node as _, ReadFreshness,
    Reason, Token,
    redis::{Error as NodeError, Node, Sentinels},
};
use tokio::time::{Instant, sleep};

type Offset = resilience_core::route::Offset;
type Result<T> = std::result::Result<T, Error<NodeError>>;

/// For whatever must become true on a machine that does other things as well.
const BOUND: Duration = Duration::from_secs(120);

/// The result, or `None`: to come again, as an error tells. The looks of a busy machine are late, or a
/// breaker is still open.
async fn come_again<T>(result: Result<T>, until: Instant) -> Option<Result<T>> {
    match result.as_ref().map_err(Error::retry_after) {
        Err(Some(time)) if Instant::now() < until => {
            sleep(time.min(Duration::from_millis(50))).await;
            None
        }
        _ => Some(result),
    }
}

/// Writes `value`, and says on which node and with which token.
async fn write(cluster: &Cluster<Node>, key: &str, value: u64) -> Result<(String, Token<Offset>)> {
    let checkout = Checkout::write().deadline(BOUND);
    let until = Instant::now() + BOUND;
    loop {
        let run = cluster.run(&checkout, |mut lease| async move {
            let () = lease.set(key, value).await?;
            let token = lease.commit_token().await?;
            Ok((lease.node().to_owned(), token))
        });
        if let Some(result) = come_again(run.await, until).await {
            return result;
        }
    }
}

/// What is there, and on which node it was read.
async fn read(
    cluster: &Cluster<Node>,
    freshness: impl Into<ReadFreshness<Offset>>,
    key: &str,
) -> Result<(String, Option<u64>)> {
    let checkout = Checkout::read(freshness).deadline(BOUND);
    let until = Instant::now() + BOUND;
    loop {
        let run = cluster.run(&checkout, |mut lease| async move {
            let value = lease.get(key).await?;
            Ok((lease.node().to_owned(), value))
        });
        if let Some(result) = come_again(run.await, until).await {
            return result;
        }
    }
}

/// A lease for a read, on a replica.
async fn replica_lease(cluster: &Cluster<Node>, primary: &str) -> Lease<Node> {
    let checkout = Checkout::read(ReadFreshness::Any);
    loop {
        let lease = cluster.lease(&checkout).await.unwrap();
        // On a busy machine the replicas may have been too slow to be known.
        if lease.node() != primary {
            return lease;
        }
    }
}

/// Nothing is bounded here that only bounds load: how quickly calls come is the machine's affair.
fn spawned(nodes: impl Iterator<Item = (String, Node)>) -> Cluster<Node> {
    let unbounded = BudgetConfig::new(1.0, 10_000).unwrap();
    let nodes: Vec<_> = nodes.collect();
    // A machine that does other things as well looks late.
    let config = Config::builder().observation_ttl(Duration::from_secs(3));
    Cluster::builder(nodes)
        .config(config.spill(unbounded).build().unwrap())
        .observe_timeout(Duration::from_secs(1))
        .retry_budget(RetryBudget::new(unbounded))
        .max_attempts(50)
        .spawn()
        .unwrap()
}

async fn eventually(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + BOUND;
    while !is().await {
        assert!(Instant::now() < until, "not within {BOUND:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Writes `from..to`, and reads each at once where the split sends it: who was read on.
async fn round(cluster: &Cluster<Node>, from: u64, to: u64) -> Vec<String> {
    let mut read_on = Vec::new();
    for value in from..to {
        let (_, token) = write(cluster, "round", value).await.unwrap();
        let (node, seen) = read(cluster, token, "round").await.unwrap();
        assert_eq!(seen, Some(value), "a stale read on {node}");
        read_on.push(node);
    }
    read_on
}

/// The last write of a round comes to be read on `wanted`.
async fn comes_back(cluster: &Cluster<Node>, wanted: &str, value: u64) {
    let (_, token) = write(cluster, "back", value).await.unwrap();
    let what = format!("a read on {wanted}");
    eventually(&what, async || {
        let (node, seen) = read(cluster, token.clone(), "back").await.unwrap();
        assert_eq!(seen, Some(value), "a stale read on {node}");
        node == wanted
    })
    .await;
}

#[tokio::test]
async fn reads_see_the_writes_they_come_after_while_replicas_lag_hang_die_and_are_promoted() {
    let servers = servers::Cluster::start(servers::Config::default())
        .await
        .unwrap();
    let nodes = servers.nodes().iter().map(|server| {
        let node = Node::builder(server.url()).without_sentinels("shop");
        let node = node.response_timeout(BOUND);
        (server.name().to_owned(), node.build().unwrap())
    });
    let cluster = spawned(nodes);
    let [primary, one, two] = [0, 1, 2].map(|index| servers.node(index));

    round(&cluster, 0, 100).await;
    comes_back(&cluster, one.name(), 1).await;
    comes_back(&cluster, two.name(), 2).await;

    // It answers, and hears of no write any more.
    one.stream().unwrap().stall();
    let read_on = round(&cluster, 100, 150).await;
    assert!(!read_on.iter().any(|node| node == one.name()));
    one.stream().unwrap().open();
    comes_back(&cluster, one.name(), 3).await;

    two.freeze().await.unwrap();
    round(&cluster, 150, 170).await;
    two.thaw().unwrap();
    comes_back(&cluster, two.name(), 4).await;

    two.kill().await.unwrap();
    round(&cluster, 170, 190).await;
    two.start().await.unwrap();
    comes_back(&cluster, two.name(), 5).await;

    // It is another history of the node that is asked for the position: the write is not done again.
    let ran = AtomicU32::new(0);
    let checkout = Checkout::write();
    let run = cluster.run(&checkout, async |mut lease| {
        ran.fetch_add(1, Ordering::Relaxed);
        let () = lease.incr("counted", 1).await?;
        let port = one.port().to_string();
        for of in [["127.0.0.1", &port], ["no", "one"]] {
            primary.command(&["replicaof", of[0], of[1]]).await.unwrap();
        }
        lease.commit_token().await
    });
    match run.await {
        Err(Error::Inner(NodeError::NoToken(error))) => {
            assert!(matches!(*error, NodeError::Changed), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(ran.into_inner(), 1);
    servers.wait_caught_up().await.unwrap();
    comes_back(&cluster, one.name(), 6).await;
    let counted = read(&cluster, ReadFreshness::Primary, "counted").await;
    assert_eq!(counted.unwrap().1, Some(1));

    // A read that writes: no replica does it.
    let mut lease = replica_lease(&cluster, primary.name()).await;
    let refused: redis::RedisResult<()> = lease.set("read", 1).await;
    let refused = NodeError::from(refused.unwrap_err());
    assert_eq!(lease.failed(&refused), Disposition::RetryElsewhere);

    // Of a transaction nothing ran, of other commands that are sent together some may have.
    let node = Node::builder(one.url()).without_sentinels("shop");
    let node = node.build().unwrap();
    for (atomic, failure) in [(true, Failure::Misrouted), (false, Failure::Lost)] {
        let mut lease = replica_lease(&cluster, primary.name()).await;
        let mut commands = redis::pipe();
        commands.get("round").set("read", 1);
        if atomic {
            commands.atomic();
        }
        let refused: redis::RedisResult<()> = commands.query_async(&mut *lease).await;
        let refused = refused.unwrap_err().into();
        assert_eq!(node.failure(&refused), failure, "{refused}");
    }

    // The primary becomes a replica under the hands of a lease.
    let (_, before) = write(&cluster, "before", 1).await.unwrap();
    servers.wait_caught_up().await.unwrap();
    let mut lease = cluster.lease(&Checkout::write()).await.unwrap();
    assert_eq!(lease.node(), primary.name());
    let mut partly = cluster.lease(&Checkout::write()).await.unwrap();
    let () = partly.incr("partly", 1).await.unwrap();
    servers.wait_caught_up().await.unwrap();
    let port = one.port().to_string();
    primary
        .command(&["replicaof", "127.0.0.1", &port])
        .await
        .unwrap();
    let misrouted: redis::RedisResult<()> = lease.set("moved", 1).await;
    let misrouted = NodeError::from(misrouted.unwrap_err());
    assert_eq!(lease.failed(&misrouted), Disposition::RetryElsewhere);
    // Where something was written already, nothing is done again.
    let misrouted: redis::RedisResult<()> = partly.incr("partly", 1).await;
    let misrouted = NodeError::from(misrouted.unwrap_err());
    assert_eq!(partly.failed(&misrouted), Disposition::Ambiguous);

    // It waits until there is a primary.
    let waiting = tokio::spawn({
        let cluster = cluster.clone();
        async move { write(&cluster, "moved", 2).await }
    });
    one.command(&["replicaof", "no", "one"]).await.unwrap();
    let (node, token) = waiting.await.unwrap().unwrap();
    assert_eq!(node, one.name());
    assert_eq!(read(&cluster, token, "moved").await.unwrap().1, Some(2));
    // The new primary has what was written before it was one.
    assert_eq!(read(&cluster, before, "before").await.unwrap().1, Some(1));
}

#[tokio::test]
async fn a_failover_by_sentinels_is_gone_through_and_what_it_lost_is_told() {
    let config = servers::Config::default().with_sentinels(3);
    let servers = servers::Cluster::start(config).await.unwrap();
    let urls = servers.sentinels().iter().map(|sentinel| sentinel.url());
    let sentinels = Sentinels::new(servers::SERVICE, urls).unwrap();
    let nodes = servers.nodes().iter().map(|server| {
        let node = Node::builder(server.url()).sentinels(&sentinels);
        let node = node.response_timeout(BOUND);
        (server.name().to_owned(), node.build().unwrap())
    });
    let cluster = spawned(nodes);

    round(&cluster, 0, 20).await;
    let (primary, kept) = write(&cluster, "kept", 1).await.unwrap();
    servers.wait_caught_up().await.unwrap();
    let (old, replicas): (Vec<_>, Vec<_>) = servers
        .nodes()
        .iter()
        .partition(|server| server.name() == primary);
    let old = old[0];

    // The replicas are cut off, so that these are acknowledged, and nowhere else.
    for replica in &replicas {
        replica.freeze().await.unwrap();
    }
    old.command(&["client", "kill", "type", "replica"])
        .await
        .unwrap();
    let mut lost = Vec::new();
    for value in 0..5 {
        let (node, token) = write(&cluster, "lost", value).await.unwrap();
        assert_eq!(node, old.name());
        lost.push(token);
    }
    old.kill().await.unwrap();
    for replica in &replicas {
        replica.thaw().unwrap();
    }

    // Calls go on without anything being made anew.
    let mut next = 0;
    eventually("writes go on", async || {
        next += 1;
        match write(&cluster, "next", next).await {
            Ok((node, token)) => {
                assert_ne!(node, old.name());
                let (_, seen) = read(&cluster, token, "next").await.unwrap();
                assert_eq!(seen, Some(next));
                true
            }
            Err(_) => false,
        }
    })
    .await;
    for token in lost {
        match read(&cluster, token, "lost").await {
            Err(Error::NoRoute(refused)) => assert_eq!(refused.reason, Reason::Diverged),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(read(&cluster, kept, "kept").await.unwrap().1, Some(1));
    assert_eq!(
        read(&cluster, ReadFreshness::Primary, "lost")
            .await
            .unwrap()
            .1,
        None
    );

    // The old primary is back, takes itself for one until the sentinels tell it, and is given nothing.
    old.start().await.unwrap();
    let mut value = 0;
    eventually("the old primary is a replica", async || {
        value += 1;
        let (node, token) = write(&cluster, "zombie", value).await.unwrap();
        assert_ne!(node, old.name());
        assert_eq!(
            read(&cluster, token, "zombie").await.unwrap().1,
            Some(value)
        );
        // Whoever writes to it by itself sees a role and keys of one instant.
        let client = redis::Client::open(old.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut question = redis::pipe();
        question
            .atomic()
            .cmd("INFO")
            .arg("replication")
            .cmd("EXISTS")
            .arg("zombie");
        let answer = question.query_async(&mut connection).await;
        // It closes its connections when it becomes a replica, and loads the data of the new one.
        let Ok((info, written)) = answer else {
            return false;
        };
        let (info, written): (String, bool) = (info, written);
        let zombie = info.contains("role:master");
        assert!(!(zombie && written), "a write went to the old primary");
        !zombie
    })
    .await;
    round(&cluster, 20, 40).await;
    comes_back(&cluster, old.name(), 6).await;

    // Those who may have elected another cannot be asked: they hang, and then they are gone.
    let most = &servers.sentinels()[1..];
    let nobody = async || cluster.snapshot().route.primary.is_none();
    for sentinel in most {
        sentinel.freeze().await.unwrap();
    }
    eventually("nobody takes writes", nobody).await;
    read(&cluster, ReadFreshness::Any, "round").await.unwrap();
    for sentinel in most {
        sentinel.thaw().unwrap();
    }
    round(&cluster, 40, 60).await;
    for sentinel in most {
        sentinel.kill().await.unwrap();
    }
    eventually("nobody takes writes", nobody).await;
    read(&cluster, ReadFreshness::Any, "round").await.unwrap();
    for sentinel in most {
        sentinel.start().await.unwrap();
    }
    round(&cluster, 60, 80).await;
}
