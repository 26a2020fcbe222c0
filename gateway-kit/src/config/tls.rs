//! `[tls]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{Place, TIME, bounds};

/// `[tls]`: TLS towards clients.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::narrow::<Self>))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TlsConfig {
    /// An address of its own, beside `listen` without TLS; default none: `listen` speaks TLS.
    pub listen: Option<SocketAddr>,
    /// The certificates, `[[tls.certificate]]`; a client gets the first that is valid for the
    /// name it asks for, else the first.
    #[serde(default, rename = "certificate")]
    pub certificates: Vec<CertificateConfig>,
    /// The oldest version that is spoken, `"1.2"` (default) or `"1.3"`.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// Longest wait for a handshake; default 10 s.
    #[serde(default = "super::seconds::<10>", with = "super::Human")]
    pub handshake_timeout: Duration,
    /// How often the files are looked at for a change; default 10 s.
    #[serde(default = "super::seconds::<10>", with = "super::Human")]
    pub reload_interval: Duration,
}

/// One `[[tls.certificate]]`, in PEM.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CertificateConfig {
    /// The file of the certificate and those that signed it, in this order.
    pub certificate: PathBuf,
    /// The file of the private key.
    pub key: PathBuf,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

impl TlsConfig {
    pub(super) fn check(&self, place: &mut Place<'_>) {
        place.bounds(self);
        if self.certificates.is_empty() {
            place
                .at("certificate")
                .refuse("is missing; TLS needs at least one [[tls.certificate]]");
        }
    }
}

bounds! {
    TlsConfig {
        handshake_timeout: TIME,
        reload_interval: TIME,
    }
}
