//! Why an operation on content failed.

use crate::ports::StoreError;

/// Why an operation on content failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such record, or it is not for the caller.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// Something that must be unique is taken.
    #[error("such a {0} is there already")]
    Taken(&'static str),
    /// It names a record that is not there.
    #[error("the {0} names something that is not there")]
    Unrelated(&'static str),
    /// Somebody else changed it meanwhile.
    #[error("the record has version {0} by now")]
    Stale(i64),
    /// Too many calls wait for the same answer, or the one that was asked ended early.
    #[error("too many calls at once: {0}")]
    Busy(String),
    /// The store did not do what it was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}
