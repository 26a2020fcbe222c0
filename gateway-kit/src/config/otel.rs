//! `[otel]`: where the spans of requests go.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize, Serializer};

use super::check::{Bounds, Place, TIME, bounds};
use super::{Config, HttpUrl, UpstreamTlsConfig};
use crate::headers::is_fixed;

/// `[otel]`: spans of requests for a collector of OpenTelemetry (OTLP over HTTP, in JSON). Of which
/// requests, `[trace]` says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct OtelConfig {
    /// Where they are sent; default `http://127.0.0.1:4318/v1/traces`.
    pub endpoint: HttpUrl,
    /// The authorities that are believed, in PEM, if it is `https`; default those of Mozilla.
    pub ca_file: Option<PathBuf>,
    /// What the gateway is called, 1 to 255 bytes; default `gateway`.
    pub service_name: String,
    /// Further fields of each call, which may be secrets; never shown.
    pub headers: BTreeMap<String, OtelHeader>,
    /// Most spans that wait, 16 to 1 000 000; further ones are dropped. Default 2048.
    pub max_queue: usize,
    /// Longest time that a span waits for others; default 5 s.
    #[serde(with = "super::Human")]
    pub interval: Duration,
    /// Longest wait for the collector's answer; default 10 s.
    #[serde(with = "super::Human")]
    pub timeout: Duration,
}

impl Default for OtelConfig {
    fn default() -> Self {
        Self {
            endpoint: HttpUrl::collector(),
            ca_file: None,
            service_name: "gateway".to_owned(),
            headers: BTreeMap::new(),
            max_queue: 2048,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
        }
    }
}

/// The value of a field. Never shown.
#[derive(Clone, Deserialize, Eq, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct OtelHeader(String);

impl fmt::Debug for OtelHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for OtelHeader {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

const REDACTED: &str = "[redacted]";

impl OtelConfig {
    /// How `endpoint` is verified.
    pub(crate) fn tls(&self) -> UpstreamTlsConfig {
        UpstreamTlsConfig {
            ca_file: self.ca_file.clone(),
            ..UpstreamTlsConfig::default()
        }
    }

    /// The fields as they are sent; the values are not in the error.
    pub(crate) fn fields(&self) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let field = |(name, value): (&String, &OtelHeader)| {
            let known = HeaderName::from_bytes(name.as_bytes())
                .ok()
                .filter(|name| !is_fixed(name) && ![CONTENT_TYPE, CONTENT_ENCODING].contains(name))
                .ok_or_else(|| {
                    format!("{name:?} must be the name of a field that the message does not need")
                })?;
            let mut value = HeaderValue::from_str(&value.0)
                .map_err(|_| format!("the value of {name:?} must be visible ASCII characters"))?;
            value.set_sensitive(true);
            Ok((known, value))
        };
        self.headers.iter().map(field).collect()
    }
}

/// `name=value,name=value`, as the variable has them.
pub(super) fn headers(text: &str) -> Result<BTreeMap<String, OtelHeader>, &'static str> {
    let field = |one: &str| {
        let (name, value) = one.split_once('=')?;
        Some((name.trim().to_owned(), OtelHeader(value.trim().to_owned())))
    };
    let fields = text.split(',').filter(|one| !one.trim().is_empty());
    let fields: Option<_> = fields.map(field).collect();
    fields.ok_or("must be name=value, several separated by commas")
}

/// What is wrong with `[otel]`.
pub(super) fn check(config: &Config, top: &mut Place<'_>) {
    let Some(otel) = &config.otel else {
        return;
    };
    if config.trace.on().is_none() {
        top.at("trace")
            .refuse("must not be false with [otel]: spans belong to traces");
    }
    let mut place = top.at("otel");
    place.bounds(otel);
    if !(1..=255).contains(&otel.service_name.len()) {
        place.at("service_name").refuse("must have 1 to 255 bytes");
    }
    if let Err(reason) = otel.fields() {
        place.at("headers").refuse(reason);
    }
    let tls = otel.endpoint.endpoint().is_tls();
    if tls && cfg!(not(feature = "tls")) {
        place
            .at("endpoint")
            .refuse("must be \"http://…\": this program is built without the feature \"tls\"");
    }
    if otel.ca_file.is_some() && !tls {
        place.at("ca_file").refuse("needs endpoint = \"https://…\"");
    }
    #[cfg(feature = "tls")]
    if tls && let Err(reason) = crate::upstream::pool::check_tls(&otel.tls()) {
        place.at("ca_file").refuse(reason);
    }
}

bounds! {
    OtelConfig {
        max_queue: Bounds::whole(16, 1_000_000),
        interval: TIME,
        timeout: TIME,
    }
}
