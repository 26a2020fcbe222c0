//! The job queue on PostgreSQL.

use std::time::Duration;

use futures_util::future::BoxFuture;
use resilience_tower::read_write::postgres::Transaction;

use super::{
    PostgresStore,
    cluster::{Client, Failure},
};
use crate::{
    adapters::sqlite::rows::millis,
    ports::{Job, JobKind, JobQueue, See, StoreError},
};

impl JobQueue for PostgresStore {
    fn claim_due(
        &self,
        now: Duration,
        lease_until: Duration,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Job>, StoreError>> {
        Box::pin(async move {
            let done = transaction!(self.postgres, |tx| claim(&tx, now, lease_until, limit));
            Ok(done.await?.0)
        })
    }

    fn finish<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let done = transaction!(self.postgres, |tx| finish(&tx, job));
            done.await.map(|((), _)| ())
        })
    }

    fn reschedule<'a>(
        &'a self,
        job: &'a Job,
        at: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let done = transaction!(self.postgres, |tx| reschedule(&tx, job, at));
            done.await.map(|((), _)| ())
        })
    }

    fn queued(&self, kind: JobKind) -> BoxFuture<'_, Result<u64, StoreError>> {
        let count = move |client: Client| async move {
            let sql = "SELECT COUNT(*) FROM jobs WHERE kind = $1 AND done = 0";
            let row = client.query_one(sql, &[&kind.as_str()]).await?;
            let count: i64 = row.try_get(0)?;
            Ok(u64::try_from(count).unwrap_or(0))
        };
        Box::pin(self.postgres.read(&See::Newest, count))
    }
}

/// Jobs that another worker is taking are not waited for.
async fn claim(
    tx: &Transaction<'_>,
    now: Duration,
    lease_until: Duration,
    limit: u32,
) -> Result<Vec<Job>, Failure> {
    let sql = "UPDATE jobs SET due_at = $1, attempts = attempts + 1 \
               WHERE kind = $2 AND payment_id IN \
                 (SELECT payment_id FROM jobs WHERE kind = $2 AND done = 0 AND due_at <= $3 \
                  ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED) \
               RETURNING payment_id, correlation_id, attempts";
    let (until, now, limit) = (millis(lease_until), millis(now), i64::from(limit));
    let mut jobs = Vec::new();
    for kind in [JobKind::Verify, JobKind::Refund] {
        let rows = tx
            .query(sql, &[&until, &kind.as_str(), &now, &limit])
            .await?;
        for row in rows {
            jobs.push(Job {
                kind,
                payment_id: row.try_get(0)?,
                correlation_id: row.try_get(1)?,
                attempts: row.try_get(2)?,
            });
        }
    }
    Ok(jobs)
}

async fn finish(tx: &Transaction<'_>, job: &Job) -> Result<(), Failure> {
    let sql = "UPDATE jobs SET done = 1 WHERE kind = $1 AND payment_id = $2";
    tx.execute(sql, &[&job.kind.as_str(), &job.payment_id])
        .await?;
    Ok(())
}

async fn reschedule(tx: &Transaction<'_>, job: &Job, at: Duration) -> Result<(), Failure> {
    let sql = "UPDATE jobs SET due_at = $1 WHERE kind = $2 AND payment_id = $3";
    tx.execute(sql, &[&millis(at), &job.kind.as_str(), &job.payment_id])
        .await?;
    Ok(())
}
