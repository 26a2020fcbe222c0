//! A read/write split over Redis: a primary, two replicas, and three sentinels that fail over.
//!
//! `cargo run -p resilience-tower --example read_write_redis --features read-write,redis`
//!
//! Starts servers of its own in a private directory, so Redis must be installed. Each write is read at
//! once where the split sends it, before and after the primary is killed.

use std::time::Duration;

use redis::AsyncCommands;
use resilience_tower::read_write::{
    Checkout, Cluster, Token,
    redis::{Error, Node, Sentinels},
};

type Position = resilience_core::route::Offset;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = engines::redis::Config::default().with_sentinels(3);
    let servers = engines::redis::Cluster::start(config).await?;

    // In a service: the addresses of the sentinels and of all nodes.
    let sentinels = servers.sentinels().iter().map(|sentinel| sentinel.url());
    let sentinels = Sentinels::new(engines::redis::SERVICE, sentinels)?;
    let nodes = servers.nodes().iter().map(|server| {
        let node = Node::builder(server.url()).sentinels(&sentinels).build()?;
        Ok((server.name().to_owned(), node))
    });
    let nodes = nodes.collect::<Result<Vec<_>, Error>>()?;
    let cluster = Cluster::builder(nodes).spawn()?;

    for visits in 1..=3 {
        visit(&cluster, visits).await?;
    }
    println!("the primary is killed");
    servers.node(0).kill().await?;
    for visits in 4..=6 {
        visit(&cluster, visits).await?;
    }
    Ok(())
}

async fn visit(cluster: &Cluster<Node>, visits: u64) -> Result<(), Box<dyn std::error::Error>> {
    // A write waits for a primary, so long at most. This one may run twice.
    let write = Checkout::write()
        .deadline(Duration::from_secs(60))
        .idempotent();
    let write = cluster.run(&write, |mut lease| async move {
        let () = lease.set("visits", visits).await?;
        println!("{visits} written on {}", lease.node());
        lease.commit_token().await
    });
    // In a service it goes to the client, signed, and comes back with the next request.
    let token: Token<Position> = write.await?;

    let read = Checkout::read(token).deadline(Duration::from_secs(60));
    let read = cluster.run(&read, |mut lease| async move {
        let seen: u64 = lease.get("visits").await?;
        println!(
            "{seen} read on {}, as {}",
            lease.node(),
            lease.why().as_str()
        );
        Ok(seen)
    });
    assert_eq!(read.await?, visits);
    Ok(())
}
