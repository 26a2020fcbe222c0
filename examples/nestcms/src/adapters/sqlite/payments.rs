//! The payment repository on SQLite.

use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::{Sqlite, Transaction};

use super::{
    database::{Database, Failure},
    outbox,
    rows::{millis, payment},
};
use crate::{
    domain::{
        event::Event,
        payment::{Payment, Status},
    },
    ports::{Applied, Created, Expired, JobKind, PaymentRepository, Settlement, StoreError},
};

/// Payments and jobs in SQLite.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    pub(super) database: Database,
}

impl SqliteStore {
    /// A store over `database`.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

impl PaymentRepository for SqliteStore {
    fn create<'a>(
        &'a self,
        new: &'a Payment,
        events: &'a [Event],
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(self.database.transaction(async |tx| {
            let inserted = insert(tx, new).await?;
            if inserted {
                outbox::put(tx, events).await?;
            }
            let row =
                sqlx::query("SELECT * FROM payments WHERE user_id = $1 AND idempotency_key = $2")
                    .bind(&new.user_id)
                    .bind(&new.idempotency_key)
                    .fetch_one(&mut **tx)
                    .await?;
            Ok(Created {
                payment: payment(&row)?,
                is_new: inserted,
            })
        }))
    }

    fn find<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Payment>, StoreError>> {
        Box::pin(self.database.guard(async move {
            let row = sqlx::query("SELECT * FROM payments WHERE id = $1")
                .bind(id)
                .fetch_optional(self.database.read())
                .await?;
            row.as_ref().map(payment).transpose()
        }))
    }

    fn find_by_provider_ref<'a>(
        &'a self,
        provider_ref: &'a str,
    ) -> BoxFuture<'a, Result<Option<Payment>, StoreError>> {
        Box::pin(self.database.guard(async move {
            let row = sqlx::query("SELECT * FROM payments WHERE provider_ref = $1")
                .bind(provider_ref)
                .fetch_optional(self.database.read())
                .await?;
            row.as_ref().map(payment).transpose()
        }))
    }

    fn list<'a>(
        &'a self,
        user_id: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Payment>, StoreError>> {
        Box::pin(self.database.guard(async move {
            let query = match user_id {
                Some(user) => sqlx::query(
                    "SELECT * FROM payments WHERE user_id = $2 \
                     ORDER BY created_at DESC, id DESC LIMIT $1",
                )
                .bind(limit)
                .bind(user),
                None => {
                    sqlx::query("SELECT * FROM payments ORDER BY created_at DESC, id DESC LIMIT $1")
                        .bind(limit)
                }
            };
            let rows = query.fetch_all(self.database.read()).await?;
            rows.iter().map(payment).collect()
        }))
    }

    fn initiate<'a>(
        &'a self,
        id: &'a str,
        provider_ref: &'a str,
        payment_url: &'a str,
        now: Duration,
    ) -> BoxFuture<'a, Result<Applied, StoreError>> {
        Box::pin(self.database.transaction(async move |tx| {
            let changed = sqlx::query(
                "UPDATE payments SET status = $1, provider_ref = $2, payment_url = $3, \
                 updated_at = $4, version = version + 1 \
                 WHERE id = $5 AND status = $6 RETURNING *",
            )
            .bind(Status::Initiated.as_str())
            .bind(provider_ref)
            .bind(payment_url)
            .bind(millis(now))
            .bind(id)
            .bind(Status::Created.as_str())
            .fetch_optional(&mut **tx)
            .await?;
            match changed {
                Some(row) => Ok(Applied::Done(Box::new(payment(&row)?))),
                None => why_not(tx, id).await,
            }
        }))
    }

    fn begin_processing<'a>(
        &'a self,
        id: &'a str,
        correlation_id: &'a str,
        verify_at: Duration,
        now: Duration,
    ) -> BoxFuture<'a, Result<Applied, StoreError>> {
        Box::pin(self.database.transaction(async move |tx| {
            let (from, to) = (Status::Initiated, Status::Processing);
            let Some(payment) = advance(tx, id, from, to, None, now).await? else {
                return why_not(tx, id).await;
            };
            put_verification(tx, id, correlation_id, verify_at).await?;
            Ok(Applied::Done(Box::new(payment)))
        }))
    }

    fn settle<'a>(
        &'a self,
        id: &'a str,
        settlement: &'a Settlement,
        now: Duration,
    ) -> BoxFuture<'a, Result<Applied, StoreError>> {
        Box::pin(self.database.transaction(async move |tx| {
            if let Some(delivery) = &settlement.delivery
                && is_recorded(tx, delivery).await?
            {
                return Ok(Applied::Duplicate);
            }
            let (from, reason) = (Status::Processing, settlement.reason.as_deref());
            let Some(payment) = advance(tx, id, from, settlement.to, reason, now).await? else {
                return why_not(tx, id).await;
            };
            if let Some(delivery) = &settlement.delivery {
                record_delivery(tx, delivery, id, now).await?;
            }
            sqlx::query("DELETE FROM jobs WHERE kind = $1 AND payment_id = $2")
                .bind(JobKind::Verify.as_str())
                .bind(id)
                .execute(&mut **tx)
                .await?;
            outbox::put(tx, &settlement.events).await?;
            Ok(Applied::Done(Box::new(payment)))
        }))
    }

    fn queue_refund<'a>(
        &'a self,
        id: &'a str,
        delivery: Option<&'a str>,
        correlation_id: &'a str,
        now: Duration,
    ) -> BoxFuture<'a, Result<Applied, StoreError>> {
        Box::pin(self.database.transaction(async move |tx| {
            if let Some(delivery) = delivery
                && is_recorded(tx, delivery).await?
            {
                return Ok(Applied::Duplicate);
            }
            let row = sqlx::query("SELECT * FROM payments WHERE id = $1")
                .bind(id)
                .fetch_optional(&mut **tx)
                .await?;
            let Some(row) = row else {
                return Ok(Applied::Missing);
            };
            let queued = sqlx::query(
                "INSERT INTO jobs (kind, payment_id, correlation_id, due_at, attempts, done) \
                 VALUES ($1, $2, $3, $4, 0, 0) ON CONFLICT (kind, payment_id) DO NOTHING",
            )
            .bind(JobKind::Refund.as_str())
            .bind(id)
            .bind(correlation_id)
            .bind(millis(now))
            .execute(&mut **tx)
            .await?;
            if queued.rows_affected() == 0 {
                return Ok(Applied::Duplicate);
            }
            if let Some(delivery) = delivery {
                record_delivery(tx, delivery, id, now).await?;
            }
            Ok(Applied::Done(Box::new(payment(&row)?)))
        }))
    }

    fn queue_verification<'a>(
        &'a self,
        id: &'a str,
        correlation_id: &'a str,
        at: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(
            self.database
                .transaction(async move |tx| put_verification(tx, id, correlation_id, at).await),
        )
    }

    fn expire(
        &self,
        now: Duration,
        limit: u32,
        tell: fn(&Payment, Status) -> Vec<Event>,
    ) -> BoxFuture<'_, Result<Vec<Expired>, StoreError>> {
        Box::pin(self.database.transaction(async move |tx| {
            let mut expired = Vec::new();
            for from in [Status::Created, Status::Initiated] {
                let rows = sqlx::query(
                    "UPDATE payments SET status = $1, updated_at = $2, version = version + 1 \
                     WHERE id IN (SELECT id FROM payments WHERE status = $3 AND expires_at <= $2 \
                                  ORDER BY expires_at LIMIT $4) RETURNING *",
                )
                .bind(Status::TimedOut.as_str())
                .bind(millis(now))
                .bind(from.as_str())
                .bind(limit)
                .fetch_all(&mut **tx)
                .await?;
                for row in &rows {
                    let payment = payment(row)?;
                    let events = tell(&payment, from);
                    outbox::put(tx, &events).await?;
                    expired.push(Expired { payment, events });
                }
            }
            Ok(expired)
        }))
    }
}

