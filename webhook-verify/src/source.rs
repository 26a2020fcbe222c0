//! The IP policy: who may send, and which proxies are believed.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, header::FORWARDED};
use ipnet::IpNet;

use crate::error::Reason;

/// Allowed senders and trusted proxies.
#[derive(Clone, Debug, Default)]
pub struct IpRules {
    allow: Vec<IpNet>,
    trusted: Vec<IpNet>,
    forwarded: ForwardedBy,
}

/// The header in which the trusted proxies name the hop before them. Only this one is
/// read: a proxy that writes one of them usually passes the other through unchecked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum ForwardedBy {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239), its `for` parameter.
    Forwarded,
}

/// An address range that is not valid.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IpRangeError {
    /// Neither an address nor a CIDR range.
    #[error("`{0}` is neither an IP address nor a CIDR range")]
    Syntax(String),
    /// Bits are set behind the prefix; the range meant is a guess.
    #[error("`{given}` has host bits set; `{network}` is the range of that length")]
    HostBits {
        /// The text given.
        given: String,
        /// The range without host bits.
        network: IpNet,
    },
}

impl IpRules {
    /// Rules that allow these addresses and ranges and trust no proxy.
    ///
    /// # Errors
    /// When a text is neither an address nor a range, or a range has host bits set.
    pub fn allow<T: AsRef<str>>(ranges: impl IntoIterator<Item = T>) -> Result<Self, IpRangeError> {
        Ok(Self {
            allow: parse_all(ranges)?,
            ..Self::default()
        })
    }

    /// Believes the forwarding header when the peer is in one of these ranges.
    ///
    /// # Errors
    /// As [`allow`](Self::allow).
    pub fn trust_proxies<T: AsRef<str>>(
        mut self,
        ranges: impl IntoIterator<Item = T>,
    ) -> Result<Self, IpRangeError> {
        self.trusted = parse_all(ranges)?;
        Ok(self)
    }

    /// Which header the trusted proxies write; `X-Forwarded-For` by default.
    #[must_use]
    pub const fn forwarded_by(mut self, header: ForwardedBy) -> Self {
        self.forwarded = header;
        self
    }

    /// The right-most hop that is not a trusted proxy, or the left-most when all are.
    fn sender(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        let mut sender = canonical(peer?);
        let name = match self.forwarded {
            ForwardedBy::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            ForwardedBy::Forwarded => FORWARDED,
        };
        let mut lines = headers.get_all(name).iter().rev();
        let mut hops = lines
            .by_ref()
            .flat_map(|line| line.as_bytes().rsplit(|b| *b == b','));
        while contains(&self.trusted, sender) {
            let Some(hop) = hops.next() else { break };
            // Unreadable: whoever stands behind the proxy is unknown, so nobody is believed.
            let text = std::str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
            sender = match self.forwarded {
                ForwardedBy::XForwardedFor => parse_hop(text)?,
                ForwardedBy::Forwarded => parse_hop(forwarded_for(text)?)?,
            };
        }
        Some(sender)
    }
}

/// A handle on [`IpRules`] that can be changed while deliveries arrive; clones share it.
#[derive(Clone)]
pub struct IpPolicy(Arc<ArcSwap<IpRules>>);

impl IpPolicy {
    /// A policy with these rules.
    #[must_use]
    pub fn new(rules: IpRules) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(rules)))
    }

    /// Replaces the rules; a check that runs sees either all old or all new ones.
    pub fn replace(&self, rules: IpRules) {
        self.0.store(Arc::new(rules));
    }

    /// The address that counts: the peer, or behind trusted proxies the right-most hop
    /// that is none. `None` without a peer or when a hop cannot be read.
    #[must_use]
    pub fn sender(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        self.0.load().sender(peer, headers)
    }

    pub(crate) fn check(
        &self,
        peer: Option<IpAddr>,
        headers: &HeaderMap,
    ) -> Result<IpAddr, Reason> {
        let rules = self.0.load();
        let sender = rules.sender(peer, headers).ok_or(Reason::SourceUnknown)?;
        if contains(&rules.allow, sender) {
            Ok(sender)
        } else {
            Err(Reason::SourceDenied(sender))
        }
    }
}

impl From<IpRules> for IpPolicy {
    fn from(rules: IpRules) -> Self {
        Self::new(rules)
    }
}

impl fmt::Debug for IpPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IpPolicy").field(&self.0.load()).finish()
    }
}

/// `::ffff:a.b.c.d` is the v4 address it carries.
pub(crate) const fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

fn contains(ranges: &[IpNet], ip: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(&ip))
}

fn parse_all<T: AsRef<str>>(
    ranges: impl IntoIterator<Item = T>,
) -> Result<Vec<IpNet>, IpRangeError> {
    ranges
        .into_iter()
        .map(|range| parse_range(range.as_ref()))
        .collect()
}

fn parse_range(text: &str) -> Result<IpNet, IpRangeError> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(canonical(ip)));
    }
    let range: IpNet = text
        .parse()
        .map_err(|_| IpRangeError::Syntax(text.to_owned()))?;
    let network = range.trunc();
    if network != range {
        return Err(IpRangeError::HostBits {
            given: text.to_owned(),
            network,
        });
    }
    Ok(match range {
        // A range of mapped addresses becomes the v4 range, as the addresses do.
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => ipnet::Ipv4Net::new(v4, v6.prefix_len() - 96).map_or(range, IpNet::V4),
            None => range,
        },
        _ => range,
    })
}

