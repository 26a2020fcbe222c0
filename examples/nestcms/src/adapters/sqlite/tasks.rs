//! The task queue on SQLite: one table, and leases by time.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use sqlx::{Row, Sqlite, Transaction, sqlite::SqliteRow};
use webhook_verify::clock::WallClock;

use super::{Database, database::Failure, rows::millis};
use crate::{
    domain::{
        event::Timestamp,
        task::{Priority, State, Task},
    },
    ports::{Backlog, Lease, QueueError, StoreError, TaskQueue},
};

/// Tasks of this process, in its file.
#[derive(Clone, Debug)]
pub struct SqliteTasks {
    database: Database,
    wall: Arc<dyn WallClock>,
    visibility: Duration,
    keep: Duration,
}

impl SqliteTasks {
    /// A queue in `database`. A lease lasts `visibility`, a task that is done is kept for `keep`.
    #[must_use]
    pub fn new(
        database: Database,
        wall: Arc<dyn WallClock>,
        visibility: Duration,
        keep: Duration,
    ) -> Self {
        Self {
            database,
            wall,
            visibility,
            keep,
        }
    }

    /// Takes one; `None` if none is due, `Some(None)` if it was left by its last worker and is dead.
    async fn take_one(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        priority: Priority,
    ) -> Result<Option<Option<Lease>>, Failure> {
        let now = self.wall.now();
        let row = sqlx::query(
            "SELECT body, lease FROM tasks WHERE priority = $1 \
             AND state IN ('queued', 'running') AND due_at <= $2 \
             ORDER BY due_at, rowid LIMIT 1",
        )
        .bind(priority.as_str())
        .bind(millis(now))
        .fetch_optional(&mut **tx)
        .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let mut task = read(&row)?;
        let lease: i64 = row.try_get("lease")?;
        let taken = task.begin(Timestamp::from_unix(now));
        let due = if taken { now + self.visibility } else { now };
        write(tx, &task, due, lease).await?;
        Ok(Some(taken.then(|| Lease {
            task,
            receipt: (lease + 1).to_string(),
        })))
    }
}

impl TaskQueue for SqliteTasks {
    fn push<'a>(&'a self, task: &'a Task) -> BoxFuture<'a, Result<bool, QueueError>> {
        let work = self.database.transaction(async move |tx| {
            let done = sqlx::query(
                "INSERT INTO tasks (id, priority, state, due_at, lease, body) \
                 VALUES ($1, $2, $3, $4, 0, $5) ON CONFLICT (id) DO NOTHING",
            )
            .bind(&task.id)
            .bind(task.priority.as_str())
            .bind(task.state.as_str())
            .bind(millis(self.wall.now()))
            .bind(body(task)?)
            .execute(&mut **tx)
            .await?;
            Ok(done.rows_affected() == 1)
        });
        Box::pin(async move { work.await.map_err(failed) })
    }

