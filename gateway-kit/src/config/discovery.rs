//! Endpoints that are not in the configuration itself.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::balance::{EndpointConfig, check_endpoints};
use super::check::{self, Place, TIME, bounds};

/// `discovery`: where further endpoints come from. An address that several sources know is taken
/// from the first: the configuration, then DNS, then the file, then the API.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct DiscoveryConfig {
    /// Names to resolve, each to all of its addresses, which get its weight, priority and zone.
    pub dns: Vec<EndpointConfig>,
    /// A file with `endpoints = […]` as in the configuration; JSON if its name ends so, else TOML.
    pub file: Option<PathBuf>,
    /// How often names are resolved and the file is read; default 10 s.
    #[serde(with = "super::Human")]
    pub interval: Duration,
    /// Whether endpoints may be registered at run time; default false.
    pub api: bool,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self {
            dns: Vec::new(),
            file: None,
            interval: Duration::from_secs(10),
            api: false,
        }
    }
}

impl DiscoveryConfig {
    pub(super) fn check(&self, place: &mut Place<'_>) {
        place.bounds(self);
        if self.dns.is_empty() && self.file.is_none() && !self.api {
            place
                .at("dns")
                .refuse("is missing; name at least one of dns, file and api = true");
        }
        check_endpoints(&self.dns, "dns", place);
    }
}

bounds! {
    DiscoveryConfig {
        interval: TIME,
    }
}

/// What a file of endpoints holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointList {
    endpoints: Vec<EndpointConfig>,
}

impl EndpointList {
    /// Reads and checks a list; the error is one line.
    pub(crate) fn parse(text: &str, json: bool) -> Result<Vec<EndpointConfig>, String> {
        let list: Self = match json {
            true => serde_json::from_str(text).map_err(|error| error.to_string())?,
            false => toml::from_str(text).map_err(|error| error.message().to_owned())?,
        };
        check::good(|top| check_endpoints(&list.endpoints, "endpoints", top))
            .map_err(|error| error.to_string().replace('\n', "; "))?;
        Ok(list.endpoints)
    }
}