/// An address, optionally with a port.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let ip = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())?;
    Some(canonical(ip))
}

/// The `for` parameter of one element of `Forwarded`; given twice it is unreadable.
///
/// A proxy may quote what a client wrote (`host="..."`), so nothing inside quotes is taken
/// for a parameter or an element. Elements are cut at every comma from the right; a cut
/// inside quotes leaves an odd number of them, unless escaped ones hide it, so both an odd
/// number and a backslash are unreadable.
fn forwarded_for(element: &str) -> Option<&str> {
    if element.contains('\\') || !element.matches('"').count().is_multiple_of(2) {
        return None;
    }
    let mut quoted = false;
    let pairs = element.split(|c| {
        quoted ^= c == '"';
        c == ';' && !quoted
    });
    let mut values = pairs.filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    });
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    Some(
        value
            .strip_prefix('"')
            .and_then(|v| v.strip_suffix('"'))
            .unwrap_or(value),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(name, http::HeaderValue::from_static(value));
        }
        map
    }

    fn sender(rules: &IpRules, peer: &str, headers: &HeaderMap) -> Option<String> {
        rules
            .sender(peer.parse().ok(), headers)
            .map(|ip| ip.to_string())
    }

    #[test]
    fn ranges_with_host_bits_are_refused_with_the_range_meant() {
        let error = IpRules::allow(["10.0.0.1/8"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`10.0.0.1/8` has host bits set; `10.0.0.0/8` is the range of that length"
        );
        assert!(IpRules::allow(["300.0.0.1", "x"]).is_err());
    }

    #[test]
    fn mapped_addresses_match_v4_rules() {
        // D.c8
        let rules =
            IpPolicy::new(IpRules::allow(["192.0.2.0/24", "::ffff:198.51.100.0/120"]).unwrap());
        for ip in [
            "::ffff:192.0.2.9",
            "192.0.2.9",
            "198.51.100.7",
            "::ffff:198.51.100.7",
        ] {
            assert!(
                rules.check(ip.parse().ok(), &HeaderMap::new()).is_ok(),
                "{ip}"
            );
        }
        assert!(
            rules
                .check("::ffff:192.0.3.9".parse().ok(), &HeaderMap::new())
                .is_err()
        );
    }

    #[test]
    fn the_walk_stops_at_the_first_untrusted_hop_from_the_right() {
        let rules = IpRules::allow(["203.0.113.5"])
            .unwrap()
            .trust_proxies(["10.0.0.0/8"])
            .unwrap();
        let chain = headers(
            "x-forwarded-for",
            &["203.0.113.5, 198.51.100.1", "10.0.0.2"],
        );
        assert_eq!(
            sender(&rules, "10.0.0.1", &chain).as_deref(),
            Some("198.51.100.1")
        );
        assert_eq!(
            sender(&rules, "192.0.2.1", &chain).as_deref(),
            Some("192.0.2.1"),
            "peer not trusted"
        );
        let odd = headers("x-forwarded-for", &["203.0.113.5, unknown"]);
        assert_eq!(sender(&rules, "10.0.0.1", &odd), None);
        let ports = headers("x-forwarded-for", &["[2001:db8::1]:99, 10.0.0.3:80"]);
        assert_eq!(
            sender(&rules, "10.0.0.1", &ports).as_deref(),
            Some("2001:db8::1")
        );
    }

    #[test]
    fn quoted_text_in_forwarded_is_never_taken_for_an_address() {
        let rules = IpRules::default()
            .trust_proxies(["10.0.0.0/8"])
            .unwrap()
            .forwarded_by(ForwardedBy::Forwarded);
        for forged in [
            r#"for=198.51.100.1;host="x, for=203.0.113.5;a""#,
            r#"for=198.51.100.1;host="x, for=203.0.113.5;a=\"""#,
            r#"for=198.51.100.1;host="x, for=203.0.113.5, y""#,
            r#"host="x;for=203.0.113.5;y""#,
            r#"for=203.0.113.5;for=203.0.113.5"#,
            r#"for="203.0.113.5"#,
            "for=unknown",
            "for=_hidden",
            "",
        ] {
            assert_eq!(
                sender(&rules, "10.0.0.1", &headers("forwarded", &[forged])),
                None,
                "{forged}"
            );
        }
        let quoted = headers("forwarded", &[r#"host="a;b";for="198.51.100.1:80""#]);
        assert_eq!(
            sender(&rules, "10.0.0.1", &quoted).as_deref(),
            Some("198.51.100.1")
        );
    }

    #[test]
    fn only_the_configured_header_is_read() {
        let rules = IpRules::default().trust_proxies(["10.0.0.0/8"]).unwrap();
        let standard = headers(
            "forwarded",
            &["for=\"[2001:db8::1]:4711\";proto=http, For=10.0.0.2"],
        );
        assert_eq!(
            sender(&rules, "10.0.0.1", &standard).as_deref(),
            Some("10.0.0.1")
        );
        let rules = rules.forwarded_by(ForwardedBy::Forwarded);
        assert_eq!(
            sender(&rules, "10.0.0.1", &standard).as_deref(),
            Some("2001:db8::1")
        );
    }
}
