//! The payment repository on PostgreSQL.

use std::time::Duration;

use futures_util::future::BoxFuture;
use resilience_tower::read_write::postgres::Transaction;
use tokio_postgres::Row;

use super::{
    cluster::{Client, Failure, Postgres},
    outbox,
};
use crate::{
    adapters::sqlite::rows::{millis, time},
    domain::{
        event::Event,
        money::{Currency, Money},
        payment::{Payment, Status},
    },
    ports::{Applied, Created, Expired, JobKind, PaymentRepository, See, Settlement, StoreError},
};

/// Payments and jobs in PostgreSQL.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    pub(super) postgres: Postgres,
}

impl PostgresStore {
    /// A store over `postgres`.
    #[must_use]
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }

    async fn one(&self, sql: &str, value: &str) -> Result<Option<Payment>, StoreError> {
        let find = move |client: Client| async move {
            let row = client.query_opt(sql, &[&value]).await?;
            row.as_ref().map(payment).transpose()
        };
        self.postgres.read(&See::Newest, find).await
    }
}

impl PaymentRepository for PostgresStore {
    fn create<'a>(
        &'a self,
        new: &'a Payment,
        events: &'a [Event],
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(async move {
            let done = transaction!(self.postgres, |tx| create(&tx, new, events));
            Ok(done.await?.0)
        })
    }

    fn find<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Payment>, StoreError>> {
        Box::pin(self.one("SELECT * FROM payments WHERE id = $1", id))
    }

    fn find_by_provider_ref<'a>(
        &'a self,
        provider_ref: &'a str,
    ) -> BoxFuture<'a, Result<Option<Payment>, StoreError>> {
        let sql = "SELECT * FROM payments WHERE provider_ref = $1";
        Box::pin(self.one(sql, provider_ref))
    }

    fn list<'a>(
        &'a self,
        user_id: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Payment>, StoreError>> {
        Box::pin(
            self.postgres
                .read(&See::Any, move |client: Client| async move {
                    let limit = i64::from(limit);
                    let rows = match user_id {
                        Some(user) => {
                            let sql = "SELECT * FROM payments WHERE user_id = $2 \
                               ORDER BY created_at DESC, id DESC LIMIT $1";
                            client.query(sql, &[&limit, &user]).await?
                        }
                        None => {
                            let sql =
                                "SELECT * FROM payments ORDER BY created_at DESC, id DESC LIMIT $1";
                            client.query(sql, &[&limit]).await?
                        }
                    };
                    rows.iter().map(payment).collect()
                }),
        )
    }

    fn initiate<'a>(
        &'a self,
        id: &'a str,
        provider_ref: &'a str,
        payment_url: &'a str,
        now: Duration,
    ) -> BoxFuture<'a, Result<Applied, StoreError>> {
        Box::pin(async move {
            let done = transaction!(self.postgres, |tx| initiate(
                &tx,
                id,
                provider_ref,
                payment_url,
                now
            ));
            Ok(done.await?.0)
        })
    }

    fn begin_processing<'a>(
        &'a self,
        id: &'a str,
        correlation_id: &'a str,
        verify_at: Duration,
        now: Duration,
    ) -> BoxFuture<'a, Result<Applied, StoreError>> {
        Box::pin(async move {
            let done = transaction!(self.postgres, |tx| begin_processing(
                &tx,
                id,
                correlation_id,
                verify_at,
                now
            ));
            Ok(done.await?.0)
        })
    }

    fn settle<'a>(
        &'a self,
        id: &'a str,
        settlement: &'a Settlement,
        now: Duration,
    ) -> BoxFuture<'a, Result<Applied, StoreError>> {
        Box::pin(async move {
            let done = transaction!(self.postgres, |tx| settle(&tx, id, settlement, now));
            Ok(done.await?.0)
        })
    }

    fn queue_refund<'a>(
        &'a self,
        id: &'a str,
        delivery: Option<&'a str>,
        correlation_id: &'a str,
        now: Duration,
    ) -> BoxFuture<'a, Result<Applied, StoreError>> {
        Box::pin(async move {
            let done = transaction!(self.postgres, |tx| queue_refund(
                &tx,
                id,
                delivery,
                correlation_id,
                now
            ));
            Ok(done.await?.0)
        })
    }

    fn queue_verification<'a>(
        &'a self,
        id: &'a str,
        correlation_id: &'a str,
        at: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let done = transaction!(self.postgres, |tx| {
                put_verification(&tx, id, correlation_id, at)
            });
            done.await.map(|((), _)| ())
        })
    }

    fn expire(
        &self,
        now: Duration,
        limit: u32,
        tell: fn(&Payment, Status) -> Vec<Event>,
    ) -> BoxFuture<'_, Result<Vec<Expired>, StoreError>> {
        Box::pin(async move {
            let done = transaction!(self.postgres, |tx| expire(&tx, now, limit, tell));
            Ok(done.await?.0)
        })
    }
}

