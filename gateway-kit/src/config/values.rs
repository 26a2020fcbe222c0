//! Values that check themselves while they are read.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use http::uri::Authority;
use http::{HeaderName, Method};
use ipnet::IpNet;
use serde::Deserialize;

use crate::path;

/// The path prefix of a route, `/api/v2`; matched by whole segments, in canonical form.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub struct Prefix(String);

impl Prefix {
    /// The prefix without a trailing slash; the root is `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let allowed = "must be a path in plain form: starts with \"/\", no \"//\", no dot segments, \
                       no \"?\", \"#\", \"{\", \"}\" and no escapes of plain characters";
        let plain = text.starts_with('/')
            && !text.contains(['?', '#', '{', '}'])
            && path::canonical(&text).is_ok_and(|canonical| canonical == text.as_str());
        if !plain {
            return Err(allowed.to_owned());
        }
        let trimmed = text.trim_end_matches('/');
        Ok(Self(
            if trimmed.is_empty() { "/" } else { trimmed }.to_owned(),
        ))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One address of an upstream, `http://host:port` or `https://host:port`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub struct EndpointUrl {
    authority: String,
    tls: bool,
}

impl EndpointUrl {
    /// `host:port`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// A port of this machine, without TLS.
    #[cfg(feature = "otel")]
    pub(super) fn loopback(port: u16) -> Self {
        Self {
            authority: format!("127.0.0.1:{port}"),
            tls: false,
        }
    }

    /// Whether it is spoken to over TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}

impl std::str::FromStr for EndpointUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for EndpointUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let allowed = "must be \"http://host:port\" or \"https://host:port\" with no path, \
                       query or user";
        let tls = text.starts_with("https://");
        let authority: Authority = text
            .strip_prefix(if tls { "https://" } else { "http://" })
            .filter(|rest| !rest.contains(['/', '?', '#', '@']))
            .and_then(|rest| rest.parse().ok())
            .ok_or(allowed)?;
        if authority.host().is_empty() || authority.port_u16().is_none_or(|port| port == 0) {
            return Err(allowed.to_owned());
        }
        Ok(Self {
            authority: authority.as_str().to_ascii_lowercase(),
            tls,
        })
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

/// A network of trusted proxies, `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct Network(IpNet);

impl Network {
    /// Whether `address` is inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let net = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| "must be an address or a network like \"10.0.0.0/8\"")?;
        if net.addr() != net.network() {
            return Err(format!(
                "has host bits set; did you mean \"{}\"?",
                net.trunc()
            ));
        }
        Ok(Self(net))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a header field.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct FieldName(HeaderName);

impl FieldName {
    /// The name, in lower case.
    pub const fn name(&self) -> &HeaderName {
        &self.0
    }
}

impl From<HeaderName> for FieldName {
    fn from(name: HeaderName) -> Self {
        Self(name)
    }
}

impl TryFrom<String> for FieldName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let name = HeaderName::from_bytes(text.as_bytes());
        name.map(Self)
            .map_err(|_| "must be the name of a header field")
    }
}

/// A host that requests are for: `shop.example.com`, or all below a name, `*.example.com`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq)]
#[serde(try_from = "String")]
pub struct HostPattern {
    /// In lower case, without `*.`.
    name: String,
    below: bool,
}

impl HostPattern {
    /// The name in lower case, without `*.`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It means all names below this one, and not the name itself.
    pub const fn is_wildcard(&self) -> bool {
        self.below
    }
}

impl TryFrom<String> for HostPattern {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text.as_str()),
        };
        let label = |label: &str| {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            !label.is_empty() && label.bytes().all(good)
        };
        let inside = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let v6 = inside.is_some_and(|inside| inside.parse::<Ipv6Addr>().is_ok());
        let dns = name.len() <= 253 && name.split('.').all(label);
        if !dns && (below || !v6) {
            return Err("must be a host without a port, \"shop.example.com\" or \"*.example.com\"");
        }
        let name = name.to_ascii_lowercase();
        Ok(Self { name, below })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.below { "*." } else { "" };
        write!(f, "{star}{}", self.name)
    }
}

/// A method in capitals, `GET`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct MethodName(Method);

impl MethodName {
    /// For methods that are known to be allowed.
    pub(super) const fn known(method: Method) -> Self {
        Self(method)
    }

    /// The method.
    pub const fn method(&self) -> &Method {
        &self.0
    }
}

impl TryFrom<String> for MethodName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let never = matches!(text.as_str(), "CONNECT" | "TRACE");
        // Methods are told apart by case, and all there are have capitals.
        let capitals = text
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        let method = Method::from_bytes(text.as_bytes()).ok();
        let method = method.filter(|_| capitals && !never).map(Self);
        method.ok_or("must be a method in capitals like \"GET\", and not CONNECT or TRACE")
    }
}

/// A whole path in canonical form.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct PlainPath(String);

impl PlainPath {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PlainPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // The rules are those of a prefix, but a slash at the end stays.
        Prefix::try_from(text.clone()).map(|_| Self(text))
    }
}
