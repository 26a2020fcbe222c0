//! How the gateway speaks to an upstream.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::UpstreamConfig;
use super::check::Place;

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
    /// How the upstream is spoken to.
    pub(super) fn check(&self, place: &mut Place<'_>) {
        place.bounds(self);
        for (index, status) in self.ignored_statuses.iter().enumerate() {
            if !(500..600).contains(status) {
                place
                    .at(format_args!("ignored_statuses[{index}]"))
                    .refuse("must be from 500 to 599");
            }
        }
        if self.protocol != Protocol::Http1 && cfg!(not(feature = "http2")) {
            place
                .at("protocol")
                .refuse("must be \"http1\": this program is built without the feature \"http2\"");
        }
        self.check_tls(place);
    }

    fn check_tls(&self, place: &mut Place<'_>) {
        let tls = &self.tls;
        let secure = self.endpoints.iter().any(|endpoint| endpoint.url.is_tls());
        if secure && cfg!(not(feature = "tls")) {
            place
                .at("endpoints")
                .refuse("must be \"http://…\": this program is built without the feature \"tls\"");
        }
        let all_known = self.discovery.is_none();
        let is_set = *tls != UpstreamTlsConfig::default();
        let mut place = place.at("tls");
        if !secure && all_known && is_set {
            place.refuse("needs an endpoint \"https://…\"");
        } else if tls.certificate_file.is_some() != tls.key_file.is_some() {
            place.refuse("needs certificate_file and key_file together, or neither");
        } else if secure || is_set {
            #[cfg(feature = "tls")]
            if let Err(reason) = crate::upstream::pool::check_tls(tls) {
                place.refuse(reason);
            }
        }
    }
}
