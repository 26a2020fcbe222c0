//! The outbox on a real PostgreSQL: many writers, whose numbers are drawn before they commit.

use std::{collections::BTreeSet, time::Duration};

use engines::postgres::{Cluster, Config};
use nestcms::{
    adapters::postgres::{Postgres, PostgresStore},
    metrics::Metrics,
    ports::Outbox,
    settings::{Secret, Settings},
};
use resilience_core::{breaker::CircuitBreaker, clock::SharedClock};
use tokio_postgres::{Client, NoTls};

use super::contract::{at, contract, ids};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract_and_misses_no_writer() {
    let engine = Cluster::start(Config::default().with_replicas(0))
        .await
        .unwrap();
    let store = store(&engine).await;
    contract(&store).await;
    an_older_transaction_is_waited_for(&engine, &store).await;
    a_key_keeps_its_order_when_the_older_transaction_comes_later(&engine, &store).await;
    eight_writers_lose_nothing(&engine, &store).await;
}

/// Its number is the lower one, and it commits later: who remembers the last number misses it.
async fn an_older_transaction_is_waited_for(engine: &Cluster, store: &PostgresStore) {
    let (slow, fast) = (client(engine).await, client(engine).await);
    slow.batch_execute(&format!("BEGIN; {}", insert("slow", "slow-1")))
        .await
        .unwrap();
    fast.batch_execute(&insert("fast", "fast-1")).await.unwrap();
    assert!(ids(&store.due(at(1), 10).await.unwrap()).is_empty());
    slow.batch_execute("COMMIT").await.unwrap();
    all_but_others_are_over(store, &["slow-1", "fast-1"]).await;
}

/// The second of a key waited for the first, and began before it.
async fn a_key_keeps_its_order_when_the_older_transaction_comes_later(
    engine: &Cluster,
    store: &PostgresStore,
) {
    let (older, between, younger) = (
        client(engine).await,
        client(engine).await,
        client(engine).await,
    );
    let begin = "BEGIN; SELECT pg_current_xact_id()";
    older.batch_execute(begin).await.unwrap();
    between.batch_execute(begin).await.unwrap();
    younger
        .batch_execute(&insert("same", "same-1"))
        .await
        .unwrap();
    older
        .batch_execute(&insert("same", "same-2"))
        .await
        .unwrap();
    older.batch_execute("COMMIT").await.unwrap();
    // `between` hides the first, not the second.
    assert!(ids(&store.due(at(1), 10).await.unwrap()).is_empty());
    between.batch_execute("COMMIT").await.unwrap();
    all_but_others_are_over(store, &["same-1", "same-2"]).await;
}

/// Waits for other transactions of the engine, such as autovacuum's, and books the entries.
async fn all_but_others_are_over(store: &PostgresStore, wanted: &[&str]) {
    crate::flows::support::eventually("the entries are to be had", async || {
        let due = store.due(at(1), 10).await.unwrap();
        let seen = ids(&due);
        assert!(wanted.starts_with(&seen), "{seen:?}");
        seen.len() == wanted.len()
    })
    .await;
    let due = store.due(at(1), 10).await.unwrap();
    let seqs: Vec<_> = due.iter().map(|entry| entry.seq).collect();
    store.sent(&seqs, at(1)).await.unwrap();
}

/// Eight writers, some of whose transactions are rolled back, and a reader beside them.
async fn eight_writers_lose_nothing(engine: &Cluster, store: &PostgresStore) {
    const EACH: usize = 60;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let client = client(engine).await;
        writers.spawn(async move {
            let mut committed = Vec::new();
            for n in 0..EACH {
                let id = format!("w{writer}-{n:03}");
                client.batch_execute("BEGIN").await.unwrap();
                client
                    .batch_execute(&insert(&format!("w{writer}"), &id))
                    .await
                    .unwrap();
                if n % 3 == writer % 3 {
                    client
                        .batch_execute("SELECT pg_sleep(0.003)")
                        .await
                        .unwrap();
                }
                if n % 10 == 9 {
                    client.batch_execute("ROLLBACK").await.unwrap();
                } else {
                    client.batch_execute("COMMIT").await.unwrap();
                    committed.push(id);
                }
            }
            committed
        });
    }
    let mut seen: Vec<String> = Vec::new();
    let mut committed = BTreeSet::new();
    loop {
        // Asked before the look: what is committed by now is seen by a look that finds nothing.
        let over = writers.is_empty();
        let due = store.due(at(1), 25).await.unwrap();
        let seqs: Vec<_> = due.iter().map(|entry| entry.seq).collect();
        seen.extend(due.into_iter().map(|entry| entry.event_id));
        store.sent(&seqs, at(1)).await.unwrap();
        while let Some(writer) = writers.try_join_next() {
            committed.extend(writer.unwrap());
        }
        if over && seen.len() >= committed.len() {
            break;
        }
    }
    assert!(store.due(at(1), 25).await.unwrap().is_empty());
    assert_eq!(seen.len(), 8 * EACH * 9 / 10);
    let distinct: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!(distinct, committed);
    for writer in 0..8 {
        let prefix = format!("w{writer}-");
        assert!(seen.iter().filter(|id| id.starts_with(&prefix)).is_sorted());
    }
}

fn insert(key: &str, id: &str) -> String {
    format!(
        "INSERT INTO outbox (message_id, event_id, kind, key, payload, correlation_id, history, \
         created_at) VALUES ('{id}', '{id}', 'payment.success', '{key}', '{{}}', 'c', '[]', 0)"
    )
}

async fn client(engine: &Cluster) -> Client {
    let (client, connection) = tokio_postgres::connect(&engine.node(0).url(), NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

pub(super) async fn store(engine: &Cluster) -> PostgresStore {
    let metrics = Metrics::new("test", SharedClock::std());
    let settings = settings(engine);
    let postgres = Postgres::open(&settings, CircuitBreaker::new("database"), metrics);
    PostgresStore::new(postgres.await.unwrap())
}

/// A machine that is busy is not a node that is down.
pub(super) fn settings(engine: &Cluster) -> Settings {
    let mut settings = Settings::demo();
    settings.database.nodes = vec![Secret::new(engine.node(0).url())];
    settings.database.patience = Duration::from_secs(30);
    settings.database.wait_limit = Duration::from_secs(10);
    settings.database.write_wait = Duration::from_secs(20);
    let route = serde_json::json!({ "observation_ttl": "20s", "max_lag": "60s" });
    settings.database.route = serde_json::from_value(route).unwrap();
    settings
}
