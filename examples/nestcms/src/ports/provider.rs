//! The payment provider.

use std::{fmt::Debug, time::Duration};

use futures_util::future::BoxFuture;

use crate::domain::money::Money;

/// Makes payment pages, tells what became of them, gives money back.
pub trait PaymentProvider: Debug + Send + Sync {
    /// Asks for a payment page.
    fn create_page<'a>(
        &'a self,
        request: &'a PageRequest,
    ) -> BoxFuture<'a, Result<Page, ProviderError>>;

    /// Asks what became of a transaction.
    fn verify<'a>(
        &'a self,
        provider_ref: &'a str,
    ) -> BoxFuture<'a, Result<Verification, ProviderError>>;

    /// Gives the whole amount of a transaction back.
    fn refund<'a>(&'a self, request: &'a RefundRequest)
    -> BoxFuture<'a, Result<(), ProviderError>>;
}

/// What a payment page is asked for with.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// Our payment's id.
    pub payment_id: String,
    /// What the payer reads.
    pub description: String,
    /// What is to be paid.
    pub amount: Money,
}

/// A payment page.
#[derive(Clone, Debug)]
pub struct Page {
    /// The provider's transaction reference.
    pub provider_ref: String,
    /// Where the payer goes.
    pub url: String,
}

/// What a refund is asked for with.
#[derive(Clone, Debug)]
pub struct RefundRequest {
    /// Our payment's id.
    pub payment_id: String,
    /// The transaction to give back.
    pub provider_ref: String,
    /// What was paid.
    pub amount: Money,
}

/// The provider's answer to a verification.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Paid, not paid, or not known yet.
    pub verdict: Verdict,
    /// What was paid; `None` when the provider names an amount we cannot read.
    pub amount: Option<Money>,
    /// The provider's code.
    pub code: String,
    /// The provider's words.
    pub message: String,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The money is ours.
    Paid,
    /// It will not be paid.
    NotPaid,
    /// On hold or pending.
    Pending,
}

/// Why the provider did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// The breaker refused the call; the provider was not asked.
    #[error("circuit breaker {breaker} is open")]
    Unavailable {
        /// The breaker's name.
        breaker: String,
        /// When it is worth asking again.
        retry_after: Duration,
    },
    /// No answer in time; what the provider did is not known.
    #[error("no answer within {after:?}")]
    Timeout {
        /// The call timeout.
        after: Duration,
    },
    /// The provider is up and said no (HTTP 4xx).
    #[error("refused: {reason}")]
    Refused {
        /// Its reason.
        reason: String,
    },
    /// The provider is in trouble (HTTP 5xx, no connection, unreadable answer).
    #[error("failed: {reason}")]
    Failed {
        /// What happened, for the log.
        reason: String,
        /// When it is worth asking again.
        retry_after: Duration,
    },
}
