//! Work that is done later, and survives a restart.

use std::{fmt::Debug, time::Duration};

use futures_util::future::BoxFuture;

use crate::ports::StoreError;

/// What a job does.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum JobKind {
    /// Ask the provider what became of a payment, and settle it.
    Verify,
    /// Give a late payment back.
    Refund,
}

/// One queued job. There is at most one of each kind per payment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Job {
    /// What to do.
    pub kind: JobKind,
    /// For which payment.
    pub payment_id: String,
    /// The correlation id of the request that queued it.
    pub correlation_id: String,
    /// Runs so far.
    pub attempts: i64,
}

/// The queue; jobs are put in by the repository, in the transaction that needs them.
pub trait JobQueue: Debug + Send + Sync {
    /// Takes up to `limit` jobs that are due at `now` and makes them due again at
    /// `lease_until`, so that a worker that dies leaves its job to the next.
    fn claim_due(
        &self,
        now: Duration,
        lease_until: Duration,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Job>, StoreError>>;

    /// Removes a finished job; a job that is gone is fine.
    fn finish<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Makes a job due at `at`.
    fn reschedule<'a>(
        &'a self,
        job: &'a Job,
        at: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// How many jobs are queued, due or not.
    fn queued(&self, kind: JobKind) -> BoxFuture<'_, Result<u64, StoreError>>;
}

impl JobKind {
    /// The name in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Refund => "refund",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Verify, Self::Refund]
            .into_iter()
            .find(|k| k.as_str() == name)
    }
}
