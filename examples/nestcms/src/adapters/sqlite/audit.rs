//! The audit log on SQLite.

use futures_util::future::BoxFuture;
use sqlx::{Row, SqlitePool, sqlite::SqliteRow};

use super::database::Failure;
use crate::ports::{Appended, AuditEntry, AuditStore, StoreError};

/// The audit log in SQLite. It stands beside the database breaker: what opens it belongs into the log.
#[derive(Clone, Debug)]
pub struct SqliteAudit {
    pool: SqlitePool,
}

impl SqliteAudit {
    /// The log in `pool`, whose migrations have run.
    #[must_use]
    pub fn new(pool: SqlitePool) -> Self {
        Self { pool }
    }

    async fn insert(&self, entry: &AuditEntry) -> Result<Appended, Failure> {
        let mut transaction = self.pool.begin().await?;
        let insert = "INSERT INTO audit_log (seq, event_id, entry, previous_hash, hash) \
                      VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
        let done = sqlx::query(insert)
            .bind(entry.seq)
            .bind(&entry.event_id)
            .bind(&entry.entry)
            .bind(&entry.previous_hash)
            .bind(&entry.hash)
            .execute(&mut *transaction)
            .await?;
        if done.rows_affected() == 1 {
            transaction.commit().await?;
            return Ok(Appended::Done);
        }
        let known = sqlx::query("SELECT 1 FROM audit_log WHERE event_id = $1")
            .bind(&entry.event_id)
            .fetch_optional(&mut *transaction)
            .await?;
        Ok(match known {
            Some(_) => Appended::Known,
            None => Appended::Taken,
        })
    }
}

impl AuditStore for SqliteAudit {
    fn head(&self) -> BoxFuture<'_, Result<Option<(i64, String)>, StoreError>> {
        Box::pin(async move {
            let head = "SELECT seq, hash FROM audit_log ORDER BY seq DESC LIMIT 1";
            let head = sqlx::query_as(head).fetch_optional(&self.pool).await;
            Ok(head.map_err(Failure::from)?)
        })
    }

    fn append<'a>(&'a self, entry: &'a AuditEntry) -> BoxFuture<'a, Result<Appended, StoreError>> {
        Box::pin(async move { Ok(self.insert(entry).await?) })
    }

    fn page(&self, after: i64, limit: u32) -> BoxFuture<'_, Result<Vec<AuditEntry>, StoreError>> {
        Box::pin(async move {
            let page = "SELECT seq, event_id, entry, previous_hash, hash FROM audit_log \
                        WHERE seq > $1 ORDER BY seq LIMIT $2";
            let rows = sqlx::query(page).bind(after).bind(limit);
            let rows = rows.fetch_all(&self.pool).await.map_err(Failure::from)?;
            Ok(rows.iter().map(entry).collect::<Result<_, Failure>>()?)
        })
    }
}

fn entry(row: &SqliteRow) -> Result<AuditEntry, Failure> {
    Ok(AuditEntry {
        seq: row.try_get(0)?,
        event_id: row.try_get(1)?,
        entry: row.try_get(2)?,
        previous_hash: row.try_get(3)?,
        hash: row.try_get(4)?,
    })
}
