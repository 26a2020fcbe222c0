use resilience_core::rate_limit::QuotaError;
use resilience_core::retry::ConfigError;

use crate::admission::Policy;

/// What is wrong with a description.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// It is no description: a field that is not known, a text for a number, …
    #[error("{path}: {message}")]
    #[cfg(feature = "serde")]
    Unreadable {
        /// The field.
        path: String,
        /// What the format says.
        message: String,
    },
    /// A setting out of its range.
    #[error("{path} is {value}, allowed: {allowed}")]
    Setting {
        /// The field, such as `retry.backoff.cap`.
        path: String,
        /// The value it was given.
        value: String,
        /// The values it may have.
        allowed: String,
    },
    /// Two policies in an order that does not work.
    #[error("order has {outer} outside of {inner}: {reason}")]
    Order {
        /// The one named first.
        outer: Policy,
        /// The one named after it.
        inner: Policy,
        /// What goes wrong.
        reason: &'static str,
    },
    /// A policy that does not work without another.
    #[error("order has {policy} and no {needed}: {reason}")]
    Missing {
        /// The one that is there.
        policy: Policy,
        /// The one that is not.
        needed: Policy,
        /// What goes wrong.
        reason: &'static str,
    },
    /// A policy that has no place in a stack.
    #[error("order has {policy}, which stands around a stack or within it, as a layer of its own")]
    NoPlace {
        /// The policy.
        policy: Policy,
    },
    /// Settings of a policy that is not in the order.
    #[error("{policy} has settings, and is not in the order")]
    Unused {
        /// The policy.
        policy: Policy,
    },
}

impl DescriptionError {
    pub(in crate::stack) fn setting(
        path: &str,
        value: impl ToString,
        allowed: impl Into<String>,
    ) -> Self {
        Self::Setting {
            path: path.to_owned(),
            value: value.to_string(),
            allowed: allowed.into(),
        }
    }

    pub(super) fn config(section: &str, error: ConfigError) -> Self {
        Self::Setting {
            path: format!("{section}.{}", error.field),
            value: error.value,
            allowed: error.allowed,
        }
    }

    pub(super) fn quota(section: Policy, error: QuotaError) -> Self {
        Self::Setting {
            path: format!("{section}.{}", error.field),
            value: error.value,
            allowed: error.allowed,
        }
    }
}
