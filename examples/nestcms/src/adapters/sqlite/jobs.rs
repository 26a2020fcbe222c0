//! The job queue on SQLite.

use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::Row;

use super::{SqliteStore, database::Failure, rows::millis};
use crate::ports::{Job, JobKind, JobQueue, StoreError};

impl JobQueue for SqliteStore {
    fn claim_due(
        &self,
        now: Duration,
        lease_until: Duration,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Job>, StoreError>> {
        Box::pin(async move {
            // The common case is an idle queue: look before taking the write lock.
            let due = self.database.guard(async {
                let row = sqlx::query("SELECT 1 FROM jobs WHERE done = 0 AND due_at <= $1 LIMIT 1")
                    .bind(millis(now))
                    .fetch_optional(self.database.read())
                    .await?;
                Ok(row.is_some())
            });
            if !due.await? {
                return Ok(Vec::new());
            }
            self.database
                .transaction(async move |tx| {
                    let mut jobs = Vec::new();
                    for kind in [JobKind::Verify, JobKind::Refund] {
                        let rows = sqlx::query(
                            "UPDATE jobs SET due_at = $1, attempts = attempts + 1 \
                             WHERE kind = $2 AND payment_id IN \
                               (SELECT payment_id FROM jobs WHERE kind = $2 AND done = 0 \
                                AND due_at <= $3 ORDER BY due_at LIMIT $4) \
                             RETURNING payment_id, correlation_id, attempts",
                        )
                        .bind(millis(lease_until))
                        .bind(kind.as_str())
                        .bind(millis(now))
                        .bind(limit)
                        .fetch_all(&mut **tx)
                        .await?;
                        for row in rows {
                            jobs.push(Job {
                                kind,
                                payment_id: row.try_get("payment_id").map_err(Failure::from)?,
                                correlation_id: row.try_get("correlation_id")?,
                                attempts: row.try_get("attempts")?,
                            });
                        }
                    }
                    Ok(jobs)
                })
                .await
        })
    }

    fn finish<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.database.transaction(async move |tx| {
            sqlx::query("UPDATE jobs SET done = 1 WHERE kind = $1 AND payment_id = $2")
                .bind(job.kind.as_str())
                .bind(&job.payment_id)
                .execute(&mut **tx)
                .await?;
            Ok(())
        }))
    }

    fn reschedule<'a>(
        &'a self,
        job: &'a Job,
        at: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.database.transaction(async move |tx| {
            sqlx::query("UPDATE jobs SET due_at = $1 WHERE kind = $2 AND payment_id = $3")
                .bind(millis(at))
                .bind(job.kind.as_str())
                .bind(&job.payment_id)
                .execute(&mut **tx)
                .await?;
            Ok(())
        }))
    }

    fn queued(&self, kind: JobKind) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.database.guard(async move {
            let row = sqlx::query("SELECT COUNT(*) AS n FROM jobs WHERE kind = $1 AND done = 0")
                .bind(kind.as_str())
                .fetch_one(self.database.read())
                .await?;
            let count: i64 = row.try_get("n")?;
            Ok(u64::try_from(count).unwrap_or(0))
        }))
    }
}
