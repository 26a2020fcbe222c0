//! The outbox on PostgreSQL. Writers run side by side, and their numbers are drawn before they
//! commit: whoever remembers the last one he saw misses those that commit after it.

use std::time::Duration;

use futures_util::future::BoxFuture;
use resilience_tower::read_write::postgres::Transaction;
use tokio_postgres::{Row, types::ToSql};

use super::{
    PostgresStore,
    cluster::{Client, Failure},
    users::keep,
};
use crate::{
    adapters::{
        sqlite::rows::{millis, time},
        tables::outbox as sql,
    },
    domain::event::{Event, Timestamp},
    ports::{Attempt, DeadLetter, Depth, Effect, Entry, Failed, Inbox, Outbox, See, StoreError},
};

type Tx<'a> = Transaction<'a>;

/// Writes entries for `events` in the transaction of what they tell of.
pub(super) async fn put(tx: &Tx<'_>, events: &[Event]) -> Result<(), Failure> {
    for event in events {
        let entry = Entry::of(event).map_err(|error| Failure::Corrupt(error.to_string()))?;
        let values: [&(dyn ToSql + Sync); 8] = [
            &entry.message_id,
            &entry.event_id,
            &entry.kind,
            &entry.key,
            &entry.payload,
            &entry.correlation_id,
            &"[]",
            &millis(event.occurred_at.since_epoch()),
        ];
        tx.execute(sql::PUT, &values).await?;
    }
    Ok(())
}

/// Entries of transactions that were over when every older one was: what is not shown now cannot
/// come to stand before them. Of a key, a number that is shown waits for the lower ones: it was
/// drawn under the lock of the key's row, and its transaction may be the older one nevertheless.
const DUE: &str = "SELECT seq, message_id, event_id, kind, key, payload, correlation_id, history \
     FROM outbox o \
     WHERE sent_at IS NULL AND xid < pg_snapshot_xmin(pg_current_snapshot()) \
     AND (SELECT b.seq FROM outbox b WHERE b.key = o.key AND b.sent_at IS NULL \
          AND (b.retry_at > $1 \
               OR (b.seq < o.seq AND b.xid >= pg_snapshot_xmin(pg_current_snapshot()))) \
          LIMIT 1) IS NULL \
     ORDER BY seq LIMIT $2";

impl Outbox for PostgresStore {
    fn lead<'a>(
        &'a self,
        holder: &'a str,
        now: Duration,
        until: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let done = transaction!(self.postgres, |tx| lead(&tx, holder, now, until));
            Ok(done.await?.0)
        })
    }

    fn due(&self, now: Duration, limit: u32) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        let due = move |client: Client| async move {
            let (now, limit) = (millis(now), i64::from(limit));
            let rows = client.query(DUE, &[&now, &limit]).await?;
            rows.iter().map(entry).collect()
        };
        Box::pin(self.postgres.read(&See::Newest, due))
    }

    fn sent<'a>(
        &'a self,
        entries: &'a [i64],
        now: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let done = transaction!(self.postgres, |tx| sent(&tx, entries, now));
            done.await.map(|((), _)| ())
        })
    }

    fn put_off<'a>(
        &'a self,
        entry: &'a Entry,
        retry_at: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let done = transaction!(self.postgres, |tx| put_off(&tx, entry, retry_at));
            done.await.map(|((), _)| ())
        })
    }

    fn bury<'a>(
        &'a self,
        entry: &'a Entry,
        now: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let done = transaction!(self.postgres, |tx| take_and_bury(&tx, entry, now));
            done.await.map(|((), _)| ())
        })
    }

    fn sweep(&self, before: Duration, limit: u32) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let look = move |client: Client| async move {
                let sql = "SELECT 1 FROM outbox WHERE sent_at < $1 LIMIT 1";
                Ok(client.query_opt(sql, &[&millis(before)]).await?.is_some())
            };
            if !self.postgres.read(&See::Newest, look).await? {
                return Ok(0);
            }
            let done = transaction!(self.postgres, |tx| sweep(&tx, before, limit));
            Ok(done.await?.0)
        })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, StoreError>> {
        let depth = move |client: Client| async move {
            let row = client.query_one(sql::DEPTH, &[]).await?;
            let (waiting, oldest, dead): (i64, Option<i64>, i64) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(Depth {
                waiting: u64::try_from(waiting).unwrap_or(0),
                oldest: oldest.map(time),
                dead: u64::try_from(dead).unwrap_or(0),
            })
        };
        Box::pin(self.postgres.read(&See::Newest, depth))
    }

    fn dead_letters(&self, limit: u32) -> BoxFuture<'_, Result<Vec<DeadLetter>, StoreError>> {
        let list = move |client: Client| async move {
            let rows = client.query(sql::DEAD, &[&i64::from(limit)]).await?;
            rows.iter().map(dead_letter).collect()
        };
        Box::pin(self.postgres.read(&See::Newest, list))
    }

    fn dead_letter<'a>(
        &'a self,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<DeadLetter>, StoreError>> {
        let find = move |client: Client| async move {
            let row = client.query_opt(sql::DEAD_ONE, &[&id]).await?;
            row.as_ref().map(dead_letter).transpose()
        };
        Box::pin(self.postgres.read(&See::Newest, find))
    }

    fn replay<'a>(&'a self, id: &'a str, now: Duration) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let done = transaction!(self.postgres, |tx| replay(&tx, id, now));
            Ok(done.await?.0)
        })
    }
}

