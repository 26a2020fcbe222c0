//! Read/write split: each call goes to the right node of a replicated store.
//!
//! The rules are those of [`resilience_core::route`].

mod node;
#[cfg(feature = "postgres")]
pub mod postgres;
mod signed;

pub use resilience_core::route::{
    Config, ConfigBuilder, ConfigError, Disposition, Failure, Fork, Freshness, Intent, NoRoute,
    Observation, Position, Reason, Role, Token, Why,
};

pub use self::node::Node;
#[cfg(feature = "http")]
pub use self::signed::{NameError, TokenCookie, TokenHeader};
pub use self::signed::{Signer, SigningKey, SigningKeyError, VerifyError};
