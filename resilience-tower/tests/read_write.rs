//! Calls over a cluster of fake nodes: the simple ways.
#![cfg(feature = "read-write")]

use resilience_tower::read_write::{Checkout, ReadFreshness};

use crate::replicated::{self, millis};

#[tokio::test(start_paused = true)]
async fn a_write_goes_to_the_primary_and_a_read_to_a_replica() {
    let nodes = replicated::nodes(3);
    let cluster = replicated::cluster(&nodes).spawn().unwrap();
    let mut lease = cluster.lease(&Checkout::write()).await.unwrap();
    assert_eq!(lease.node(), "n0");
    lease.write();
    let token = lease.commit_token().await.unwrap();
    assert_eq!(token.position.0, 1);
    lease.succeeded();
    let read = Checkout::read(ReadFreshness::Any);
    let lease = cluster.lease(&read).await.unwrap();
    assert_ne!(lease.node(), "n0");
    drop(lease);
    assert_eq!(cluster.snapshot().in_flight, 0);
    tokio::time::sleep(millis(1)).await;
}
