//! Read/write split: each call goes to the right node of a replicated store.
//!
//! The rules are those of [`resilience_core::route`].

mod node;

pub use resilience_core::route::{
    Config, ConfigBuilder, ConfigError, Disposition, Failure, Fork, Freshness, Intent, NoRoute,
    Observation, Position, Reason, Role, Token, Why,
};

pub use self::node::Node;
