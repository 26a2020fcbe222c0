//! The address of the client behind trusted proxies.

use std::net::IpAddr;

use ::http::HeaderMap;
use ipnet::IpNet;

/// The client's address: the peer's own, or, when the peer is a trusted proxy, the
/// right-most address in `x-forwarded-for` that is not one.
///
/// A header that cannot be read ends the search: the last address that was certain counts.
#[must_use]
pub fn client_ip(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    let mut client = peer.to_canonical();
    let fields: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    for field in fields.into_iter().rev() {
        let Ok(text) = field.to_str() else {
            return client;
        };
        for hop in text.rsplit(',') {
            if !is_trusted(&client) {
                return client;
            }
            let Ok(ip) = hop.trim().parse::<IpAddr>() else {
                return client;
            };
            client = ip.to_canonical();
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().expect("a range")];
        let cases = [
            ("192.0.2.9", "203.0.113.1", "192.0.2.9"),
            ("10.0.0.1", "203.0.113.1", "203.0.113.1"),
            (
                "10.0.0.1",
                "203.0.113.7, 203.0.113.1, 10.0.0.2",
                "203.0.113.1",
            ),
            ("10.0.0.1", "203.0.113.1, nonsense", "10.0.0.1"),
            ("::ffff:10.0.0.1", "203.0.113.1", "203.0.113.1"),
        ];
        for (peer, header, client) in cases {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", header.parse().expect("a header"));
            let seen = client_ip(&headers, peer.parse().expect("an address"), &trusted);
            assert_eq!(seen.to_string(), client, "{peer} {header}");
        }
    }
}
