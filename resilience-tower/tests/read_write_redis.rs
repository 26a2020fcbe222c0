//! Redis nodes of a read/write split, on real servers.
#![cfg(all(feature = "read-write", feature = "redis"))]

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use engines::redis as servers;
use redis::AsyncCommands;
use resilience_tower::read_write::{
    Checkout, Cluster, Disposition, Error, Failure, Lease, Node as _, ReadFreshness, Reason,
    redis::{Connection, Error as NodeError, Node, Sentinels},
};

use crate::stores::{BOUND, Store, comes_back, eventually, read, round, settings, spawned, write};

impl Store for Node {
    async fn set(connection: &mut Connection, key: &str, value: u64) -> Result<(), NodeError> {
        Ok(AsyncCommands::set(connection, key, value).await?)
    }

    async fn get(connection: &mut Connection, key: &str) -> Result<Option<u64>, NodeError> {
        Ok(AsyncCommands::get(connection, key).await?)
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

#[tokio::test]
async fn nodes_are_found_by_their_sentinels_come_and_go() {
    let config = servers::Config::default()
        .with_replicas(1)
        .with_sentinels(3);
    let servers = servers::Cluster::start(config).await.unwrap();
    let later = servers::Config::default().with_replicas(0);
    let later = servers::Cluster::start(later).await.unwrap();
    let later = later.node(0);
    let [old, other] = [0, 1].map(|index| servers.node(index));
    let name = |server: &servers::Node| format!("127.0.0.1:{}", server.port());
    for sentinel in servers.sentinels() {
        // They look for replicas every 10 s otherwise.
        let quick = ["sentinel", "debug", "info-period", "500"];
        sentinel.command(&quick).await.unwrap();
    }

    let urls = servers.sentinels().iter().map(|sentinel| sentinel.url());
    let sentinels = Sentinels::new(servers::SERVICE, urls).unwrap();
    let discovery = sentinels
        .discover()
        .nodes(|host, port| Node::builder((host, port)).response_timeout(BOUND))
        .cluster(settings)
        .every(Duration::from_millis(100));
    let cluster = discovery.spawn().await.unwrap();
    let known = || {
        let nodes = cluster.snapshot().route.nodes;
        let mut names: Vec<_> = nodes.iter().map(|node| node.name.to_string()).collect();
        names.sort_unstable();
        names
    };
    let of = |servers: &[&servers::Node]| {
        let mut names: Vec<_> = servers.iter().map(|server| name(server)).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(known(), of(&[old, other]));
    round(&cluster, 0, 20).await;
    comes_back(&cluster, &name(other), 1).await;

    // Calls go on while it comes.
    let port = old.port().to_string();
    let follow = ["replicaof", "127.0.0.1", &port];
    later.command(&follow).await.unwrap();
    let all = of(&[old, other, later]);
    eventually("a new replica is found", async || {
        round(&cluster, 20, 22).await;
        known() == all
    })
    .await;
    comes_back(&cluster, &name(later), 2).await;

    // It is built anew, in its place.
    servers.wait_caught_up().await.unwrap();
    other.kill().await.unwrap();
    round(&cluster, 22, 30).await;
    other.start().await.unwrap();
    comes_back(&cluster, &name(other), 3).await;

    old.kill().await.unwrap();
    let mut next = 0;
    eventually("writes go on", async || {
        next += 1;
        let written = write(&cluster, "next", next).await;
        written.is_ok_and(|(node, _)| node != name(old))
    })
    .await;
    assert_eq!(known(), all);
    old.start().await.unwrap();
    comes_back(&cluster, &name(old), 4).await;

    // Those who elect forget one that does not come back when they are told to: one after the other,
    // and none that has a failover to end. They would disagree on the primary of its epoch for good.
    let (primary, _) = write(&cluster, "next", next + 1).await.unwrap();
    let gone = match primary == name(later) {
        true => other,
        false => later,
    };
    gone.kill().await.unwrap();
    let rest: Vec<_> = [old, other, later]
        .into_iter()
        .filter(|server| server.port() != gone.port())
        .collect();
    let settled = format!("status=ok,address={primary},slaves=");
    for sentinel in servers.sentinels() {
        let says = async |what: &str| {
            let says = sentinel.command(&["info", "sentinel"]).await.unwrap();
            says.contains(what)
        };
        eventually("the failover is over", async || says(&settled).await).await;
        let reset = ["sentinel", "reset", servers::SERVICE];
        sentinel.command(&reset).await.unwrap();
        let known = format!("{settled}1,sentinels=3");
        eventually("the others are known again", async || says(&known).await).await;
    }
    eventually("one that is gone is dropped", async || {
        round(&cluster, 30, 32).await;
        known() == of(&rest)
    })
    .await;

    // While they cannot be asked, nothing is changed.
    for sentinel in servers.sentinels() {
        sentinel.kill().await.unwrap();
    }
    let nobody = async || cluster.snapshot().route.primary.is_none();
    eventually("nobody takes writes", nobody).await;
    assert_eq!(known(), of(&rest));
    read(&cluster, ReadFreshness::Any, "round").await.unwrap();
}
