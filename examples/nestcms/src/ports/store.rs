//! The payment repository.

use std::{fmt::Debug, time::Duration};

use futures_util::future::BoxFuture;

use crate::domain::{
    event::Event,
    payment::{Payment, Status},
};

/// Keeps payments. Each change is one transaction, checked against the state in the
/// store, so that of two racing changes one is applied and the other told so. What it tells goes
/// into the outbox in the same transaction.
pub trait PaymentRepository: Debug + Send + Sync {
    /// Stores a new payment, unless its user has one under the same idempotency key, and `events`
    /// with it.
    fn create<'a>(
        &'a self,
        payment: &'a Payment,
        events: &'a [Event],
    ) -> BoxFuture<'a, Result<Created, StoreError>>;

    /// The payment of that id.
    fn find<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Payment>, StoreError>>;

    /// The payment of that provider reference.
    fn find_by_provider_ref<'a>(
        &'a self,
        provider_ref: &'a str,
    ) -> BoxFuture<'a, Result<Option<Payment>, StoreError>>;

    /// The newest payments, of one user or of all.
    fn list<'a>(
        &'a self,
        user_id: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Payment>, StoreError>>;

    /// created → initiated.
    fn initiate<'a>(
        &'a self,
        id: &'a str,
        provider_ref: &'a str,
        payment_url: &'a str,
        now: Duration,
    ) -> BoxFuture<'a, Result<Applied, StoreError>>;

    /// initiated → processing, with a verification job due at `verify_at` in the same
    /// transaction: from here on a crash cannot lose the payment.
    fn begin_processing<'a>(
        &'a self,
        id: &'a str,
        correlation_id: &'a str,
        verify_at: Duration,
        now: Duration,
    ) -> BoxFuture<'a, Result<Applied, StoreError>>;

    /// processing → succeeded or failed; books the delivery and ends the verification
    /// job in the same transaction.
    fn settle<'a>(
        &'a self,
        id: &'a str,
        settlement: &'a Settlement,
        now: Duration,
    ) -> BoxFuture<'a, Result<Applied, StoreError>>;

    /// Books a payment that came too late: queues the refund, once per payment.
    fn queue_refund<'a>(
        &'a self,
        id: &'a str,
        delivery: Option<&'a str>,
        correlation_id: &'a str,
        now: Duration,
    ) -> BoxFuture<'a, Result<Applied, StoreError>>;

    /// Queues a verification due at `at`, or moves the one that is queued.
    fn queue_verification<'a>(
        &'a self,
        id: &'a str,
        correlation_id: &'a str,
        at: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// created and initiated payments past their time → timed out; answers those that
    /// this call changed, with the events that `tell` makes of each and of its state before.
    fn expire(
        &self,
        now: Duration,
        limit: u32,
        tell: fn(&Payment, Status) -> Vec<Event>,
    ) -> BoxFuture<'_, Result<Vec<Expired>, StoreError>>;
}

/// What became of a create.
#[derive(Clone, Debug)]
pub struct Created {
    /// The stored payment: the new one, or the earlier one of that key.
    pub payment: Payment,
    /// Whether it is new.
    pub is_new: bool,
}

/// What became of a change.
#[derive(Clone, Debug)]
pub enum Applied {
    /// Done; the payment as it is now.
    Done(Box<Payment>),
    /// This delivery had its effect before; nothing changed.
    Duplicate,
    /// The payment is in a state that does not allow it; nothing changed.
    Conflict(Status),
    /// There is no such payment.
    Missing,
}

/// How a payment ends.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// [`Status::Succeeded`] or [`Status::Failed`].
    pub to: Status,
    /// Why it failed.
    pub reason: Option<String>,
    /// The delivery that caused it; has its effect once.
    pub delivery: Option<String>,
    /// What is told of it.
    pub events: Vec<Event>,
}

/// A payment that timed out just now.
#[derive(Clone, Debug)]
pub struct Expired {
    /// The payment as it is now.
    pub payment: Payment,
    /// What is told of it.
    pub events: Vec<Event>,
}

/// Why the store did not do what it was asked. Nothing was changed, but by
/// [`Unknown`](Self::Unknown).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Locked, full, unreachable, or refused by its breaker: worth trying again.
    #[error("the database is not available: {reason}")]
    Unavailable {
        /// What happened, for the log.
        reason: String,
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// Nobody takes writes at the moment.
    #[error("the database has no primary")]
    NoPrimary {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// The write was sent, and its answer lost: it may have been done or not.
    #[error("nobody knows whether the database did it: {reason}")]
    Unknown {
        /// What happened, for the log.
        reason: String,
    },
    /// The write that a read has to see was acknowledged, and is lost.
    #[error("the database lost an acknowledged write: {reason}")]
    Lost {
        /// What happened, for the log.
        reason: String,
    },
    /// The mark of a read is not one of this store.
    #[error("not a mark of this database: {reason}")]
    BadMark {
        /// What is wrong with it, for the log.
        reason: String,
    },
    /// A row that cannot be read as what it should be.
    #[error("the database holds an unreadable row: {reason}")]
    Corrupt {
        /// Which, for the log.
        reason: String,
    },
}
