//! How the gateway speaks to an upstream.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::load::{check_duration, check_range};
use super::{ConfigError, UpstreamConfig};

/// What is spoken on a connection to an upstream.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: agreed by ALPN over TLS, else without asking (prior knowledge). For gRPC.
    Http2,
    /// HTTP/2 if the upstream agrees to it by ALPN, else HTTP/1.1; for `https` endpoints.
    Auto,
}

/// `[upstream.NAME.tls]`: how `https` endpoints are verified.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct UpstreamTlsConfig {
    /// The authorities that are believed, in PEM; default those of Mozilla.
    pub ca_file: Option<PathBuf>,
    /// The name asked for and verified, in place of the endpoint's host.
    pub server_name: Option<String>,
    /// The certificate that the gateway shows, in PEM; together with `key_file`.
    pub certificate_file: Option<PathBuf>,
    /// Its private key, in PEM.
    pub key_file: Option<PathBuf>,
}

impl UpstreamConfig {
    /// What one field alone cannot know of how the upstream is spoken to.
    pub(super) fn check_speech(&self, name: &str) -> Result<(), ConfigError> {
        let field = |field: &str| format!("upstream.{name}.{field}");
        check_duration(field("connect_timeout"), self.connect_timeout)?;
        check_duration(field("response_timeout"), self.response_timeout)?;
        check_duration(field("body_timeout"), self.body_timeout)?;
        check_duration(field("upgrade_timeout"), self.upgrade_timeout)?;
        check_duration(field("idle_timeout"), self.idle_timeout)?;
        for (key, value) in [
            ("try_timeout", self.try_timeout),
            ("total_timeout", self.total_timeout),
            ("max_age", self.max_age),
        ] {
            check_duration(field(key), value.unwrap_or(Duration::from_secs(1)))?;
        }
        check_range(&field("max_streams"), self.max_streams, 1..=10_000)?;
        if let Some(bytes) = self.replay_bytes {
            check_range(&field("replay_bytes"), bytes, 1..=1 << 20)?;
        }
        self.check_protocol(&field)?;
        self.check_tls(&field)
    }

    fn check_protocol(&self, field: &impl Fn(&str) -> String) -> Result<(), ConfigError> {
        let wants_http2 = self.protocol != Protocol::Http1;
        if wants_http2 && cfg!(not(feature = "http2")) {
            return Err(ConfigError::new(
                field("protocol"),
                "must be \"http1\": this program is built without the feature \"http2\"",
            ));
        }
        Ok(())
    }

    fn check_tls(&self, field: &impl Fn(&str) -> String) -> Result<(), ConfigError> {
        let tls = &self.tls;
        let secure = self.endpoints.iter().any(|endpoint| endpoint.url.is_tls());
        if secure && cfg!(not(feature = "tls")) {
            return Err(ConfigError::new(
                field("endpoints"),
                "must be \"http://…\": this program is built without the feature \"tls\"",
            ));
        }
        let all_known = self.discovery.is_none();
        if !secure && all_known && *tls != UpstreamTlsConfig::default() {
            return Err(ConfigError::new(
                field("tls"),
                "needs an endpoint \"https://…\"",
            ));
        }
        if tls.certificate_file.is_some() != tls.key_file.is_some() {
            return Err(ConfigError::new(
                field("tls"),
                "needs certificate_file and key_file together, or neither",
            ));
        }
        #[cfg(feature = "tls")]
        if secure || *tls != UpstreamTlsConfig::default() {
            crate::upstream::pool::check_tls(tls)
                .map_err(|reason| ConfigError::new(field("tls"), reason))?;
        }
        Ok(())
    }
}
