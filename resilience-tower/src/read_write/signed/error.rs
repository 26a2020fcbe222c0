//! Why a text is no token.

use std::time::Duration;

use resilience_core::route::TokenError;

/// Why a text is not read as a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Cut, garbled, or not the one form of it.
    #[error("not a signed token")]
    Malformed,
    /// Of another version of the form, as a later release may write it.
    #[error("a signed token of version {found}, not 1")]
    Version {
        /// Its version.
        found: u8,
    },
    /// Signed by a key that is not here any more, or not yet.
    #[error("a token signed by an unknown key")]
    UnknownKey,
    /// Not signed by the key that it names, or changed since.
    #[error("a token that was changed, or signed by another key")]
    Forged,
    /// Signed longer ago than `max_age`.
    #[error("a token signed {} s ago", age.as_secs())]
    Expired {
        /// How long ago.
        age: Duration,
    },
    /// Of another cluster.
    #[error("a token of another cluster ({cluster})")]
    Foreign {
        /// Its cluster.
        cluster: u64,
    },
    /// Signed as it should be, and of another family of engines.
    #[error("a token of another kind of store ({found})")]
    Kind {
        /// Its [`Position::KIND`](resilience_core::route::Position::KIND).
        found: u8,
    },
}

impl From<TokenError> for VerifyError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Version { found } => Self::Version { found },
            TokenError::Kind { found } => Self::Kind { found },
            _ => Self::Malformed,
        }
    }
}

impl VerifyError {
    /// Snake case name, as used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Version { .. } => "version",
            Self::UnknownKey => "unknown_key",
            Self::Forged => "forged",
            Self::Expired { .. } => "expired",
            Self::Foreign { .. } => "foreign",
            Self::Kind { .. } => "kind",
        }
    }
}
