//! A worker on a queue in PostgreSQL: it takes and ends jobs on leases of the primary, and reads what they
//! need from replicas, never older than the job.
//!
//! The servers are those of `DATABASE_URLS` (with blanks between), or else a primary and two replicas
//! that the example starts.
//!
//! ```sh
//! cargo run -p resilience-tower --features postgres --example read_write_worker
//! ```

use std::error::Error as StdError;
use std::time::Duration;

use engines::postgres as engine;
use resilience_tower::read_write::postgres::Node;
use resilience_tower::read_write::{Checkout, Cluster, Error, Lease};
use tokio::time::sleep;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS orders (id bigserial PRIMARY KEY, items int NOT NULL);
    CREATE TABLE IF NOT EXISTS jobs (
        id bigserial PRIMARY KEY, customer bigint NOT NULL, done boolean NOT NULL DEFAULT false);
    CREATE TABLE IF NOT EXISTS bills (job bigint PRIMARY KEY, items bigint NOT NULL);
";

/// Does one job; whether there was one.
///
/// The transaction holds the job, and the unique key of its bill has it billed once: a commit whose
/// outcome is unknown is found out by looking for the job again.
async fn work(shop: &Cluster<Node>) -> Result<bool, Box<dyn StdError>> {
    let checkout = Checkout::transaction(false).deadline(Duration::from_secs(30));
    let mut lease = shop.lease(&checkout).await?;
    // What the primary has now: it has all that the job was made of.
    let token = lease.commit_token().await?;
    let transaction = lease.transaction().await?;
    let take = "SELECT id FROM jobs WHERE NOT done ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED";
    let Some(job) = transaction.query_opt(take, &[]).await? else {
        transaction.rollback().await?;
        lease.succeeded();
        return Ok(false);
    };
    let job: i64 = job.get(0);

    // The long part: not on the primary.
    let sum = async |lease: Lease<Node>| {
        let row = lease
            .query_one("SELECT coalesce(sum(items), 0) FROM orders", &[])
            .await?;
        Ok((row.get::<_, i64>(0), lease.node().to_owned()))
    };
    let (items, node) = shop.run(&Checkout::read(token), sum).await?;

    let bill = "INSERT INTO bills (job, items) VALUES ($1, $2)";
    transaction.execute(bill, &[&job, &items]).await?;
    let end = "UPDATE jobs SET done = true WHERE id = $1";
    transaction.execute(end, &[&job]).await?;
    if let Err(error) = transaction.commit().await {
        // Elsewhere, later, never, or nobody knows: the job is looked for again in any case.
        let what = lease.failed(&error);
        println!("job {job}: {error}: {what:?}");
        return Ok(true);
    }
    let current = lease.is_current();
    lease.succeeded();
    println!("job {job}: {items} items, counted on {node}; the lease is current: {current}");
    Ok(true)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    // Kept for as long as the example runs.
    let (_servers, urls) = match std::env::var("DATABASE_URLS") {
        Ok(urls) => (None, urls.split_whitespace().map(String::from).collect()),
        Err(_) => {
            let config = engine::Config::default().with_replicas(2);
            let servers = engine::Cluster::start(config).await?;
            let urls: Vec<_> = servers.nodes().iter().map(engine::Node::url).collect();
            (Some(servers), urls)
        }
    };
    let mut nodes = Vec::new();
    for (number, url) in urls.iter().enumerate() {
        nodes.push((format!("pg{number}"), Node::new(url.parse()?)));
    }
    let shop = Cluster::builder(nodes).spawn()?;
    let lease = shop.lease(&Checkout::write()).await?;
    lease.batch_execute(TABLES).await?;
    lease.succeeded();

    let customer = tokio::spawn({
        let shop = shop.clone();
        async move {
            for customer in 1..=10_i64 {
                let order = async |mut lease: Lease<Node>| {
                    let transaction = lease.transaction().await?;
                    let order = "INSERT INTO orders (items) VALUES (2)";
                    transaction.execute(order, &[]).await?;
                    let job = "INSERT INTO jobs (customer) VALUES ($1)";
                    transaction.execute(job, &[&customer]).await?;
                    transaction.commit().await
                };
                shop.run(&Checkout::write(), order).await?;
            }
            Ok::<_, Error<_>>(())
        }
    });
    let mut done = 0;
    while done < 10 {
        match work(&shop).await? {
            true => done += 1,
            false => sleep(Duration::from_millis(10)).await,
        }
    }
    customer.await??;
    // Ends when the last job has: no lease is cut off.
    shop.drain(Duration::from_secs(5)).await?;
    Ok(())
}
