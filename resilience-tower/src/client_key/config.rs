use std::sync::Arc;

use super::{ClientKeys, Rule, range};

/// The field in which the trusted proxies name the hop before them. Only this one is read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum ForwardedBy {
    /// `X-Forwarded-For`: addresses separated by commas, each with or without a port.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239), its `for` parameter. Quoted strings, bracketed IPv6 addresses and
    /// ports are understood; `unknown` and obfuscated names (`_gateway`) name nobody, and end
    /// the walk as an unreadable hop does.
    Forwarded,
}

/// What a request without a peer address is.
///
/// A server that does not pass the address on (a Unix socket, a missing extension) looks like
/// this for *all* its requests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum WithoutPeer {
    /// It has no key, and a limit per key refuses it: fails closed.
    #[default]
    Refuse,
    /// All such requests share [`ClientKey::SHARED`](super::ClientKey::SHARED), and so one quota.
    Shared,
}

/// Settings of [`ClientKeys`]; checked by [`build`](Self::build).
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `trusted_proxies` | none | addresses and CIDR ranges without host bits |
/// | `forwarded_by` | `X-Forwarded-For` | or `Forwarded` |
/// | `ipv4_prefix` | 32 | 1 to 32 |
/// | `ipv6_prefix` | 64 | 1 to 128 |
/// | `without_peer` | refuse | or one shared key |
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use]
pub struct ClientKeysBuilder {
    trusted_proxies: Vec<String>,
    forwarded_by: ForwardedBy,
    ipv4_prefix: u8,
    ipv6_prefix: u8,
    without_peer: WithoutPeer,
}

impl Default for ClientKeysBuilder {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            forwarded_by: ForwardedBy::default(),
            ipv4_prefix: 32,
            ipv6_prefix: 64,
            without_peer: WithoutPeer::default(),
        }
    }
}

impl ClientKeysBuilder {
    /// Believes the forwarding field when the peer is in one of these addresses or ranges; in
    /// place of those given before.
    pub fn trust_proxies<T: Into<String>>(mut self, ranges: impl IntoIterator<Item = T>) -> Self {
        self.trusted_proxies = ranges.into_iter().map(Into::into).collect();
        self
    }

    /// Which field the trusted proxies write.
    pub fn forwarded_by(mut self, field: ForwardedBy) -> Self {
        self.forwarded_by = field;
        self
    }

    /// How many bits of an IPv4 address count; 1 to 32.
    pub fn ipv4_prefix(mut self, bits: u8) -> Self {
        self.ipv4_prefix = bits;
        self
    }

    /// How many bits of an IPv6 address count; 1 to 128.
    pub fn ipv6_prefix(mut self, bits: u8) -> Self {
        self.ipv6_prefix = bits;
        self
    }

    /// What a request without a peer address is.
    pub fn without_peer(mut self, without: WithoutPeer) -> Self {
        self.without_peer = without;
        self
    }

    /// The checked rule.
    ///
    /// # Errors
    ///
    /// When a range cannot be read or has host bits set, or a prefix length is out of range. A
    /// length of 0, one key for everybody, is refused too: a limit without keys says that.
    pub fn build(self) -> Result<ClientKeys, ClientKeyError> {
        for (field, bits, most) in [
            ("ipv4_prefix", self.ipv4_prefix, 32),
            ("ipv6_prefix", self.ipv6_prefix, 128),
        ] {
            if !(1..=most).contains(&bits) {
                let allowed = format!("1 to {most}");
                return Err(ClientKeyError::new(field, bits, allowed));
            }
        }
        let trusted = self.trusted_proxies.iter();
        Ok(ClientKeys {
            rule: Arc::new(Rule {
                trusted: trusted
                    .map(|text| range::parse("trusted_proxies", text))
                    .collect::<Result<_, _>>()?,
                forwarded_by: self.forwarded_by,
                ipv4_prefix: self.ipv4_prefix,
                ipv6_prefix: self.ipv6_prefix,
                without_peer: self.without_peer,
            }),
        })
    }
}

impl TryFrom<ClientKeysBuilder> for ClientKeys {
    type Error = ClientKeyError;

    fn try_from(builder: ClientKeysBuilder) -> Result<Self, ClientKeyError> {
        builder.build()
    }
}

/// A setting that cannot be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field} is {value}, allowed: {allowed}")]
#[non_exhaustive]
pub struct ClientKeyError {
    /// The setting.
    pub field: &'static str,
    /// The value it was given.
    pub value: String,
    /// The values it may have.
    pub allowed: String,
}

impl ClientKeyError {
    pub(super) fn new(
        field: &'static str,
        value: impl ToString,
        allowed: impl Into<String>,
    ) -> Self {
        Self {
            field,
            value: value.to_string(),
            allowed: allowed.into(),
        }
    }
}
