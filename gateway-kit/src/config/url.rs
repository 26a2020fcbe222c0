//! Addresses that the gateway itself asks.

use http::Uri;
use http::uri::PathAndQuery;
use serde::{Deserialize, Serialize};

use super::EndpointUrl;

/// An address of somebody else's, `https://id.example.com/.well-known/jwks.json`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct HttpUrl {
    text: String,
    endpoint: EndpointUrl,
    path: PathAndQuery,
}

impl HttpUrl {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) const fn endpoint(&self) -> &EndpointUrl {
        &self.endpoint
    }

    pub(crate) const fn path(&self) -> &PathAndQuery {
        &self.path
    }
}

impl From<HttpUrl> for String {
    fn from(url: HttpUrl) -> Self {
        url.text
    }
}

impl TryFrom<String> for HttpUrl {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let allowed =
            "must be \"https://host/path\" or \"http://host/path\", with no user and no \"#\"";
        let uri: Uri = text.parse().map_err(|_| allowed)?;
        let port = match uri.scheme_str() {
            Some("https") => 443,
            Some("http") => 80,
            _ => return Err(allowed),
        };
        let host = uri.host().ok_or(allowed)?;
        let port = uri.port_u16().unwrap_or(port);
        let scheme = uri.scheme_str().unwrap_or_default();
        let endpoint = EndpointUrl::try_from(format!("{scheme}://{host}:{port}"));
        let plain = !text.contains(['#', '@']);
        Ok(Self {
            endpoint: endpoint.ok().filter(|_| plain).ok_or(allowed)?,
            path: uri.path_and_query().cloned().ok_or(allowed)?,
            text,
        })
    }
}

#[cfg(feature = "otel")]
impl HttpUrl {
    /// Where a collector on this machine takes spans.
    pub(super) fn collector() -> Self {
        Self {
            text: "http://127.0.0.1:4318/v1/traces".to_owned(),
            endpoint: EndpointUrl::loopback(4318),
            path: PathAndQuery::from_static("/v1/traces"),
        }
    }
}
