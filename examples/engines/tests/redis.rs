use engines::redis::{Cluster, Config};

use crate::common::all_gone;

#[tokio::test]
async fn a_redis_cluster_replicates_fails_and_leaves_nothing() {
    let cluster = Cluster::start(Config::default()).await.unwrap();
    let dir = cluster.dir().to_path_buf();
    let pids: Vec<u32> = cluster
        .nodes()
        .iter()
        .filter_map(|node| node.pid())
        .collect();
    assert_eq!(pids.len(), 3);
    let (first, second, third) = (cluster.node(0), cluster.node(1), cluster.node(2));
    first.command(&["set", "k", "1"]).await.unwrap();
    cluster.wait_caught_up().await.unwrap();
    assert_eq!(second.command(&["get", "k"]).await.unwrap(), "1");
    let refused = second
        .command(&["set", "k", "2"])
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("READONLY"), "{refused}");

    // A replica alone falls behind.
    third.stream().unwrap().stall();
    first.command(&["set", "k", "2"]).await.unwrap();
    second
        .wait_offset(first.offset().await.unwrap())
        .await
        .unwrap();
    assert_eq!(second.command(&["get", "k"]).await.unwrap(), "2");
    assert_eq!(third.command(&["get", "k"]).await.unwrap(), "1");
    third.stream().unwrap().open();
    cluster.wait_caught_up().await.unwrap();
    assert_eq!(third.command(&["get", "k"]).await.unwrap(), "2");

    second.freeze().await.unwrap();
    first.command(&["set", "k", "3"]).await.unwrap();
    second.thaw().unwrap();
    first.kill().await.unwrap();
    second.promote().await.unwrap();
    third.follow(second).await.unwrap();
    second.command(&["set", "k", "4"]).await.unwrap();
    first.start().await.unwrap();
    assert_eq!(first.command(&["get", "k"]).await.unwrap(), "3");
    assert!(first.is_primary().await.unwrap());
    first.follow(second).await.unwrap();
    cluster.wait_caught_up().await.unwrap();
    assert_eq!(first.command(&["get", "k"]).await.unwrap(), "4");
    assert_eq!(third.command(&["get", "k"]).await.unwrap(), "4");

    drop(cluster);
    all_gone(&dir, &pids);
}

#[tokio::test]
async fn sentinels_put_another_primary_in_the_place_of_a_killed_one() {
    let cluster = Cluster::start(Config::default().with_sentinels(3))
        .await
        .unwrap();
    let dir = cluster.dir().to_path_buf();
    let mut pids: Vec<u32> = cluster
        .nodes()
        .iter()
        .filter_map(|node| node.pid())
        .collect();
    pids.extend(
        cluster
            .sentinels()
            .iter()
            .filter_map(|sentinel| sentinel.pid()),
    );
    assert_eq!(pids.len(), 6);
    let old = cluster.node(0);
    assert_eq!(
        cluster.sentinels()[0].primary_port().await.unwrap(),
        old.port()
    );
    old.command(&["set", "k", "1"]).await.unwrap();
    cluster.wait_caught_up().await.unwrap();
    old.kill().await.unwrap();
    let new = cluster.wait_failover_from(old).await.unwrap();
    assert_eq!(new.command(&["get", "k"]).await.unwrap(), "1");
    new.command(&["set", "k", "2"]).await.unwrap();

    drop(cluster);
    all_gone(&dir, &pids);
}
