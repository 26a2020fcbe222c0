//! The outbox on SQLite. There is one writer: the order of the entries is that of the commits.

use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::{Row, Sqlite, Transaction, sqlite::SqliteRow};

use super::{
    SqliteStore,
    database::Failure,
    rows::{millis, time},
};
use crate::{
    adapters::tables::outbox as sql,
    domain::event::{Event, Timestamp},
    events::Message,
    ports::{Attempt, DeadLetter, Depth, Effect, Entry, Failed, Inbox, Outbox, StoreError},
};

type Tx<'a> = Transaction<'a, Sqlite>;

/// Writes entries for `events` in the transaction of what they tell of.
pub(super) async fn put(tx: &mut Tx<'_>, events: &[Event]) -> Result<(), Failure> {
    for event in events {
        let entry = Entry::of(event).map_err(|error| Failure::Corrupt(error.to_string()))?;
        sqlx::query(sql::PUT)
            .bind(&entry.message_id)
            .bind(&entry.event_id)
            .bind(&entry.kind)
            .bind(&entry.key)
            .bind(&entry.payload)
            .bind(&entry.correlation_id)
            .bind("[]")
            .bind(millis(event.occurred_at.since_epoch()))
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

impl Outbox for SqliteStore {
    fn lead<'a>(
        &'a self,
        holder: &'a str,
        now: Duration,
        until: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.database.transaction(async move |tx| {
            let lead = sqlx::query(sql::LEAD);
            let lead = lead.bind(holder).bind(millis(until)).bind(millis(now));
            Ok(lead.execute(&mut **tx).await?.rows_affected() == 1)
        }))
    }

    fn due(&self, now: Duration, limit: u32) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        Box::pin(self.database.guard(async move {
            let rows = sqlx::query(
                "SELECT * FROM outbox o WHERE sent_at IS NULL AND NOT EXISTS \
                   (SELECT 1 FROM outbox b WHERE b.key = o.key AND b.sent_at IS NULL \
                    AND b.retry_at > $1) \
                 ORDER BY seq LIMIT $2",
            )
            .bind(millis(now))
            .bind(limit)
            .fetch_all(self.database.read())
            .await?;
            rows.iter().map(entry).collect()
        }))
    }

    fn sent<'a>(
        &'a self,
        entries: &'a [i64],
        now: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.database.transaction(async move |tx| {
            for seq in entries {
                sqlx::query("UPDATE outbox SET sent_at = $1 WHERE seq = $2")
                    .bind(millis(now))
                    .bind(seq)
                    .execute(&mut **tx)
                    .await?;
            }
            Ok(())
        }))
    }

    fn put_off<'a>(
        &'a self,
        entry: &'a Entry,
        retry_at: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.database.transaction(async move |tx| {
            let history = sql::history_text(&entry.history).map_err(Failure::Corrupt)?;
            let update = sqlx::query(sql::PUT_OFF).bind(history);
            let update = update.bind(millis(retry_at)).bind(entry.seq);
            update.execute(&mut **tx).await?;
            Ok(())
        }))
    }

    fn bury<'a>(
        &'a self,
        entry: &'a Entry,
        now: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.database.transaction(async move |tx| {
            let taken = sqlx::query(sql::TAKE).bind(entry.seq);
            if taken.execute(&mut **tx).await?.rows_affected() == 1 {
                bury(tx, &entry.event_id, sql::OUTBOX, entry, Some(now)).await?;
            }
            Ok(())
        }))
    }

    fn sweep(&self, before: Duration, limit: u32) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            // The common case is that there is nothing: look before taking the write lock.
            let any = self.database.guard(async {
                let row = sqlx::query("SELECT 1 FROM outbox WHERE sent_at < $1 LIMIT 1")
                    .bind(millis(before))
                    .fetch_optional(self.database.read())
                    .await?;
                Ok(row.is_some())
            });
            if !any.await? {
                return Ok(0);
            }
            self.database
                .transaction(async move |tx| {
                    let sweep = sqlx::query(sql::SWEEP).bind(millis(before)).bind(limit);
                    Ok(sweep.execute(&mut **tx).await?.rows_affected())
                })
                .await
        })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, StoreError>> {
        Box::pin(self.database.guard(async move {
            let row = sqlx::query(sql::DEPTH);
            let row = row.fetch_one(self.database.read()).await?;
            let (waiting, oldest, dead): (i64, Option<i64>, i64) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(Depth {
                waiting: u64::try_from(waiting).unwrap_or(0),
                oldest: oldest.map(time),
                dead: u64::try_from(dead).unwrap_or(0),
            })
        }))
    }

    fn dead_letters(&self, limit: u32) -> BoxFuture<'_, Result<Vec<DeadLetter>, StoreError>> {
        Box::pin(self.database.guard(async move {
            let rows = sqlx::query(sql::DEAD).bind(limit);
            let rows = rows.fetch_all(self.database.read()).await?;
            rows.iter().map(dead_letter).collect()
        }))
    }

    fn dead_letter<'a>(
        &'a self,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<DeadLetter>, StoreError>> {
        Box::pin(self.database.guard(async move {
            let row = sqlx::query(sql::DEAD_ONE).bind(id);
            let row = row.fetch_optional(self.database.read()).await?;
            row.as_ref().map(dead_letter).transpose()
        }))
    }

    fn replay<'a>(&'a self, id: &'a str, now: Duration) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.database.transaction(async move |tx| {
            let put = sqlx::query(sql::REPLAY).bind(id);
            let put = put.bind(Timestamp::from_unix(now).new_id());
            let put = put.bind("[]").bind(millis(now)).execute(&mut **tx).await?;
            if put.rows_affected() == 0 {
                return Ok(false);
            }
            sqlx::query(sql::EXHUME).bind(id).execute(&mut **tx).await?;
            Ok(true)
        }))
    }
}

