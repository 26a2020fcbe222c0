//! The audit log on PostgreSQL.

use futures_util::future::BoxFuture;
use resilience_tower::read_write::postgres::Transaction;
use tokio_postgres::{Row, types::ToSql};

use super::cluster::{Client, Failure, Postgres};
use crate::ports::{Appended, AuditEntry, AuditStore, See, StoreError};

/// The audit log in PostgreSQL, read on the primary: it is chained to what is newest.
#[derive(Clone, Debug)]
pub struct PostgresAudit {
    postgres: Postgres,
}

impl PostgresAudit {
    /// The log in `postgres`.
    #[must_use]
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }
}

impl AuditStore for PostgresAudit {
    fn head(&self) -> BoxFuture<'_, Result<Option<(i64, String)>, StoreError>> {
        let head = |client: Client| async move {
            let sql = "SELECT seq, hash FROM audit_log ORDER BY seq DESC LIMIT 1";
            let row = client.query_opt(sql, &[]).await?;
            let Some(row) = row else { return Ok(None) };
            Ok(Some((row.try_get(0)?, row.try_get(1)?)))
        };
        Box::pin(self.postgres.read(&See::Newest, head))
    }

    fn append<'a>(&'a self, entry: &'a AuditEntry) -> BoxFuture<'a, Result<Appended, StoreError>> {
        Box::pin(async move {
            let done = transaction!(self.postgres, |tx| append(&tx, entry));
            Ok(done.await?.0)
        })
    }

    fn page(&self, after: i64, limit: u32) -> BoxFuture<'_, Result<Vec<AuditEntry>, StoreError>> {
        let page = move |client: Client| async move {
            let sql = "SELECT seq, event_id, entry, previous_hash, hash FROM audit_log \
                       WHERE seq > $1 ORDER BY seq LIMIT $2";
            let rows = client.query(sql, &[&after, &i64::from(limit)]).await?;
            rows.iter().map(entry).collect()
        };
        Box::pin(self.postgres.read(&See::Newest, page))
    }
}

async fn append(tx: &Transaction<'_>, entry: &AuditEntry) -> Result<Appended, Failure> {
    let insert = "INSERT INTO audit_log (seq, event_id, entry, previous_hash, hash) \
                  VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    let values: [&(dyn ToSql + Sync); 5] = [
        &entry.seq,
        &entry.event_id,
        &entry.entry,
        &entry.previous_hash,
        &entry.hash,
    ];
    if tx.execute(insert, &values).await? == 1 {
        return Ok(Appended::Done);
    }
    let known = "SELECT 1 FROM audit_log WHERE event_id = $1";
    Ok(match tx.query_opt(known, &[&entry.event_id]).await? {
        Some(_) => Appended::Known,
        None => Appended::Taken,
    })
}

fn entry(row: &Row) -> Result<AuditEntry, Failure> {
    Ok(AuditEntry {
        seq: row.try_get(0)?,
        event_id: row.try_get(1)?,
        entry: row.try_get(2)?,
        previous_hash: row.try_get(3)?,
        hash: row.try_get(4)?,
    })
}