type Tx<'a> = Transaction<'a>;

async fn create(tx: &Tx<'_>, new: &Payment, events: &[Event]) -> Result<Created, Failure> {
    let inserted = insert(tx, new).await?;
    if inserted {
        outbox::put(tx, events).await?;
    }
    let row = tx
        .query_one(
            "SELECT * FROM payments WHERE user_id = $1 AND idempotency_key = $2",
            &[&new.user_id, &new.idempotency_key],
        )
        .await?;
    Ok(Created {
        payment: payment(&row)?,
        is_new: inserted,
    })
}

async fn initiate(
    tx: &Tx<'_>,
    id: &str,
    provider_ref: &str,
    payment_url: &str,
    now: Duration,
) -> Result<Applied, Failure> {
    let changed = tx
        .query_opt(
            "UPDATE payments SET status = $1, provider_ref = $2, payment_url = $3, \
         updated_at = $4, version = version + 1 \
         WHERE id = $5 AND status = $6 RETURNING *",
            &[
                &Status::Initiated.as_str(),
                &provider_ref,
                &payment_url,
                &millis(now),
                &id,
                &Status::Created.as_str(),
            ],
        )
        .await?;
    match changed {
        Some(row) => Ok(Applied::Done(Box::new(payment(&row)?))),
        None => why_not(tx, id).await,
    }
}

async fn begin_processing(
    tx: &Tx<'_>,
    id: &str,
    correlation_id: &str,
    verify_at: Duration,
    now: Duration,
) -> Result<Applied, Failure> {
    let (from, to) = (Status::Initiated, Status::Processing);
    let Some(payment) = advance(tx, id, from, to, None, now).await? else {
        return why_not(tx, id).await;
    };
    put_verification(tx, id, correlation_id, verify_at).await?;
    Ok(Applied::Done(Box::new(payment)))
}

async fn settle(
    tx: &Tx<'_>,
    id: &str,
    settlement: &Settlement,
    now: Duration,
) -> Result<Applied, Failure> {
    if let Some(delivery) = &settlement.delivery
        && is_recorded(tx, delivery).await?
    {
        return Ok(Applied::Duplicate);
    }
    let (from, reason) = (Status::Processing, settlement.reason.as_deref());
    let Some(payment) = advance(tx, id, from, settlement.to, reason, now).await? else {
        // The same delivery may have been under way, and the row was waited for.
        if let Some(delivery) = &settlement.delivery
            && is_recorded(tx, delivery).await?
        {
            return Ok(Applied::Duplicate);
        }
        return why_not(tx, id).await;
    };
    if let Some(delivery) = &settlement.delivery {
        record_delivery(tx, delivery, id, now).await?;
    }
    tx.execute(
        "DELETE FROM jobs WHERE kind = $1 AND payment_id = $2",
        &[&JobKind::Verify.as_str(), &id],
    )
    .await?;
    outbox::put(tx, &settlement.events).await?;
    Ok(Applied::Done(Box::new(payment)))
}

async fn queue_refund(
    tx: &Tx<'_>,
    id: &str,
    delivery: Option<&str>,
    correlation_id: &str,
    now: Duration,
) -> Result<Applied, Failure> {
    if let Some(delivery) = delivery
        && is_recorded(tx, delivery).await?
    {
        return Ok(Applied::Duplicate);
    }
    let row = tx
        .query_opt("SELECT * FROM payments WHERE id = $1", &[&id])
        .await?;
    let Some(row) = row else {
        return Ok(Applied::Missing);
    };
    let queued = tx
        .execute(
            "INSERT INTO jobs (kind, payment_id, correlation_id, due_at, attempts, done) \
         VALUES ($1, $2, $3, $4, 0, 0) ON CONFLICT (kind, payment_id) DO NOTHING",
            &[
                &JobKind::Refund.as_str(),
                &id,
                &correlation_id,
                &millis(now),
            ],
        )
        .await?;
    if queued == 0 {
        return Ok(Applied::Duplicate);
    }
    if let Some(delivery) = delivery {
        record_delivery(tx, delivery, id, now).await?;
    }
    Ok(Applied::Done(Box::new(payment(&row)?)))
}

async fn expire(
    tx: &Tx<'_>,
    now: Duration,
    limit: u32,
    tell: fn(&Payment, Status) -> Vec<Event>,
) -> Result<Vec<Expired>, Failure> {
    let mut expired = Vec::new();
    let limit = i64::from(limit);
    for from in [Status::Created, Status::Initiated] {
        let rows = tx
            .query(
                "UPDATE payments SET status = $1, updated_at = $2, version = version + 1 \
             WHERE id IN (SELECT id FROM payments WHERE status = $3 AND expires_at <= $2 \
                          ORDER BY expires_at LIMIT $4 FOR UPDATE SKIP LOCKED) RETURNING *",
                &[
                    &Status::TimedOut.as_str(),
                    &millis(now),
                    &from.as_str(),
                    &limit,
                ],
            )
            .await?;
        for row in &rows {
            let payment = payment(row)?;
            let events = tell(&payment, from);
            outbox::put(tx, &events).await?;
            expired.push(Expired { payment, events });
        }
    }
    Ok(expired)
}