impl Inbox for SqliteStore {
    fn apply<'a>(
        &'a self,
        consumer: &'a str,
        effects: &'a [(String, Effect)],
        now: Duration,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.database.transaction(async move |tx| {
            let mut new = 0;
            for (event_id, effect) in effects {
                let seen = sqlx::query(sql::SEEN).bind(consumer).bind(event_id);
                let seen = seen.bind(millis(now)).execute(&mut **tx).await?;
                if seen.rows_affected() == 1 {
                    have(tx, event_id, effect).await?;
                    new += 1;
                }
            }
            Ok(new)
        }))
    }

    fn failed<'a>(
        &'a self,
        consumer: &'a str,
        event: &'a Entry,
        attempt: Attempt,
        tries: usize,
    ) -> BoxFuture<'a, Result<Failed, StoreError>> {
        Box::pin(self.database.transaction(async move |tx| {
            let id = sql::dead_id(consumer, &event.event_id);
            let row = sqlx::query(sql::TRIES).bind(&id);
            let row = row.fetch_optional(&mut **tx).await?;
            let mut entry = event.clone();
            if let Some(row) = row {
                entry.history = history(&row, 0)?;
            }
            let now = attempt.at.since_epoch();
            entry.history.push(attempt);
            let dead = entry.history.len() >= tries;
            bury(tx, &id, consumer, &entry, dead.then_some(now)).await?;
            Ok(match dead {
                true => Failed::Dead,
                false => Failed::Again(entry.history.len()),
            })
        }))
    }

    fn recovered<'a>(
        &'a self,
        consumer: &'a str,
        event_id: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.database.transaction(async move |tx| {
            let id = sql::dead_id(consumer, event_id);
            sqlx::query(sql::RECOVERED)
                .bind(id)
                .execute(&mut **tx)
                .await?;
            Ok(())
        }))
    }
}

async fn bury(
    tx: &mut Tx<'_>,
    id: &str,
    source: &str,
    entry: &Entry,
    died_at: Option<Duration>,
) -> Result<(), Failure> {
    sqlx::query(sql::BURY)
        .bind(id)
        .bind(source)
        .bind(&entry.event_id)
        .bind(&entry.kind)
        .bind(&entry.key)
        .bind(&entry.payload)
        .bind(&entry.correlation_id)
        .bind(sql::history_text(&entry.history).map_err(Failure::Corrupt)?)
        .bind(died_at.map(millis))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn have(tx: &mut Tx<'_>, event_id: &str, effect: &Effect) -> Result<(), Failure> {
    match effect {
        Effect::Booking {
            payment_id,
            amount,
            at,
        } => {
            sqlx::query(sql::BOOK)
                .bind(event_id)
                .bind(payment_id)
                .bind(amount.minor())
                .bind(amount.currency().code())
                .bind(millis(at.since_epoch()))
                .execute(&mut **tx)
                .await?;
        }
        Effect::Message(message) => keep(tx, message).await?,
    }
    Ok(())
}

async fn keep(tx: &mut Tx<'_>, message: &Message) -> Result<(), Failure> {
    sqlx::query(sql::KEEP)
        .bind(&message.event_id)
        .bind(message.channel.as_str())
        .bind(&message.recipient)
        .bind(&message.subject)
        .bind(&message.body)
        .bind(&message.correlation_id)
        .bind(message.at.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A row of `outbox`.
fn entry(row: &SqliteRow) -> Result<Entry, Failure> {
    Ok(Entry {
        seq: row.try_get("seq")?,
        message_id: row.try_get("message_id")?,
        event_id: row.try_get("event_id")?,
        kind: row.try_get("kind")?,
        key: row.try_get("key")?,
        payload: row.try_get("payload")?,
        correlation_id: row.try_get("correlation_id")?,
        history: history(row, 7)?,
    })
}

/// A row of `dead_letters`.
fn dead_letter(row: &SqliteRow) -> Result<DeadLetter, Failure> {
    Ok(DeadLetter {
        id: row.try_get(0)?,
        source: row.try_get(1)?,
        event_id: row.try_get(2)?,
        kind: row.try_get(3)?,
        key: row.try_get(4)?,
        payload: row.try_get(5)?,
        correlation_id: row.try_get(6)?,
        history: history(row, 7)?,
        died_at: sql::timestamp(row.try_get(8)?),
    })
}

fn history(row: &SqliteRow, column: usize) -> Result<Vec<Attempt>, Failure> {
    let text: &str = row.try_get(column)?;
    sql::history(text).map_err(Failure::Corrupt)
}