    fn take(
        &self,
        priority: Priority,
        most: usize,
    ) -> BoxFuture<'_, Result<Vec<Lease>, QueueError>> {
        Box::pin(async move {
            // The common case is an idle queue: look before taking the write lock.
            let due = self.database.guard(async {
                let row = sqlx::query(
                    "SELECT 1 FROM tasks WHERE priority = $1 \
                     AND state IN ('queued', 'running') AND due_at <= $2 LIMIT 1",
                )
                .bind(priority.as_str())
                .bind(millis(self.wall.now()))
                .fetch_optional(self.database.read())
                .await?;
                Ok(row.is_some())
            });
            if !due.await.map_err(failed)? {
                return Ok(Vec::new());
            }
            let work = self.database.transaction(async move |tx| {
                let mut leases = Vec::new();
                while leases.len() < most {
                    match self.take_one(tx, priority).await? {
                        None => break,
                        Some(lease) => leases.extend(lease),
                    }
                }
                Ok(leases)
            });
            work.await.map_err(failed)
        })
    }

    fn extend<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<bool, QueueError>> {
        let work = self.database.transaction(async move |tx| {
            let done = sqlx::query(
                "UPDATE tasks SET due_at = $1 WHERE id = $2 AND lease = $3 AND state = 'running'",
            )
            .bind(millis(self.wall.now() + self.visibility))
            .bind(&lease.task.id)
            .bind(number(lease))
            .execute(&mut **tx)
            .await?;
            Ok(done.rows_affected() == 1)
        });
        Box::pin(async move { work.await.map_err(failed) })
    }

    fn settle<'a>(
        &'a self,
        lease: &'a Lease,
        task: &'a Task,
        delay: Duration,
    ) -> BoxFuture<'a, Result<bool, QueueError>> {
        let work = self.database.transaction(async move |tx| {
            let now = self.wall.now();
            let due = match task.state {
                State::Queued => now + delay,
                _ => now,
            };
            write(tx, task, due, number(lease)).await
        });
        Box::pin(async move { work.await.map_err(failed) })
    }

    fn find<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Task>, QueueError>> {
        let work = self.database.guard(async move {
            let row = sqlx::query("SELECT body FROM tasks WHERE id = $1")
                .bind(id)
                .fetch_optional(self.database.read())
                .await?;
            row.as_ref().map(read).transpose()
        });
        Box::pin(async move { work.await.map_err(failed) })
    }

    fn dead(&self, most: usize) -> BoxFuture<'_, Result<Vec<Task>, QueueError>> {
        let work = self.database.guard(async move {
            let rows = sqlx::query(
                "SELECT body FROM tasks WHERE state = 'dead' ORDER BY due_at, id LIMIT $1",
            )
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_all(self.database.read())
            .await?;
            rows.iter().map(read).collect()
        });
        Box::pin(async move { work.await.map_err(failed) })
    }

    fn requeue<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Task>, QueueError>> {
        let work = self.database.transaction(async move |tx| {
            let row = sqlx::query("SELECT body, lease FROM tasks WHERE id = $1")
                .bind(id)
                .fetch_optional(&mut **tx)
                .await?;
            let Some(row) = row else { return Ok(None) };
            let (mut task, now) = (read(&row)?, self.wall.now());
            if !task.revive(Timestamp::from_unix(now)) {
                return Ok(None);
            }
            write(tx, &task, now, row.try_get("lease")?).await?;
            Ok(Some(task))
        });
        Box::pin(async move { work.await.map_err(failed) })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Backlog, QueueError>> {
        let work = self.database.guard(async move {
            let rows = sqlx::query(
                "SELECT priority, COUNT(*) AS n FROM tasks \
                 WHERE state IN ('queued', 'running') GROUP BY priority",
            )
            .fetch_all(self.database.read())
            .await?;
            let mut depth = Backlog::default();
            for row in rows {
                let name: String = row.try_get("priority")?;
                let count: i64 = row.try_get("n")?;
                if let Some(p) = Priority::ALL.into_iter().find(|p| p.as_str() == name) {
                    depth[p as usize] = u64::try_from(count).unwrap_or(0);
                }
            }
            Ok(depth)
        });
        Box::pin(async move { work.await.map_err(failed) })
    }

    fn retain(&self) -> BoxFuture<'_, Result<u64, QueueError>> {
        let work = self.database.transaction(async move |tx| {
            let done = sqlx::query("DELETE FROM tasks WHERE state = 'done' AND due_at <= $1")
                .bind(millis(self.wall.now().saturating_sub(self.keep)))
                .execute(&mut **tx)
                .await?;
            Ok(done.rows_affected())
        });
        Box::pin(async move { work.await.map_err(failed) })
    }
}

/// Keeps `task` in the place of what has that lease, and ends the lease.
async fn write(
    tx: &mut Transaction<'_, Sqlite>,
    task: &Task,
    due: Duration,
    lease: i64,
) -> Result<bool, Failure> {
    let done = sqlx::query(
        "UPDATE tasks SET state = $1, due_at = $2, lease = lease + 1, body = $3 \
         WHERE id = $4 AND lease = $5",
    )
    .bind(task.state.as_str())
    .bind(millis(due))
    .bind(body(task)?)
    .bind(&task.id)
    .bind(lease)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// 0 is that of no lease.
fn number(lease: &Lease) -> i64 {
    lease.receipt.parse().unwrap_or(0)
}

fn body(task: &Task) -> Result<String, Failure> {
    serde_json::to_string(task).map_err(|error| Failure::Corrupt(error.to_string()))
}

fn read(row: &SqliteRow) -> Result<Task, Failure> {
    let body: String = row.try_get("body")?;
    serde_json::from_str(&body).map_err(|error| Failure::Corrupt(format!("task: {error}")))
}

fn failed(error: StoreError) -> QueueError {
    QueueError {
        reason: error.to_string(),
    }
}
