//! Rows to values.

use std::time::Duration;

use sqlx::{Row, sqlite::SqliteRow};

use super::database::Failure;
use crate::domain::{
    money::{Currency, Money},
    payment::{Payment, Status},
};

/// The columns of a payment, in the order that `payment` reads by name.
pub(super) fn payment(row: &SqliteRow) -> Result<Payment, Failure> {
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

/// Milliseconds of the store, as a time since the epoch.
pub(in crate::adapters) fn time(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// A time since the epoch, as milliseconds of the store.
pub(in crate::adapters) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
