//! Reads that wait for a node.
#![cfg(feature = "read-write")]

use std::future::Future;

use resilience_core::route::Counter;
use resilience_tower::read_write::{
    Checkout, Cluster, Error, Failure, ReadFreshness, Reason, Role,
};
use tokio::time::{Instant, sleep};

use crate::replicated::{self, Broken, Fake, in_flight, millis};

/// A cluster none of whose nodes answers.
async fn dark(read_wait: u64) -> (Vec<Fake>, Cluster<Fake>) {
    let nodes = replicated::nodes(3);
    let builder = replicated::cluster(&nodes).read_wait(millis(read_wait));
    let cluster = builder.spawn().unwrap();
    sleep(millis(60)).await;
    for node in &nodes {
        node.set(|state| state.down = true);
    }
    sleep(millis(60)).await;
    (nodes, cluster)
}

fn any() -> Checkout<Counter> {
    Checkout::read(ReadFreshness::Any)
}

/// The node, or why there is none, and how long that took, in milliseconds.
async fn timed(
    read: impl Future<Output = Result<String, Error<Broken>>>,
) -> (Result<String, Option<Reason>>, u128) {
    let began = Instant::now();
    let read = read.await.map_err(|error| match error {
        Error::NoRoute(no_route) => Some(no_route.reason),
        _ => None,
    });
    (read, began.elapsed().as_millis())
}

async fn read(
    cluster: &Cluster<Fake>,
    checkout: Checkout<Counter>,
) -> Result<String, Error<Broken>> {
    Ok(cluster.lease(&checkout).await?.node().into())
}

// An epoch that is told before its primary is seen hides all nodes for a moment.
#[tokio::test(start_paused = true)]
async fn a_read_waits_for_the_node_that_comes_back() {
    let (nodes, cluster) = dark(10_000).await;
    let reads = cluster.clone();
    let call = tokio::spawn(async move { timed(read(&reads, any())).await });
    sleep(millis(300)).await;
    assert!(!call.is_finished());
    nodes[1].set(|state| (state.down, state.role, state.epoch) = (false, Role::Primary, 2));
    let (went, took) = call.await.unwrap();
    assert_eq!(went, Ok("n1".into()));
    assert!(took <= 352, "one look: {took}");
    // Whoever waits is told nothing in between, and so is nobody who counts.
    let snapshot = cluster.snapshot();
    assert_eq!(snapshot.route.refused(Reason::NoNode), 1);
    assert_eq!((snapshot.in_flight, in_flight(&cluster)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_a_quarter_of_a_second_unless_told_otherwise() {
    let nodes = replicated::nodes(3);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    sleep(millis(60)).await;
    for node in &nodes {
        node.set(|state| state.down = true);
    }
    sleep(millis(60)).await;
    let primary = Checkout::read(ReadFreshness::Primary);
    for (checkout, reason, waits) in [
        (any(), Reason::NoNode, 250),
        (any().deadline(millis(100)), Reason::NoNode, 100),
        (any().deadline(millis(60_000)), Reason::NoNode, 250),
        (primary, Reason::NoPrimary, 250),
    ] {
        let told = timed(read(&cluster, checkout)).await;
        assert_eq!(told, (Err(Some(reason)), waits));
    }
    let (_, cluster) = dark(0).await;
    let told = timed(read(&cluster, any())).await;
    assert_eq!(told, (Err(Some(Reason::NoNode)), 0));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_was_on_all_nodes_waits_for_none() {
    let nodes = replicated::nodes(3);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    sleep(millis(60)).await;
    for node in &nodes {
        node.set(|state| state.connect_fails = Some(Failure::NotSent));
    }
    assert_eq!(timed(read(&cluster, any())).await, (Err(None), 0));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_waits_is_told_at_once_that_the_cluster_drains() {
    let (_, cluster) = dark(10_000).await;
    let reads = cluster.clone();
    let call = tokio::spawn(async move { timed(read(&reads, any())).await });
    sleep(millis(300)).await;
    cluster.drain(millis(1_000)).await.unwrap();
    assert_eq!(call.await.unwrap(), (Err(Some(Reason::Draining)), 300));
}
