//! `[trace]` and `[access_log]`: what is told of single requests.

use serde::{Deserialize, Serialize};

use super::check::{SHARE, bounds};

/// `[trace]`: the trace of a request (W3C Trace Context). `false`: its fields are passed on as
/// they are.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct TraceConfig {
    /// Whose `traceparent` is believed; others begin a new trace. Default `all`.
    pub trust: TraceTrust,
    /// The share of new traces that are marked as sampled, 0 to 1; default 1.
    pub sample: f64,
}

/// Whose trace is continued.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TraceTrust {
    /// Everybody's.
    #[default]
    All,
    /// That of `trusted_proxies`.
    Proxies,
    /// Nobody's.
    None,
}

/// `[access_log]`: a line per request. `false`: none.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct AccessLogConfig {
    /// The share of requests that are written, 0 to 1; those that failed (status 5xx, broken
    /// off) always are. Default 1.
    pub sample: f64,
    /// Writes the path without its query as well, up to 256 bytes; default false: a path may name
    /// people.
    pub path: bool,
    /// Writes `User-Agent` as well, up to 256 bytes; default false.
    pub user_agent: bool,
    /// Writes what the gateway answers itself, health checks and metrics; default true.
    pub built_in: bool,
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self {
            trust: TraceTrust::All,
            sample: 1.0,
        }
    }
}

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self {
            sample: 1.0,
            path: false,
            user_agent: false,
            built_in: true,
        }
    }
}

bounds! {
    TraceConfig {
        sample: SHARE,
    }
}

bounds! {
    AccessLogConfig {
        sample: SHARE,
    }
}
