//! Promotions, counted in a table.

use std::sync::Arc;

use resilience_core::route::{Fork, GtidSet};

use super::error::Error;

/// A table with a row per promotion, which is replicated with the data: a node is of the epoch of the
/// newest row it has.
///
/// | column | is |
/// |---|---|
/// | `epoch` | the number of the promotion |
/// | `began` | the `@@gtid_binlog_state` of the node before it wrote anything in that epoch |
///
/// Rows may be deleted from the oldest on. Tokens of epochs before the oldest row but one are then
/// lost writes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Epochs {
    table: Box<str>,
}

impl Epochs {
    /// In this table, as `failover.epochs`.
    ///
    /// # Errors
    ///
    /// Not one or two names of letters, digits and `_` with a point in between.
    pub fn new(table: &str) -> Result<Self, Error> {
        let plain = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        match table.split('.').count() <= 2 && table.split('.').all(plain) {
            true => Ok(Self {
                table: table.into(),
            }),
            false => Err(Error::Table),
        }
    }

    /// The statement that makes the table, once, on the primary.
    pub fn create(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (epoch BIGINT UNSIGNED NOT NULL PRIMARY KEY, began TEXT NOT NULL) ENGINE=InnoDB",
            self.table
        )
    }

    /// The statements that begin the next epoch, on the node that is promoted: once it has stopped to
    /// follow, and before it takes writes.
    pub fn begin(&self) -> String {
        // By a variable of the user, whose value is replicated in every format of the binary log.
        format!(
            "SET @began = @@GLOBAL.gtid_binlog_state; INSERT INTO {0} SELECT COALESCE(MAX(epoch), 0) + 1, @began FROM {0}",
            self.table
        )
    }

    pub(super) fn rows(&self) -> String {
        format!("SELECT epoch, began FROM {} ORDER BY epoch", self.table)
    }

    pub(super) fn newest(&self) -> String {
        format!("(SELECT COALESCE(MAX(epoch), 0) FROM {})", self.table)
    }
}

/// What the rows of the table say.
pub(super) fn history(rows: &[(u64, String)]) -> Result<Arc<[Fork<GtidSet>]>, Error> {
    let mut before = 0;
    let mut forks = Vec::with_capacity(rows.len());
    for (epoch, began) in rows {
        let position = GtidSet::state(began)?;
        // Where an epoch began, the one before it ended.
        if *epoch > before {
            forks.push(Fork {
                epoch: before,
                position,
            });
        }
        before = *epoch;
    }
    Ok(forks.into())
}