type Tx<'a> = Transaction<'a, Sqlite>;

/// Whether the row is new.
async fn insert(tx: &mut Tx<'_>, new: &Payment) -> Result<bool, Failure> {
    let done = sqlx::query(
        "INSERT INTO payments (id, user_id, order_ref, amount_minor, currency, method, status, \
         idempotency_key, created_at, updated_at, expires_at, version) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
         ON CONFLICT (user_id, idempotency_key) DO NOTHING",
    )
    .bind(&new.id)
    .bind(&new.user_id)
    .bind(&new.order_ref)
    .bind(new.amount.minor())
    .bind(new.amount.currency().code())
    .bind(&new.method)
    .bind(new.status.as_str())
    .bind(&new.idempotency_key)
    .bind(millis(new.created_at))
    .bind(millis(new.updated_at))
    .bind(millis(new.expires_at))
    .bind(new.version)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Changes the state if it is `from`; answers the changed payment.
async fn advance(
    tx: &mut Tx<'_>,
    id: &str,
    from: Status,
    to: Status,
    reason: Option<&str>,
    now: Duration,
) -> Result<Option<Payment>, Failure> {
    if let Err(invalid) = from.check(to) {
        return Err(Failure::Corrupt(invalid.to_string()));
    }
    let row = sqlx::query(
        "UPDATE payments SET status = $1, reason = $2, updated_at = $3, version = version + 1 \
         WHERE id = $4 AND status = $5 RETURNING *",
    )
    .bind(to.as_str())
    .bind(reason)
    .bind(millis(now))
    .bind(id)
    .bind(from.as_str())
    .fetch_optional(&mut **tx)
    .await?;
    row.as_ref().map(payment).transpose()
}

/// Why a change found no row to change.
async fn why_not(tx: &mut Tx<'_>, id: &str) -> Result<Applied, Failure> {
    let row = sqlx::query("SELECT * FROM payments WHERE id = $1")
        .bind(id)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(match row {
        Some(row) => Applied::Conflict(payment(&row)?.status),
        None => Applied::Missing,
    })
}

/// Whether the delivery had its effect before.
async fn is_recorded(tx: &mut Tx<'_>, delivery: &str) -> Result<bool, Failure> {
    let row = sqlx::query("SELECT 1 FROM webhook_deliveries WHERE delivery = $1")
        .bind(delivery)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.is_some())
}

/// Books a delivery; the primary key refuses a second booking and with it the effect.
async fn record_delivery(
    tx: &mut Tx<'_>,
    delivery: &str,
    payment_id: &str,
    now: Duration,
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO webhook_deliveries (delivery, payment_id, recorded_at) VALUES ($1, $2, $3)",
    )
    .bind(delivery)
    .bind(payment_id)
    .bind(millis(now))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn put_verification(
    tx: &mut Tx<'_>,
    id: &str,
    correlation_id: &str,
    at: Duration,
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO jobs (kind, payment_id, correlation_id, due_at, attempts, done) \
         VALUES ($1, $2, $3, $4, 0, 0) \
         ON CONFLICT (kind, payment_id) DO UPDATE SET due_at = excluded.due_at, done = 0",
    )
    .bind(JobKind::Verify.as_str())
    .bind(id)
    .bind(correlation_id)
    .bind(millis(at))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
