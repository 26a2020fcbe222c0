//! `[reload]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{TIME, bounds};

/// `[reload]`: how changes of the configuration's file, and of the files it names, are noticed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ReloadConfig {
    /// How often the files are read; default 1 s. A change is taken once two looks in a row have
    /// found the same.
    #[serde(with = "super::Human")]
    pub interval: Duration,
}

impl Default for ReloadConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
        }
    }
}

bounds! {
    ReloadConfig {
        interval: TIME,
    }
}
