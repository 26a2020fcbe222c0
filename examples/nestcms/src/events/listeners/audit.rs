//! The audit log: append-only, each entry chained to the one before by its hash.
//!
//! ```text
//! hash(n) = SHA-256( seq(n) "\n" hash(n-1) "\n" entry(n) ),  hash(0) = 64 zeros
//! ```
//!
//! Whoever alters an entry must rewrite all later ones. Cutting off the newest entries
//! leaves a chain that is whole: keep [`AuditLog::head`] elsewhere to notice that.

use std::sync::Arc;

use futures_util::{TryStreamExt, future::BoxFuture};
use sha2::{Digest, Sha256};
use sqlx::SqlitePool;
use tokio::sync::Mutex;

use crate::{
    domain::event::{Event, EventData},
    events::{Listener, ListenerError},
};

/// Appends to the audit log and verifies it. Clones share the log.
#[derive(Clone, Debug)]
pub struct AuditLog {
    pool: SqlitePool,
    /// One append at a time: each needs the hash of the one before. Two processes on one
    /// database are kept apart by the primary key: one of them gets an error.
    appending: Arc<Mutex<()>>,
}

/// The outcome of a verification.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Chain {
    /// Every entry is as it was written.
    Intact {
        /// How many there are.
        entries: i64,
    },
    /// This entry is the first that is missing or not as it was written.
    Broken {
        /// Its number, counted from 1.
        seq: i64,
    },
}

/// The audit log could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The store failed.
    #[error("audit log: {0}")]
    Store(#[from] sqlx::Error),
    /// The event has no JSON form.
    #[error("audit log: {0}")]
    Form(#[from] serde_json::Error),
}

impl AuditLog {
    /// The log in `pool`, whose migrations have run.
    #[must_use]
    pub fn new(pool: SqlitePool) -> Self {
        Self {
            pool,
            appending: Arc::default(),
        }
    }

    /// Appends `event`; an event that is there already is left alone.
    ///
    /// # Errors
    ///
    /// When the store fails; nothing is appended then.
    pub async fn append(&self, event: &Event) -> Result<(), AuditError> {
        let entry = serde_json::to_string(event)?;
        let _one_at_a_time = self.appending.lock().await;
        let mut transaction = self.pool.begin().await?;
        let last: Option<(i64, String)> =
            sqlx::query_as("SELECT seq, hash FROM audit_log ORDER BY seq DESC LIMIT 1")
                .fetch_optional(&mut *transaction)
                .await?;
        let (before, previous) = last.unwrap_or_else(|| (0, START.to_owned()));
        let seq = before + 1;
        sqlx::query(
            "INSERT INTO audit_log (seq, event_id, entry, previous_hash, hash) \
             VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (event_id) DO NOTHING",
        )
        .bind(seq)
        .bind(&event.id)
        .bind(&entry)
        .bind(&previous)
        .bind(link(seq, &previous, &entry))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Walks the whole chain.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn verify(&self) -> Result<Chain, AuditError> {
        let mut rows = sqlx::query_as::<_, (i64, String, String, String)>(
            "SELECT seq, entry, previous_hash, hash FROM audit_log ORDER BY seq",
        )
        .fetch(&self.pool);
        let mut previous = START.to_owned();
        let mut entries = 0;
        while let Some((seq, entry, claimed, hash)) = rows.try_next().await? {
            let due = entries + 1;
            if seq != due {
                return Ok(Chain::Broken { seq: due });
            }
            if claimed != previous || hash != link(seq, &previous, &entry) {
                return Ok(Chain::Broken { seq });
            }
            previous = hash;
            entries = seq;
        }
        Ok(Chain::Intact { entries })
    }

    /// Number and hash of the newest entry; 0 and zeros when there is none.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn head(&self) -> Result<(i64, String), AuditError> {
        let last = sqlx::query_as("SELECT seq, hash FROM audit_log ORDER BY seq DESC LIMIT 1")
            .fetch_optional(&self.pool)
            .await?;
        Ok(last.unwrap_or_else(|| (0, START.to_owned())))
    }
}

/// Puts failed payments and accepted webhooks into the audit log.
#[derive(Debug)]
pub struct Audit {
    log: AuditLog,
}

impl Audit {
    /// Appends to `log`.
    #[must_use]
    pub fn new(log: AuditLog) -> Self {
        Self { log }
    }
}

impl Listener for Audit {
    fn name(&self) -> &'static str {
        "audit"
    }

    fn wants(&self, data: &EventData) -> bool {
        matches!(
            data,
            EventData::PaymentFailed { .. } | EventData::WebhookValidated { .. }
        )
    }

    fn handle<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), ListenerError>> {
        Box::pin(async move { Ok(self.log.append(event).await?) })
    }
}

/// The hash of entry `seq`, in hex.
fn link(seq: i64, previous: &str, entry: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(format!("{seq}\n{previous}\n").as_bytes());
    hasher.update(entry.as_bytes());
    hasher
        .finalize()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// What the first entry is chained to.
const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";
