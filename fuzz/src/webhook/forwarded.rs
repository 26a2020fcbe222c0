//! Who sent a request that came through proxies, by the rule as it is documented.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Ranges as text, and what lies in them.
pub type Range = (&'static str, fn(IpAddr) -> bool);

pub const RANGES: [Range; 9] = [
    ("10.0.0.0/8", |ip| v4(ip).is_some_and(|[a, ..]| a == 10)),
    ("192.0.2.0/25", |ip| {
        v4(ip).is_some_and(|ip| ip[..3] == [192, 0, 2] && ip[3] < 128)
    }),
    ("192.0.2.7", |ip| v4(ip) == Some([192, 0, 2, 7])),
    ("0.0.0.0/0", |ip| v4(ip).is_some()),
    ("::/0", |ip| v4(ip).is_none()),
    ("2001:db8::/32", |ip| v6(ip) >> 96 == 0x2001_0db8),
    ("2001:db8::1", |ip| v6(ip) == 0x2001_0db8 << 96 | 1),
    ("::ffff:198.51.100.0/120", |ip| {
        v4(ip).is_some_and(|ip| ip[..3] == [198, 51, 100])
    }),
    ("::ffff:0:0/96", |ip| v4(ip).is_some()),
];

pub const ADDRESSES: [&str; 12] = [
    "10.0.0.1",
    "10.255.0.9",
    "192.0.2.7",
    "192.0.2.128",
    "198.51.100.9",
    "203.0.113.5",
    "2001:db8::1",
    "2001:db8:ffff::2",
    "2001:db9::1",
    "::ffff:10.0.0.1",
    "::ffff:203.0.113.5",
    "::1",
];

/// A mapped address is the one it carries.
fn v4(ip: IpAddr) -> Option<[u8; 4]> {
    match ip {
        IpAddr::V4(ip) => Some(ip.octets()),
        IpAddr::V6(ip) => match ip.octets() {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Some([a, b, c, d]),
            _ => None,
        },
    }
}

fn v6(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V6(ip) => u128::from(ip),
        IpAddr::V4(_) => 0,
    }
}

pub fn canonical(ip: IpAddr) -> IpAddr {
    v4(ip).map_or(ip, |octets| Ipv4Addr::from(octets).into())
}

pub fn within(ranges: &[Range], ip: IpAddr) -> bool {
    ranges.iter().any(|(_, holds)| holds(ip))
}

/// The walk over header lines as received: from the right, while who named the hop is trusted.
/// `None` when a hop that counts cannot be read.
pub fn sender(
    trusted: &[Range],
    rfc_7239: bool,
    peer: Option<IpAddr>,
    lines: &[Vec<u8>],
) -> Option<IpAddr> {
    let mut sender = canonical(peer?);
    let all = lines.join(&b',');
    let mut hops: Vec<&[u8]> = match lines {
        [] => Vec::new(),
        _ => all.split(|byte| *byte == b',').collect(),
    };
    while within(trusted, sender) {
        let Some(hop) = hops.pop() else { break };
        let hop = std::str::from_utf8(hop).ok()?;
        let hop = hop.trim_matches(|c| c == ' ' || c == '\t');
        sender = address(if rfc_7239 { named(hop)? } else { hop })?;
    }
    Some(sender)
}

/// An address, bare, in brackets, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let ip = match (text.parse::<SocketAddr>(), inner) {
        (Ok(socket), _) => socket.ip(),
        (_, Some(inner)) => inner.parse().ok()?,
        (_, None) => text.parse().ok()?,
    };
    Some(canonical(ip))
}

/// The one `for` of an element. What is quoted is no parameter; a backslash, or a quote that
/// does not end, makes all of it unreadable.
fn named(element: &str) -> Option<&str> {
    let mut pairs = Vec::new();
    let (mut begin, mut quoted) = (0, false);
    for (at, c) in element.char_indices() {
        match c {
            '\\' => return None,
            '"' => quoted = !quoted,
            ';' if !quoted => {
                pairs.push(&element[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if quoted {
        return None;
    }
    pairs.push(&element[begin..]);
    let values = pairs.into_iter().filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    });
    let values: Vec<&str> = values.collect();
    let [value] = values[..] else { return None };
    let bare = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    Some(bare.unwrap_or(value))
}
