//! What a listener may know about the payer behind a payment.

use std::{collections::HashMap, fmt::Debug, sync::Arc};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use sqlx::SqlitePool;

use crate::{domain::money::Currency, events::ListenerError};

/// The payer of one payment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Payer {
    /// Where a receipt goes, when the user is known here.
    pub email: Option<String>,
    /// The payment's currency.
    pub currency: Currency,
}

/// Looks payers up.
pub trait Payers: Debug + Send + Sync + 'static {
    /// The payer of `payment_id`; `None` for an unknown payment.
    fn payer<'a>(
        &'a self,
        payment_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<Payer>, ListenerError>>;
}

/// Reads the tables `payments` and `users`.
#[derive(Clone, Debug)]
pub struct SqlitePayers {
    pool: SqlitePool,
}

impl SqlitePayers {
    /// Reads through `pool`, whose migrations have run.
    #[must_use]
    pub fn new(pool: SqlitePool) -> Self {
        Self { pool }
    }
}

impl Payers for SqlitePayers {
    fn payer<'a>(
        &'a self,
        payment_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<Payer>, ListenerError>> {
        Box::pin(async move {
            let row: Option<(String, Option<String>)> = sqlx::query_as(
                "SELECT p.currency, u.email FROM payments p \
                 LEFT JOIN users u ON u.id = p.user_id WHERE p.id = ?1",
            )
            .bind(payment_id)
            .fetch_optional(&self.pool)
            .await?;
            let Some((code, email)) = row else {
                return Ok(None);
            };
            let currency = Currency::from_code(&code)
                .ok_or_else(|| format!("payment {payment_id} has the unknown currency {code}"))?;
            Ok(Some(Payer { email, currency }))
        })
    }
}

/// Payers in memory, for tests.
#[derive(Clone, Debug, Default)]
pub struct MemoryPayers {
    payers: Arc<Mutex<HashMap<String, Payer>>>,
}

impl MemoryPayers {
    /// Makes `payer` the payer of `payment_id`.
    pub fn insert(&self, payment_id: impl Into<String>, payer: Payer) {
        self.payers.lock().insert(payment_id.into(), payer);
    }
}

impl Payers for MemoryPayers {
    fn payer<'a>(
        &'a self,
        payment_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<Payer>, ListenerError>> {
        let payer = self.payers.lock().get(payment_id).cloned();
        Box::pin(std::future::ready(Ok(payer)))
    }
}
