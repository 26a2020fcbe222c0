use std::time::Duration;

use engines::postgres::{Cluster, Config};
use engines::{Error, Flow};
use tokio::time::timeout;

use crate::common::{all_gone, children, stopped};

async fn count(cluster: &Cluster, number: usize) -> u64 {
    cluster
        .node(number)
        .sql("select count(*) from t")
        .await
        .unwrap()
        .parse()
        .unwrap()
}

async fn insert(cluster: &Cluster, number: usize, rows: u32) -> u64 {
    let node = cluster.node(number);
    node.sql(&format!("insert into t select generate_series(1, {rows})"))
        .await
        .unwrap();
    node.position().await.unwrap()
}

#[tokio::test]
async fn a_postgresql_cluster_replicates_fails_recovers_and_leaves_nothing() {
    let cluster = Cluster::start(Config::default()).await.unwrap();
    let dir = cluster.dir().to_path_buf();
    let mut pids: Vec<u32> = cluster
        .nodes()
        .iter()
        .map(|node| node.pid().unwrap())
        .collect();
    assert_eq!(cluster.nodes().len(), 4);
    cluster.node(0).sql("create table t (n int)").await.unwrap();
    insert(&cluster, 0, 10).await;
    cluster.wait_caught_up().await.unwrap();
    for number in 0..4 {
        assert_eq!(count(&cluster, number).await, 10, "pg{number}");
        assert_eq!(
            cluster.node(number).in_recovery().await.unwrap(),
            number != 0
        );
    }
    let old = cluster.node(3).backup().await.unwrap();

    // Each replica falls behind in a way of its own, and none of the others with it.
    cluster.node(1).pause_replay().await.unwrap();
    cluster.node(2).stream().cut();
    cluster
        .node(3)
        .set_apply_delay(Duration::from_secs(3600))
        .await
        .unwrap();
    let position = insert(&cluster, 0, 5).await;
    assert_eq!(count(&cluster, 1).await, 10);
    assert_eq!(count(&cluster, 2).await, 10);
    assert_eq!(count(&cluster, 3).await, 10);
    cluster.node(1).resume_replay().await.unwrap();
    cluster.node(1).wait_replayed(position).await.unwrap();
    assert_eq!(count(&cluster, 1).await, 15);
    cluster
        .node(3)
        .set_apply_delay(Duration::ZERO)
        .await
        .unwrap();
    cluster.node(3).wait_replayed(position).await.unwrap();
    assert_eq!(count(&cluster, 2).await, 10);
    cluster.node(2).stream().stall();
    cluster.node(2).stream().open();
    cluster.node(2).wait_replayed(position).await.unwrap();

    // Frozen it does not answer, and then it does.
    cluster.node(1).freeze().await.unwrap();
    insert(&cluster, 0, 1).await;
    cluster.node(1).thaw().unwrap();
    cluster.wait_caught_up().await.unwrap();

    // Who gets ahead of another has what that has, and more from then on.
    let (behind, other) = (cluster.node(1), cluster.node(2));
    behind.stream().cut();
    let write = async |statement| {
        let primary = cluster.node(0);
        primary.sql(statement).await.unwrap();
        primary.position().await.unwrap()
    };
    let position = write("create table more ()").await;
    other.wait_replayed(position).await.unwrap();
    assert!(behind.received().await.unwrap() < position);
    let ahead = timeout(Duration::from_secs(2), behind.get_ahead_of(&[other])).await;
    assert!(ahead.is_err(), "it receives nothing");
    behind.stream().open();
    behind.get_ahead_of(&[other]).await.unwrap();
    assert!(behind.received().await.unwrap() >= position);
    let position = write("drop table more").await;
    behind.wait_replayed(position).await.unwrap();
    assert!(other.received().await.unwrap() < position);
    other.stream().open();
    cluster.wait_caught_up().await.unwrap();

    // A commit that no replica gets is lost with the primary.
    for replica in &cluster.nodes()[1..] {
        replica.stream().cut();
    }
    insert(&cluster, 0, 100).await;
    cluster.node(0).kill().await.unwrap();
    assert!(!cluster.node(0).is_running());
    cluster.node(1).promote().await.unwrap();
    assert_eq!(cluster.node(1).timeline().await.unwrap(), 2);
    for number in [2, 3] {
        cluster.node(number).stream().open();
        cluster.node(number).follow(cluster.node(1)).await.unwrap();
    }
    insert(&cluster, 1, 4).await;
    cluster.wait_caught_up().await.unwrap();
    assert_eq!(count(&cluster, 2).await, 20);
    assert_eq!(cluster.node(2).timeline().await.unwrap(), 2);

    // The old one comes back as it was, and joins only without what it alone has.
    cluster.node(0).start().await.unwrap();
    pids.push(cluster.node(0).pid().unwrap());
    assert!(!cluster.node(0).in_recovery().await.unwrap());
    assert_eq!(count(&cluster, 0).await, 116);
    cluster.node(0).rewind(cluster.node(1)).await.unwrap();
    cluster.wait_caught_up().await.unwrap();
    assert_eq!(count(&cluster, 0).await, 20);

    // From an old backup, without and with a stream; from a new one.
    cluster.node(3).stream().cut();
    cluster
        .node(3)
        .restore(&old, cluster.node(1))
        .await
        .unwrap();
    assert_eq!(count(&cluster, 3).await, 10);
    cluster.node(3).stream().open();
    cluster.node(3).wait_streaming().await.unwrap();
    cluster.wait_caught_up().await.unwrap();
    assert_eq!(count(&cluster, 3).await, 20);
    cluster.node(2).rebuild(cluster.node(1)).await.unwrap();
    cluster.node(2).restart().await.unwrap();
    cluster.wait_caught_up().await.unwrap();
    assert_eq!(count(&cluster, 2).await, 20);
    assert_eq!(cluster.node(2).stream().flow(), Flow::Open);

    // Killed while frozen, and then not there: said so.
    cluster.node(3).freeze().await.unwrap();
    let frozen = children(cluster.node(3).pid().unwrap());
    assert!(
        frozen.len() > 2 && frozen.iter().all(|pid| stopped(*pid)),
        "{frozen:?}"
    );
    pids.extend(frozen);
    cluster.node(3).kill().await.unwrap();
    assert!(matches!(cluster.node(3).kill().await, Err(Error::State(_))));
    let refused = cluster
        .node(0)
        .sql("select nothing")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("column \"nothing\" does not exist"),
        "{refused}"
    );

    pids.extend(
        cluster
            .nodes()
            .iter()
            .filter_map(engines::postgres::Node::pid),
    );
    drop(cluster);
    all_gone(&dir, &pids);
}
