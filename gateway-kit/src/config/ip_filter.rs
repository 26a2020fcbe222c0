//! `ip_filter`.

use serde::{Deserialize, Serialize};

use super::{ConfigError, Network};

/// `ip_filter`: whose requests are refused with 403, by the client's address as far as it is
/// believed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct IpFilterConfig {
    /// Only these; default all.
    pub allow: Vec<Network>,
    /// Not these, also where `allow` has them; default none.
    pub deny: Vec<Network>,
}

impl IpFilterConfig {
    pub(super) fn check(&self, field: impl Fn(&str) -> String) -> Result<(), ConfigError> {
        if self.allow.is_empty() && self.deny.is_empty() {
            return Err(ConfigError::new(
                field("ip_filter.allow"),
                "is missing; name networks in allow, deny or both",
            ));
        }
        Ok(())
    }
}
