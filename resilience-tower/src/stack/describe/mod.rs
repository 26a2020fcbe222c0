//! A stack as data.

mod check;
mod error;
mod settings;

pub(super) use self::check::Checked;
pub use self::error::DescriptionError;
pub use self::settings::{AttemptTimeout, Backoff, Budget, Deadline, Quota, Retry};

use resilience_core::{adaptive, breaker, bulkhead, hedge};

use crate::admission::Policy;

/// A stack as it stands in a file: which policies, in which order, with which settings.
///
/// `order` names the policies outside in. A section holds the settings of the policy of its name;
/// what it leaves out is at its default. `rate_limit`, `deadline`, `upstream_quota` and
/// `attempt_timeout` have none, and must be said; the other sections may be left out. A section of a
/// policy that is not in the order is an error, as is any field that is not known.
///
/// Nothing is checked but by [`Stack::from_description`](super::Stack::from_description) and
/// [`Handle::apply`](super::Handle::apply).
///
/// # Examples
///
/// In TOML, read by `toml::from_str` (feature `serde`); JSON has the same form:
///
/// ```toml
/// name = "payments"
/// order = ["deadline", "retry", "breaker", "bulkhead", "attempt_timeout"]
///
/// [deadline]
/// total = "3s"
///
/// [retry]
/// max_attempts = 4
/// backoff = { base = "100ms", cap = "1s" }
/// budget = { share = 0.1 }
///
/// [breaker]
/// failure_rate = 0.3
///
/// [attempt_timeout]
/// after = "800ms"
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct Description {
    /// The name, in refusals and metrics.
    pub name: String,
    /// The policies, outside in.
    pub order: Vec<Policy>,
    /// How many calls in a time, whoever makes them.
    #[cfg_attr(feature = "serde", serde(default))]
    pub rate_limit: Option<Quota>,
    /// The time of the call in all.
    #[cfg_attr(feature = "serde", serde(default))]
    pub deadline: Option<Deadline>,
    /// How often, when, and how many in all.
    #[cfg_attr(feature = "serde", serde(default))]
    pub retry: Option<Retry>,
    /// When an attempt gets another one beside it.
    #[cfg_attr(feature = "serde", serde(default))]
    pub hedge: Option<hedge::ConfigBuilder>,
    /// When no calls are made to an upstream that fails.
    #[cfg_attr(feature = "serde", serde(default))]
    pub breaker: Option<breaker::ConfigBuilder>,
    /// How many calls at once; with a `max_queue` others wait, for `max_wait` at most.
    #[cfg_attr(feature = "serde", serde(default))]
    pub bulkhead: Option<bulkhead::ConfigBuilder>,
    /// As many calls at once as the upstream bears.
    #[cfg_attr(feature = "serde", serde(default))]
    pub adaptive: Option<adaptive::ConfigBuilder>,
    /// How many attempts in a time the upstream allows.
    #[cfg_attr(feature = "serde", serde(default))]
    pub upstream_quota: Option<Quota>,
    /// The time of one attempt.
    #[cfg_attr(feature = "serde", serde(default))]
    pub attempt_timeout: Option<AttemptTimeout>,
}

impl Description {
    /// A stack of these policies, outside in.
    pub fn new(name: impl Into<String>, order: impl Into<Vec<Policy>>) -> Self {
        Self {
            name: name.into(),
            order: order.into(),
            ..Self::default()
        }
    }

    /// Reads a description. What is no description is told with the path of the field, such as
    /// `retry.backoff.base`, whatever the format; the formats' own errors may tell line and column
    /// instead.
    ///
    /// # Errors
    ///
    /// [`DescriptionError::Unreadable`].
    #[cfg(feature = "serde")]
    pub fn read<'de>(
        deserializer: impl serde::Deserializer<'de, Error: std::fmt::Display>,
    ) -> Result<Self, DescriptionError> {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            DescriptionError::Unreadable {
                path: error.path().to_string(),
                message: error.inner().to_string().trim_end().to_owned(),
            }
        })
    }
}
