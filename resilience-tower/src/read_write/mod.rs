//! Read/write split: each call goes to the right node of a replicated store.
//!
//! The rules are those of [`resilience_core::route`].

mod buffer;
mod builder;
mod checkout;
mod cluster;
mod error;
mod future;
mod lease;
#[cfg(feature = "mariadb")]
pub mod mariadb;
mod member;
mod node;
mod poll;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "http")]
mod refusal;
mod search;
mod shared;
mod signed;
mod stats;

use resilience_core::route::Request;
pub use resilience_core::route::{
    Change, Config, ConfigBuilder, ConfigError, Disposition, Event, Failure, Fork, Freshness,
    Intent, NoRoute, Observation, Position, Reason, Role, Token, Why,
};

#[cfg(feature = "http")]
pub use self::refusal::{Refuse, problem, status};
#[cfg(feature = "http")]
pub use self::signed::{NameError, TokenCookie, TokenHeader};
pub use self::{
    builder::Builder,
    checkout::{Checkout, ReadFreshness},
    cluster::{Cluster, StillRunning},
    error::{Error, Refusal},
    future::ResponseFuture,
    lease::Lease,
    node::Node,
    signed::{Signer, SigningKey, SigningKeyError, VerifyError},
    stats::{NodeFigures, Snapshot},
};
