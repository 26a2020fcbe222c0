//! `ip_filter`.

use serde::{Deserialize, Serialize};

use super::Network;
use super::check::Place;

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
    pub(super) fn check(&self, place: &mut Place<'_>) {
        if self.allow.is_empty() && self.deny.is_empty() {
            place
                .at("ip_filter.allow")
                .refuse("is missing; name networks in allow, deny or both");
        }
    }
}