impl Inbox for PostgresStore {
    fn apply<'a>(
        &'a self,
        consumer: &'a str,
        effects: &'a [(String, Effect)],
        now: Duration,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let done = transaction!(self.postgres, |tx| apply(&tx, consumer, effects, now));
            Ok(done.await?.0)
        })
    }

    fn failed<'a>(
        &'a self,
        consumer: &'a str,
        event: &'a Entry,
        attempt: Attempt,
        tries: usize,
    ) -> BoxFuture<'a, Result<Failed, StoreError>> {
        Box::pin(async move {
            let attempt = &attempt;
            let done = transaction!(self.postgres, |tx| {
                failed(&tx, consumer, event, attempt, tries)
            });
            Ok(done.await?.0)
        })
    }

    fn recovered<'a>(
        &'a self,
        consumer: &'a str,
        event_id: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let done = transaction!(self.postgres, |tx| recovered(&tx, consumer, event_id));
            done.await.map(|((), _)| ())
        })
    }
}

async fn lead(tx: &Tx<'_>, holder: &str, now: Duration, until: Duration) -> Result<bool, Failure> {
    let values: [&(dyn ToSql + Sync); 3] = [&holder, &millis(until), &millis(now)];
    Ok(tx.execute(sql::LEAD, &values).await? == 1)
}

async fn sent(tx: &Tx<'_>, entries: &[i64], now: Duration) -> Result<(), Failure> {
    let update = "UPDATE outbox SET sent_at = $1 WHERE seq = ANY($2)";
    tx.execute(update, &[&millis(now), &entries]).await?;
    Ok(())
}

async fn put_off(tx: &Tx<'_>, entry: &Entry, retry_at: Duration) -> Result<(), Failure> {
    let history = sql::history_text(&entry.history).map_err(Failure::Corrupt)?;
    let values: [&(dyn ToSql + Sync); 3] = [&history, &millis(retry_at), &entry.seq];
    tx.execute(sql::PUT_OFF, &values).await?;
    Ok(())
}

async fn take_and_bury(tx: &Tx<'_>, entry: &Entry, now: Duration) -> Result<(), Failure> {
    if tx.execute(sql::TAKE, &[&entry.seq]).await? == 1 {
        bury(tx, &entry.event_id, sql::OUTBOX, entry, Some(now)).await?;
    }
    Ok(())
}

async fn sweep(tx: &Tx<'_>, before: Duration, limit: u32) -> Result<u64, Failure> {
    let values: [&(dyn ToSql + Sync); 2] = [&millis(before), &i64::from(limit)];
    Ok(tx.execute(sql::SWEEP, &values).await?)
}