/// Whether the row is new.
async fn insert(tx: &Tx<'_>, new: &Payment) -> Result<bool, Failure> {
    let done = tx
        .execute(
            "INSERT INTO payments (id, user_id, order_ref, amount_minor, currency, method, status, \
         idempotency_key, created_at, updated_at, expires_at, version) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
         ON CONFLICT (user_id, idempotency_key) DO NOTHING",
            &[
                &new.id,
                &new.user_id,
                &new.order_ref,
                &new.amount.minor(),
                &new.amount.currency().code(),
                &new.method,
                &new.status.as_str(),
                &new.idempotency_key,
                &millis(new.created_at),
                &millis(new.updated_at),
                &millis(new.expires_at),
                &new.version,
            ],
        )
        .await?;
    Ok(done == 1)
}

/// Changes the state if it is `from`; answers the changed payment.
async fn advance(
    tx: &Tx<'_>,
    id: &str,
    from: Status,
    to: Status,
    reason: Option<&str>,
    now: Duration,
) -> Result<Option<Payment>, Failure> {
    if let Err(invalid) = from.check(to) {
        return Err(Failure::Corrupt(invalid.to_string()));
    }
    let row = tx
        .query_opt(
            "UPDATE payments SET status = $1, reason = $2, updated_at = $3, version = version + 1 \
         WHERE id = $4 AND status = $5 RETURNING *",
            &[&to.as_str(), &reason, &millis(now), &id, &from.as_str()],
        )
        .await?;
    row.as_ref().map(payment).transpose()
}

/// Why a change found no row to change.
async fn why_not(tx: &Tx<'_>, id: &str) -> Result<Applied, Failure> {
    let row = tx
        .query_opt("SELECT * FROM payments WHERE id = $1", &[&id])
        .await?;
    Ok(match row {
        Some(row) => Applied::Conflict(payment(&row)?.status),
        None => Applied::Missing,
    })
}

/// Whether the delivery had its effect before.
async fn is_recorded(tx: &Tx<'_>, delivery: &str) -> Result<bool, Failure> {
    let row = tx
        .query_opt(
            "SELECT 1 FROM webhook_deliveries WHERE delivery = $1",
            &[&delivery],
        )
        .await?;
    Ok(row.is_some())
}

/// Books a delivery; the primary key refuses a second booking and with it the effect.
async fn record_delivery(
    tx: &Tx<'_>,
    delivery: &str,
    payment_id: &str,
    now: Duration,
) -> Result<(), Failure> {
    tx.execute(
        "INSERT INTO webhook_deliveries (delivery, payment_id, recorded_at) VALUES ($1, $2, $3)",
        &[&delivery, &payment_id, &millis(now)],
    )
    .await?;
    Ok(())
}

async fn put_verification(
    tx: &Tx<'_>,
    id: &str,
    correlation_id: &str,
    at: Duration,
) -> Result<(), Failure> {
    tx.execute(
        "INSERT INTO jobs (kind, payment_id, correlation_id, due_at, attempts, done) \
         VALUES ($1, $2, $3, $4, 0, 0) \
         ON CONFLICT (kind, payment_id) DO UPDATE SET due_at = excluded.due_at, done = 0",
        &[&JobKind::Verify.as_str(), &id, &correlation_id, &millis(at)],
    )
    .await?;
    Ok(())
}

/// A row of `payments`.
fn payment(row: &Row) -> Result<Payment, Failure> {
    let id: String = row.try_get("id")?;
    let corrupt = |what: &str| Failure::Corrupt(format!("payment {id}: {what}"));
    let currency =
        Currency::from_code(row.try_get("currency")?).ok_or_else(|| corrupt("unknown currency"))?;
    Ok(Payment {
        amount: Money::from_minor(row.try_get("amount_minor")?, currency)
            .ok_or_else(|| corrupt("amount out of range"))?,
        status: Status::from_name(row.try_get("status")?)
            .ok_or_else(|| corrupt("unknown status"))?,
        user_id: row.try_get("user_id")?,
        order_ref: row.try_get("order_ref")?,
        method: row.try_get("method")?,
        idempotency_key: row.try_get("idempotency_key")?,
        provider_ref: row.try_get("provider_ref")?,
        payment_url: row.try_get("payment_url")?,
        reason: row.try_get("reason")?,
        created_at: time(row.try_get("created_at")?),
        updated_at: time(row.try_get("updated_at")?),
        expires_at: time(row.try_get("expires_at")?),
        version: row.try_get("version")?,
        id,
    })
}
