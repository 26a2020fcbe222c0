use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use engines::postgres::{Cluster, Config};

use crate::common::{all_gone, children, runs};

const HOLD: &str = "ENGINES_TEST_HOLD";

#[tokio::test]
async fn a_cluster_whose_process_is_killed_leaves_nothing() {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--ignored",
            "--nocapture",
            "guard::holds_a_cluster_until_it_is_killed",
        ])
        .env(HOLD, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let line = lines
        .find_map(|line| Some(line.split_once("cluster ")?.1.to_owned()))
        .unwrap();
    let mut words = line.split(' ');
    let dir = PathBuf::from(words.next().unwrap());
    let mut pids: Vec<u32> = words.map(|word| word.parse().unwrap()).collect();
    // A worker of autovacuum may have ended in the meantime.
    pids.retain(|pid| runs(*pid));
    assert!(dir.exists() && pids.len() > 6, "{pids:?}");

    holder.kill().unwrap();
    holder.wait().unwrap();
    for _ in 0..6_000 {
        if !dir.exists() && !pids.iter().any(|pid| runs(*pid)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    all_gone(&dir, &pids);
}

#[tokio::test]
#[ignore = "the other half of the test above"]
async fn holds_a_cluster_until_it_is_killed() {
    if std::env::var_os(HOLD).is_none() {
        return;
    }
    let cluster = Cluster::start(Config::default().with_replicas(1))
        .await
        .unwrap();
    // With a server that cannot act any more: a stopped one ends by SIGKILL alone.
    cluster.node(1).freeze().await.unwrap();
    let mut pids: Vec<u32> = cluster
        .nodes()
        .iter()
        .filter_map(|node| node.pid())
        .collect();
    pids.extend(pids.clone().into_iter().flat_map(children));
    assert!(pids.len() > 6, "the children were looked at");
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    println!("cluster {} {}", cluster.dir().display(), pids.join(" "));
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_panic_ends_and_removes_the_cluster() {
    let cluster = Cluster::start(Config::default().with_replicas(0))
        .await
        .unwrap();
    let (dir, pids) = (
        cluster.dir().to_path_buf(),
        vec![cluster.node(0).pid().unwrap()],
    );
    let panicked = tokio::spawn(async move {
        let _cluster = cluster;
        panic!("as a failing assertion does");
    });
    assert!(panicked.await.unwrap_err().is_panic());
    all_gone(&dir, &pids);
}