async fn replay(tx: &Tx<'_>, id: &str, now: Duration) -> Result<bool, Failure> {
    let message_id = Timestamp::from_unix(now).new_id();
    let values: [&(dyn ToSql + Sync); 4] = [&id, &message_id, &"[]", &millis(now)];
    if tx.execute(sql::REPLAY, &values).await? == 0 {
        return Ok(false);
    }
    // Two who replay it at once: the second finds it gone, and takes its entry back.
    if tx.execute(sql::EXHUME, &[&id]).await? == 0 {
        let back = "DELETE FROM outbox WHERE message_id = $1";
        tx.execute(back, &[&message_id]).await?;
        return Ok(false);
    }
    Ok(true)
}

async fn apply(
    tx: &Tx<'_>,
    consumer: &str,
    effects: &[(String, Effect)],
    now: Duration,
) -> Result<u64, Failure> {
    let (mut new, now) = (0, millis(now));
    for (event_id, effect) in effects {
        let seen: [&(dyn ToSql + Sync); 3] = [&consumer, event_id, &now];
        if tx.execute(sql::SEEN, &seen).await? == 1 {
            have(tx, event_id, effect).await?;
            new += 1;
        }
    }
    Ok(new)
}

async fn failed(
    tx: &Tx<'_>,
    consumer: &str,
    event: &Entry,
    attempt: &Attempt,
    tries: usize,
) -> Result<Failed, Failure> {
    let id = sql::dead_id(consumer, &event.event_id);
    let mut entry = event.clone();
    if let Some(row) = tx.query_opt(sql::TRIES, &[&id]).await? {
        entry.history = history(&row, 0)?;
    }
    entry.history.push(attempt.clone());
    let dead = entry.history.len() >= tries;
    let died_at = dead.then_some(attempt.at.since_epoch());
    bury(tx, &id, consumer, &entry, died_at).await?;
    Ok(match dead {
        true => Failed::Dead,
        false => Failed::Again(entry.history.len()),
    })
}

async fn recovered(tx: &Tx<'_>, consumer: &str, event_id: &str) -> Result<(), Failure> {
    let id = sql::dead_id(consumer, event_id);
    tx.execute(sql::RECOVERED, &[&id]).await?;
    Ok(())
}

async fn bury(
    tx: &Tx<'_>,
    id: &str,
    source: &str,
    entry: &Entry,
    died_at: Option<Duration>,
) -> Result<(), Failure> {
    let history = sql::history_text(&entry.history).map_err(Failure::Corrupt)?;
    let values: [&(dyn ToSql + Sync); 9] = [
        &id,
        &source,
        &entry.event_id,
        &entry.kind,
        &entry.key,
        &entry.payload,
        &entry.correlation_id,
        &history,
        &died_at.map(millis),
    ];
    tx.execute(sql::BURY, &values).await?;
    Ok(())
}

async fn have(tx: &Tx<'_>, event_id: &str, effect: &Effect) -> Result<(), Failure> {
    match effect {
        Effect::Booking {
            payment_id,
            amount,
            at,
        } => {
            let (minor, code) = (amount.minor(), amount.currency().code());
            let at = millis(at.since_epoch());
            let values: [&(dyn ToSql + Sync); 5] = [&event_id, payment_id, &minor, &code, &at];
            tx.execute(sql::BOOK, &values).await?;
        }
        Effect::Message(message) => keep(tx, message).await?,
    }
    Ok(())
}

/// A row of [`DUE`].
fn entry(row: &Row) -> Result<Entry, Failure> {
    Ok(Entry {
        seq: row.try_get(0)?,
        message_id: row.try_get(1)?,
        event_id: row.try_get(2)?,
        kind: row.try_get(3)?,
        key: row.try_get(4)?,
        payload: row.try_get(5)?,
        correlation_id: row.try_get(6)?,
        history: history(row, 7)?,
    })
}

/// A row of `dead_letters`.
fn dead_letter(row: &Row) -> Result<DeadLetter, Failure> {
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

fn history(row: &Row, column: usize) -> Result<Vec<Attempt>, Failure> {
    let text: &str = row.try_get(column)?;
    sql::history(text).map_err(Failure::Corrupt)
}
