//! Active health checks of an upstream.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use http::uri::PathAndQuery;
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

use super::check::{Bounds, Place, TIME, bounds};

/// `health`: a GET to each endpoint, again and again, on the connections that requests use.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct HealthConfig {
    /// The path, which may have a query; default `/health`.
    pub path: ProbePath,
    /// The `Host`; default the endpoint's.
    pub host: Option<ProbeHost>,
    /// The time between two checks; default 5 s.
    #[serde(with = "super::Human")]
    pub interval: Duration,
    /// How far each wait is off the interval at random, as a share of it, so that checks do not
    /// come all at once; 0 to 0.5, default 0.1.
    pub jitter: f64,
    /// The longest wait for the answer, connection included; default 2 s.
    #[serde(with = "super::Human")]
    pub timeout: Duration,
    /// Status codes of a healthy endpoint, numbers or ranges; default `["200-299"]`.
    pub statuses: Vec<StatusRange>,
    /// Good checks in a row that make an unhealthy endpoint healthy; default 2.
    pub healthy: u32,
    /// Bad checks in a row that make a healthy endpoint unhealthy; default 3.
    pub unhealthy: u32,
    /// What an endpoint is before its first check; default `healthy`.
    pub initial: InitialHealth,
}

/// What an endpoint is before its first check.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum InitialHealth {
    /// It gets requests at once.
    #[default]
    Healthy,
    /// It gets requests after its first good check.
    Unhealthy,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            path: ProbePath(PathAndQuery::from_static("/health")),
            host: None,
            interval: Duration::from_secs(5),
            jitter: 0.1,
            timeout: Duration::from_secs(2),
            statuses: vec![StatusRange(200, 299)],
            healthy: 2,
            unhealthy: 3,
            initial: InitialHealth::default(),
        }
    }
}

impl HealthConfig {
    /// Whether an answer of this status is that of a healthy endpoint.
    pub fn is_good(&self, status: StatusCode) -> bool {
        let status = status.as_u16();
        let mut ranges = self.statuses.iter();
        ranges.any(|range| (range.0..=range.1).contains(&status))
    }

    pub(super) fn check(&self, place: &mut Place<'_>) {
        place.bounds(self);
        if self.statuses.is_empty() {
            place.at("statuses").refuse("needs at least one status");
        }
    }
}

bounds! {
    HealthConfig {
        interval: TIME,
        jitter: Bounds::real(0.0, 0.5),
        timeout: TIME,
        healthy: Bounds::whole(1, 1000),
        unhealthy: Bounds::whole(1, 1000),
    }
}

/// The path of a check, with or without a query.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct ProbePath(PathAndQuery);

impl ProbePath {
    pub(crate) const fn target(&self) -> &PathAndQuery {
        &self.0
    }
}

impl TryFrom<String> for ProbePath {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let target = PathAndQuery::try_from(text.as_str()).ok();
        let target = target.filter(|_| text.starts_with('/') && !text.contains('#'));
        target
            .map(Self)
            .ok_or("must be a path that starts with \"/\"")
    }
}

/// The `Host` of a check.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct ProbeHost(String);

impl ProbeHost {
    /// The host as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ProbeHost {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let host = text.parse::<http::uri::Authority>().ok();
        let plain = host.is_some_and(|host| !host.host().is_empty() && !text.contains('@'));
        plain
            .then_some(Self(text))
            .ok_or("must be a host, with or without a port")
    }
}

/// A status code, `200`, or a range of them, `"200-399"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StatusRange(u16, u16);

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CodeOrRange)
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

struct CodeOrRange;

impl Visitor<'_> for CodeOrRange {
    type Value = StatusRange;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status from 100 to 599 like 200, or a range like \"200-399\"")
    }

    fn visit_i64<E: Error>(self, code: i64) -> Result<StatusRange, E> {
        let known = u16::try_from(code)
            .ok()
            .filter(|code| (100..600).contains(code));
        let wrong = || E::invalid_value(serde::de::Unexpected::Signed(code), &self);
        known.map(|code| StatusRange(code, code)).ok_or_else(wrong)
    }

    fn visit_u64<E: Error>(self, code: u64) -> Result<StatusRange, E> {
        self.visit_i64(i64::try_from(code).unwrap_or(-1))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<StatusRange, E> {
        let code = |text: &str| text.parse().ok().filter(|code| (100..600).contains(code));
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let range = code(low).zip(code(high)).filter(|(low, high)| low <= high);
        let wrong = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
        range
            .map(|(low, high)| StatusRange(low, high))
            .ok_or_else(wrong)
    }
}
