//! Why a payment operation failed.

use crate::{
    domain::payment::Status,
    ports::{ProviderError, StoreError},
};

/// Why a payment operation failed. No state was changed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such payment, or it is not the caller's.
    #[error("there is no such payment")]
    NotFound,
    /// The payment's state does not allow it.
    #[error("the payment is {status}; it must be {required}")]
    WrongState {
        /// The state it is in.
        status: Status,
        /// The state it would have to be in.
        required: Status,
    },
    /// The idempotency key was used for another payment.
    #[error("the idempotency key was used for a payment with other content")]
    KeyReused,
    /// The provider did not do what it was asked.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The store did not do what it was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}
