use engines::Error;
use engines::mariadb::{Cluster, Config};

use crate::common::all_gone;

#[tokio::test]
async fn a_mariadb_cluster_replicates_fails_recovers_and_leaves_nothing() {
    let cluster = Cluster::start(Config::default()).await.unwrap();
    let dir = cluster.dir().to_path_buf();
    let mut pids: Vec<u32> = cluster
        .nodes()
        .iter()
        .filter_map(|node| node.pid())
        .collect();
    assert_eq!(pids.len(), 2);
    let (first, second) = (cluster.node(0), cluster.node(1));
    let count = "select count(*) from t";
    first
        .sql("create table t (n int); insert into t values (1)")
        .await
        .unwrap();
    second
        .wait_applied(&first.position().await.unwrap())
        .await
        .unwrap();
    assert_eq!(second.sql(count).await.unwrap(), "1");
    assert_eq!(second.sql("select @@read_only").await.unwrap(), "1");
    assert!(second.is_replica().await.unwrap() && !first.is_replica().await.unwrap());

    // What is received and not applied; what is neither.
    second.stop_sql_thread().await.unwrap();
    first.sql("insert into t values (2)").await.unwrap();
    assert_eq!(second.sql(count).await.unwrap(), "1");
    second.start_threads().await.unwrap();
    second
        .wait_applied(&first.position().await.unwrap())
        .await
        .unwrap();
    second.stop_io_thread().await.unwrap();
    first.sql("insert into t values (3)").await.unwrap();
    assert_eq!(second.sql(count).await.unwrap(), "2");
    second.start_threads().await.unwrap();
    second
        .wait_applied(&first.position().await.unwrap())
        .await
        .unwrap();
    second.freeze().await.unwrap();
    second.thaw().unwrap();

    // A write that no replica gets is lost with the primary, which may come back with
    // it but not join.
    second.stream().cut();
    first.sql("insert into t values (4)").await.unwrap();
    first.kill().await.unwrap();
    second.promote().await.unwrap();
    second.sql("insert into t values (5)").await.unwrap();
    first.start().await.unwrap();
    pids.extend(first.pid());
    assert_eq!(first.sql(count).await.unwrap(), "4");
    let refused = first.follow(second).await.unwrap_err();
    assert!(matches!(refused, Error::State(_)), "{refused}");
    first.rebuild(second).await.unwrap();
    assert_eq!(first.sql(count).await.unwrap(), "4");
    assert_eq!(
        first
            .sql("select group_concat(n order by n) from t")
            .await
            .unwrap(),
        "1,2,3,5"
    );

    // A primary that has nothing of its own follows as it is.
    second.stop().await.unwrap();
    first.promote().await.unwrap();
    first.sql("insert into t values (6)").await.unwrap();
    second.start().await.unwrap();
    second.stream().open();
    second.follow(first).await.unwrap();
    assert_eq!(second.sql(count).await.unwrap(), "5");

    pids.extend(cluster.nodes().iter().filter_map(|node| node.pid()));
    drop(cluster);
    all_gone(&dir, &pids);
}
