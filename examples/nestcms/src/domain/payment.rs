//! The payment and its state machine.
//!
//! ```text
//! created ──▶ initiated ──▶ processing ──▶ succeeded ──▶ refunded
//!    │            │              └───────▶ failed
//!    └────────────┴──▶ timed_out | cancelled
//! ```

use std::{fmt, time::Duration};

use crate::domain::money::Money;

/// The state of a payment.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Status {
    /// Stored, nobody was asked to pay yet.
    Created,
    /// The provider made a payment page.
    Initiated,
    /// A callback came, its verification is under way.
    Processing,
    /// Verified as paid.
    Succeeded,
    /// Verified as not paid, or not what was agreed.
    Failed,
    /// Not paid before it expired.
    TimedOut,
    /// Called off before it was paid.
    Cancelled,
    /// Paid and given back.
    Refunded,
}

/// One payment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Payment {
    /// The payment's id, a UUID.
    pub id: String,
    /// The user who made it.
    pub user_id: String,
    /// The client's own reference.
    pub order_ref: String,
    /// What is to be paid.
    pub amount: Money,
    /// How it is to be paid, for example `card`.
    pub method: String,
    /// Its state.
    pub status: Status,
    /// The key under which the client may repeat its create call.
    pub idempotency_key: String,
    /// The provider's transaction reference, once initiated.
    pub provider_ref: Option<String>,
    /// The provider's payment page, once initiated.
    pub payment_url: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
    /// When it was made, since the Unix epoch.
    pub created_at: Duration,
    /// When it last changed, since the Unix epoch.
    pub updated_at: Duration,
    /// When it times out unless a callback came, since the Unix epoch.
    pub expires_at: Duration,
    /// Goes up by one with each change.
    pub version: i64,
}

/// A change of state that the state machine does not have.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a payment that is {from} cannot become {to}")]
pub struct InvalidTransition {
    /// The state the payment is in.
    pub from: Status,
    /// The state that was asked for.
    pub to: Status,
}

impl Status {
    /// All states, in the order of a payment's life.
    pub const ALL: [Self; 8] = [
        Self::Created,
        Self::Initiated,
        Self::Processing,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Cancelled,
        Self::Refunded,
    ];

    /// The name used on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Initiated => "initiated",
            Self::Processing => "processing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Refunded => "refunded",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }

    /// Whether the state machine has this change.
    ///
    /// # Errors
    ///
    /// [`InvalidTransition`] when it has not.
    pub const fn check(self, to: Self) -> Result<(), InvalidTransition> {
        match (self, to) {
            (Self::Created, Self::Initiated)
            | (Self::Initiated, Self::Processing)
            | (Self::Processing, Self::Succeeded | Self::Failed)
            | (Self::Created | Self::Initiated, Self::TimedOut | Self::Cancelled)
            | (Self::Succeeded, Self::Refunded) => Ok(()),
            _ => Err(InvalidTransition { from: self, to }),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_machine_has_exactly_the_listed_changes() {
        let mut allowed = Vec::new();
        for from in Status::ALL {
            for to in Status::ALL {
                match from.check(to) {
                    Ok(()) => allowed.push(format!("{from}>{to}")),
                    Err(e) => assert_eq!((e.from, e.to), (from, to)),
                }
            }
        }
        assert_eq!(
            allowed.join(" "),
            "created>initiated created>timed_out created>cancelled initiated>processing \
             initiated>timed_out initiated>cancelled processing>succeeded processing>failed \
             succeeded>refunded"
        );
    }

    #[test]
    fn a_state_survives_its_own_name() {
        for status in Status::ALL {
            assert_eq!(Status::from_name(status.as_str()), Some(status));
        }
    }
}
