//! A payment as the API shows it and the cache keeps it.

use serde::{Deserialize, Serialize};

use crate::domain::{event::Timestamp, payment::Payment};

/// A payment as the API shows it and the cache keeps it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PaymentView {
    /// The payment's id.
    pub id: String,
    /// Its state.
    pub status: String,
    /// Decimal amount.
    pub amount: String,
    /// ISO 4217 code.
    pub currency: String,
    /// The client's own reference.
    pub order_ref: String,
    /// Who made it.
    pub user_id: String,
    /// How it is to be paid.
    pub method: String,
    /// The provider's reference, once initiated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_ref: Option<String>,
    /// Where to pay, once initiated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_url: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it times out.
    pub expires_at: Timestamp,
    /// Goes up with each change.
    pub version: i64,
}

impl From<&Payment> for PaymentView {
    fn from(payment: &Payment) -> Self {
        Self {
            id: payment.id.clone(),
            status: payment.status.to_string(),
            amount: payment.amount.to_string(),
            currency: payment.amount.currency().to_string(),
            order_ref: payment.order_ref.clone(),
            user_id: payment.user_id.clone(),
            method: payment.method.clone(),
            provider_ref: payment.provider_ref.clone(),
            payment_url: payment.payment_url.clone(),
            reason: payment.reason.clone(),
            created_at: Timestamp::from_unix(payment.created_at),
            updated_at: Timestamp::from_unix(payment.updated_at),
            expires_at: Timestamp::from_unix(payment.expires_at),
            version: payment.version,
        }
    }
}
