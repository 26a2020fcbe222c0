//! Reads and writes by a split over real servers, on a machine that does other things as well.

use std::time::Duration;

use resilience_core::retry::{BudgetConfig, RetryBudget};
use resilience_tower::read_write::{
    Builder, Checkout, Cluster, Config, Error, Node, ReadFreshness, Token,
};
use tokio::time::{Instant, sleep};

/// For whatever must become true.
pub(crate) const BOUND: Duration = Duration::from_secs(120);

/// Numbers by name, in an engine.
pub(crate) trait Store: Node {
    async fn set(
        connection: &mut Self::Connection,
        name: &str,
        value: u64,
    ) -> Result<(), Self::Error>;

    async fn get(connection: &mut Self::Connection, name: &str)
    -> Result<Option<u64>, Self::Error>;
}

type Result<T, E> = std::result::Result<T, E>;
type Position<N> = <N as Node>::Position;
type Failed<N> = Error<<N as Node>::Error>;

/// The result, or `None`: to come again, as an error tells. The looks of a busy machine are late, or a
/// breaker is still open.
async fn come_again<T, E>(
    result: Result<T, Error<E>>,
    until: Instant,
) -> Option<Result<T, Error<E>>> {
    match result.as_ref().map_err(Error::retry_after) {
        Err(Some(time)) if Instant::now() < until => {
            sleep(time.min(Duration::from_millis(50))).await;
            None
        }
        _ => Some(result),
    }
}

/// Writes `value`, and says on which node and with which token.
pub(crate) async fn write<N: Store>(
    cluster: &Cluster<N>,
    name: &str,
    value: u64,
) -> Result<(String, Token<Position<N>>), Failed<N>> {
    let checkout = Checkout::write().deadline(BOUND);
    let until = Instant::now() + BOUND;
    loop {
        let run = cluster.run(&checkout, |mut lease| async move {
            N::set(&mut lease, name, value).await?;
            let token = lease.commit_token().await?;
            Ok((lease.node().to_owned(), token))
        });
        if let Some(result) = come_again(run.await, until).await {
            return result;
        }
    }
}

/// What is there, and on which node it was read.
pub(crate) async fn read<N: Store>(
    cluster: &Cluster<N>,
    freshness: impl Into<ReadFreshness<Position<N>>>,
    name: &str,
) -> Result<(String, Option<u64>), Failed<N>> {
    let checkout = Checkout::read(freshness).deadline(BOUND);
    let until = Instant::now() + BOUND;
    loop {
        let run = cluster.run(&checkout, |mut lease| async move {
            let value = N::get(&mut lease, name).await?;
            Ok((lease.node().to_owned(), value))
        });
        if let Some(result) = come_again(run.await, until).await {
            return result;
        }
    }
}

/// Nothing is bounded here that only bounds load: how quickly calls come is the machine's affair.
pub(crate) fn settings<N: Store>(builder: Builder<N>) -> Builder<N> {
    let unbounded = BudgetConfig::new(1.0, 10_000).unwrap();
    // A machine that does other things as well looks late.
    let config = Config::builder().observation_ttl(Duration::from_secs(3));
    builder
        .config(config.spill(unbounded).build().unwrap())
        .observe_timeout(Duration::from_secs(1))
        .retry_budget(RetryBudget::new(unbounded))
        .max_attempts(50)
}

pub(crate) fn spawned<N: Store>(nodes: impl Iterator<Item = (String, N)>) -> Cluster<N> {
    settings(Cluster::builder(nodes)).spawn().unwrap()
}

pub(crate) async fn eventually(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + BOUND;
    while !is().await {
        assert!(Instant::now() < until, "not within {BOUND:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Writes `from..to`, and reads each at once where the split sends it: who was read on.
pub(crate) async fn round<N: Store>(cluster: &Cluster<N>, from: u64, to: u64) -> Vec<String> {
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
pub(crate) async fn comes_back<N: Store>(cluster: &Cluster<N>, wanted: &str, value: u64) {
    let (_, token) = write(cluster, "back", value).await.unwrap();
    let what = format!("a read on {wanted}");
    eventually(&what, async || {
        let (node, seen) = read(cluster, token.clone(), "back").await.unwrap();
        assert_eq!(seen, Some(value), "a stale read on {node}");
        node == wanted
    })
    .await;
}
