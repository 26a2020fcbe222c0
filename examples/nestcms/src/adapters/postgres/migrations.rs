//! The tables, brought up to date at the start.

use resilience_tower::read_write::postgres::Transaction;

use super::cluster::{Failure, Postgres};
use crate::ports::StoreError;

/// By number; the SQLite files where both speak the same.
const FILES: [(i64, &str); 5] = [
    (1, include_str!("../../../migrations/0001_payments.sql")),
    (101, include_str!("../../../migrations/0101_audit_log.sql")),
    (
        102,
        include_str!("../../../migrations/0102_notifications.sql"),
    ),
    (
        103,
        include_str!("../../../migrations/postgres/0103_outbox.sql"),
    ),
    (
        200,
        include_str!("../../../migrations/postgres/0200_content.sql"),
    ),
];

/// Of the advisory lock; any number that nobody else takes.
const LOCK: i64 = 0x006e_6573_7463_6d73;

/// Runs what has not run yet, all of it or nothing. Instances that start at once wait for the first.
pub(super) async fn run(postgres: &Postgres) -> Result<(), StoreError> {
    transaction!(postgres, |tx| migrate(&tx)).await?;
    Ok(())
}

async fn migrate(tx: &Transaction<'_>) -> Result<(), Failure> {
    tx.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    tx.batch_execute("CREATE TABLE IF NOT EXISTS migrations (version BIGINT PRIMARY KEY)")
        .await?;
    for (version, sql) in FILES {
        let insert = "INSERT INTO migrations VALUES ($1) ON CONFLICT DO NOTHING";
        if tx.execute(insert, &[&version]).await? == 1 {
            tx.batch_execute(sql).await?;
        }
    }
    Ok(())
}
