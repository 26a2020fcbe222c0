//! The audit log: append-only, each entry chained to the one before by its hash.
//!
//! ```text
//! hash(n) = SHA-256( seq(n) "\n" hash(n-1) "\n" entry(n) ),  hash(0) = 64 zeros
//! ```
//!
//! Whoever alters an entry must rewrite all later ones. Cutting off the newest entries
//! leaves a chain that is whole: keep [`AuditLog::head`] elsewhere to notice that.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::{
    domain::event::{Event, EventData},
    events::{Listener, ListenerError},
    ports::{Appended, AuditEntry, AuditStore, StoreError},
};

/// Appends to the audit log and verifies it. Clones share the log.
#[derive(Clone, Debug)]
pub struct AuditLog {
    store: Arc<dyn AuditStore>,
    /// One append at a time: each needs the hash of the one before. Of two processes that append at
    /// once one finds its number taken, and tries the next.
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
    Store(#[from] StoreError),
    /// The event has no JSON form.
    #[error("audit log: {0}")]
    Form(#[from] serde_json::Error),
}

impl AuditLog {
    /// The log in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn AuditStore>) -> Self {
        Self {
            store,
            appending: Arc::default(),
        }
    }

    /// Appends `event`; an event that is there already is left alone.
    ///
    /// # Errors
    ///
    /// When the store fails; nothing is appended then, or nobody knows.
    pub async fn append(&self, event: &Event) -> Result<(), AuditError> {
        let text = serde_json::to_string(event)?;
        let _one_at_a_time = self.appending.lock().await;
        loop {
            let (before, previous_hash) = self.head().await?;
            let seq = before + 1;
            let entry = AuditEntry {
                seq,
                event_id: event.id.clone(),
                hash: link(seq, &previous_hash, &text),
                entry: text.clone(),
                previous_hash,
            };
            match self.store.append(&entry).await? {
                Appended::Done | Appended::Known => return Ok(()),
                Appended::Taken => {}
            }
        }
    }

    /// Walks the whole chain.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn verify(&self) -> Result<Chain, AuditError> {
        let (mut entries, mut previous) = (0, START.to_owned());
        loop {
            let page = self.store.page(entries, PAGE).await?;
            if page.is_empty() {
                return Ok(Chain::Intact { entries });
            }
            for entry in page {
                let due = entries + 1;
                if entry.seq != due {
                    return Ok(Chain::Broken { seq: due });
                }
                let hash = link(due, &previous, &entry.entry);
                if entry.previous_hash != previous || entry.hash != hash {
                    return Ok(Chain::Broken { seq: due });
                }
                (entries, previous) = (due, hash);
            }
        }
    }

    /// Number and hash of the newest entry; 0 and zeros when there is none.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn head(&self) -> Result<(i64, String), AuditError> {
        let head = self.store.head().await?;
        Ok(head.unwrap_or_else(|| (0, START.to_owned())))
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
/// Entries that are read at once; some hundred bytes each.
const PAGE: u32 = 100;
