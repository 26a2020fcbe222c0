//! Where the audit log is kept.

use std::fmt::Debug;

use futures_util::future::BoxFuture;

use crate::ports::StoreError;

/// One entry, chained to the one before.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuditEntry {
    /// Its number, counted from 1.
    pub seq: i64,
    /// The event that it is about.
    pub event_id: String,
    /// The event as JSON.
    pub entry: String,
    /// The hash of the entry before.
    pub previous_hash: String,
    /// Its own.
    pub hash: String,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Appended {
    /// It is in.
    Done,
    /// An entry about its event was there before; nothing changed.
    Known,
    /// Another entry has its number; nothing changed.
    Taken,
}

/// Keeps entries; nothing here changes or removes one.
pub trait AuditStore: Debug + Send + Sync {
    /// Number and hash of the newest entry; `None` if there is none.
    fn head(&self) -> BoxFuture<'_, Result<Option<(i64, String)>, StoreError>>;

    /// Adds `entry`, unless its event or its number is there.
    fn append<'a>(&'a self, entry: &'a AuditEntry) -> BoxFuture<'a, Result<Appended, StoreError>>;

    /// Up to `limit` entries after number `after`, by number.
    fn page(&self, after: i64, limit: u32) -> BoxFuture<'_, Result<Vec<AuditEntry>, StoreError>>;
}
