//! Client keys: whom a request counts for, and that a stranger cannot choose it.
#![cfg(feature = "client-key")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{HeaderMap, HeaderValue, Request};
use proptest::prelude::*;
use resilience_tower::client_key::{ClientKey, ClientKeys, ForwardedBy, WithoutPeer};

const PROXY: &str = "10.0.0.1";
const CLIENT: &str = "198.51.100.7";

fn behind_proxies(field: ForwardedBy) -> ClientKeys {
    let builder = ClientKeys::builder().trust_proxies(["10.0.0.0/8", "2001:db8:ff::/48"]);
    builder.forwarded_by(field).build().unwrap()
}

fn headers(name: &'static str, lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(name, line.parse().unwrap());
    }
    headers
}

fn key(clients: &ClientKeys, peer: &str, headers: &HeaderMap) -> String {
    let key = clients.key(Some(peer.parse().unwrap()), headers);
    key.unwrap().to_string()
}

#[test]
fn x_forwarded_for_is_believed_hop_by_hop_from_the_right() {
    let clients = behind_proxies(ForwardedBy::XForwardedFor);
    for (peer, lines, expected) in [
        // The peer is a stranger: whatever it writes, it is the client.
        ("192.0.2.1", vec!["203.0.113.5"], "192.0.2.1"),
        ("192.0.2.1", vec!["10.0.0.1"], "192.0.2.1"),
        ("::ffff:192.0.2.1", vec!["203.0.113.5"], "192.0.2.1"),
        // The proxy appended its peer; what stands before is the client's own text.
        (PROXY, vec![CLIENT], CLIENT),
        (PROXY, vec!["203.0.113.5, 198.51.100.7"], CLIENT),
        (PROXY, vec!["203.0.113.5", CLIENT], CLIENT),
        (PROXY, vec!["10.0.0.9, 198.51.100.7"], CLIENT),
        (PROXY, vec!["garbage, \"quoted, 198.51.100.7"], CLIENT),
        (PROXY, vec!["198.51.100.7:4711"], CLIENT),
        ("::ffff:10.0.0.1", vec!["::ffff:198.51.100.7"], CLIENT),
        // Two proxies of ours in a row.
        (PROXY, vec!["203.0.113.5, 198.51.100.7, 10.0.0.2"], CLIENT),
        (PROXY, vec!["203.0.113.5, 198.51.100.7", "10.0.0.2"], CLIENT),
        ("2001:db8:ff::1", vec!["198.51.100.7, 10.0.0.2"], CLIENT),
        // All hops are ours: the left-most.
        (PROXY, vec!["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        // Unreadable: the proxy that passed it on.
        (PROXY, vec!["203.0.113.5, unknown"], PROXY),
        (PROXY, vec!["203.0.113.5, "], PROXY),
        (PROXY, vec![""], PROXY),
        (PROXY, vec![","], PROXY),
        (PROXY, vec!["203.0.113.5, nonsense, 10.0.0.2"], "10.0.0.2"),
        (PROXY, vec!["203.0.113.5, fe80::1%eth0"], PROXY),
        // No field.
        (PROXY, vec![], PROXY),
    ] {
        let found = key(&clients, peer, &headers("x-forwarded-for", &lines));
        assert_eq!(found, expected, "{peer} {lines:?}");
    }
}

#[test]
fn forwarded_is_believed_hop_by_hop_from_the_right() {
    let clients = behind_proxies(ForwardedBy::Forwarded);
    for (peer, lines, expected) in [
        ("192.0.2.1", vec!["for=203.0.113.5"], "192.0.2.1"),
        (PROXY, vec!["for=198.51.100.7"], CLIENT),
        (
            PROXY,
            vec![r#"For="[2001:db8:1:2:3::9]:4711";proto=http"#],
            "2001:db8:1:2::",
        ),
        (
            PROXY,
            vec!["for=203.0.113.5, for=198.51.100.7;by=_a"],
            CLIENT,
        ),
        (
            PROXY,
            vec!["for=198.51.100.7", "by=_b;for=10.0.0.2"],
            CLIENT,
        ),
        // A client's open quote does not swallow what the proxy added.
        (PROXY, vec![r#"for="203.0.113.5, for=198.51.100.7"#], CLIENT),
        // A quoted value is not an element: the proxy quotes what the client chose.
        (
            PROXY,
            vec![r#"for=198.51.100.7;host="a, for=203.0.113.5;b""#],
            CLIENT,
        ),
        // Obfuscated and unknown nodes name nobody.
        (PROXY, vec!["for=203.0.113.5, for=unknown"], PROXY),
        (PROXY, vec!["for=203.0.113.5, for=_gateway"], PROXY),
        (PROXY, vec!["for=1.2.3.4;for=203.0.113.5"], PROXY),
    ] {
        let found = key(&clients, peer, &headers("forwarded", &lines));
        assert_eq!(found, expected, "{peer} {lines:?}");
    }
}

#[test]
fn only_the_chosen_field_is_read() {
    let mut both = headers("x-forwarded-for", &["203.0.113.5"]);
    both.insert("forwarded", HeaderValue::from_static("for=198.51.100.7"));
    let clients = behind_proxies(ForwardedBy::XForwardedFor);
    assert_eq!(key(&clients, PROXY, &both), "203.0.113.5");
    let clients = behind_proxies(ForwardedBy::Forwarded);
    assert_eq!(key(&clients, PROXY, &both), CLIENT);
}

#[test]
fn no_proxy_is_trusted_unless_named() {
    let clients = ClientKeys::builder().build().unwrap();
    for peer in ["127.0.0.1", PROXY, "::1"] {
        let forged = headers("x-forwarded-for", &["203.0.113.5"]);
        let found = clients.address(Some(peer.parse().unwrap()), &forged);
        assert_eq!(found, Some(peer.parse().unwrap()));
    }
}

#[test]
fn the_full_address_is_told_beside_the_key() {
    let clients = behind_proxies(ForwardedBy::XForwardedFor);
    let chain = headers("x-forwarded-for", &["2001:db8:1:2:3::9"]);
    let address = clients.address(PROXY.parse().ok(), &chain).unwrap();
    assert_eq!(address.to_string(), "2001:db8:1:2:3::9");
    assert_eq!(key(&clients, PROXY, &chain), "2001:db8:1:2::");
}

#[test]
fn without_a_peer_there_is_no_key_unless_a_shared_one_is_chosen() {
    let forged = headers("x-forwarded-for", &["203.0.113.5"]);
    let strict = behind_proxies(ForwardedBy::XForwardedFor);
    assert_eq!(strict.key(None, &forged), None);
    assert_eq!(strict.address(None, &forged), None);
    let builder = ClientKeys::builder().without_peer(WithoutPeer::Shared);
    let shared = builder.build().unwrap();
    assert_eq!(shared.key(None, &forged), Some(ClientKey::SHARED));
    assert_eq!(ClientKey::SHARED.network(), None);
}

#[test]
fn addresses_of_one_prefix_have_one_key() {
    let builder = ClientKeys::builder().ipv4_prefix(24).ipv6_prefix(48);
    let clients = builder.build().unwrap();
    let none = HeaderMap::new();
    assert_eq!(key(&clients, "192.0.2.9", &none), "192.0.2.0");
    assert_eq!(key(&clients, "2001:db8:1:2::9", &none), "2001:db8:1::");
    // Mapped addresses count as IPv4, not by the IPv6 prefix (which would join them all).
    assert_eq!(key(&clients, "::ffff:192.0.2.9", &none), "192.0.2.0");
}

#[test]
fn errors_name_the_setting_its_value_and_what_is_allowed() {
    let told = |builder: resilience_tower::client_key::ClientKeysBuilder| {
        builder.build().unwrap_err().to_string()
    };
    let builder = ClientKeys::builder;
    assert_eq!(
        told(builder().ipv4_prefix(33)),
        "ipv4_prefix is 33, allowed: 1 to 32"
    );
    assert_eq!(
        told(builder().ipv6_prefix(0)),
        "ipv6_prefix is 0, allowed: 1 to 128"
    );
    assert_eq!(
        told(builder().trust_proxies(["proxy.example"])),
        "trusted_proxies is proxy.example, allowed: IP addresses and CIDR ranges"
    );
    assert!(told(builder().trust_proxies(["10.1.0.0/8"])).contains("as 10.0.0.0/8"));
}

#[cfg(feature = "serde")]
#[test]
fn settings_from_a_file_are_checked_as_those_from_code() {
    let clients: ClientKeys = serde_json::from_str(
        r#"{"trusted_proxies": ["10.0.0.0/8"], "forwarded_by": "forwarded", "ipv6_prefix": 56,
            "without_peer": "shared"}"#,
    )
    .unwrap();
    let chain = headers("forwarded", &[r#"for="[2001:db8:1:2ff::1]""#]);
    assert_eq!(key(&clients, PROXY, &chain), "2001:db8:1:200::");
    assert_eq!(clients.key(None, &chain), Some(ClientKey::SHARED));
    for refused in [
        r#"{"trusted_proxies": ["10.0.0.1/8"]}"#,
        r#"{"ipv4_prefix": 0}"#,
        r#"{"forwarded_by": "x-real-ip"}"#,
        r#"{"trusted": []}"#,
    ] {
        assert!(
            serde_json::from_str::<ClientKeys>(refused).is_err(),
            "{refused}"
        );
    }
}

#[test]
fn a_rule_with_a_peer_function_reads_the_request() {
    let by_client = behind_proxies(ForwardedBy::XForwardedFor)
        .of(|request: &Request<()>| request.extensions().get::<IpAddr>().copied());
    let mut request = Request::builder()
        .header("x-forwarded-for", CLIENT)
        .body(())
        .unwrap();
    assert_eq!(by_client.key(&request), None);
    request
        .extensions_mut()
        .insert::<IpAddr>(PROXY.parse().unwrap());
    assert_eq!(by_client.clone().key(&request).unwrap().to_string(), CLIENT);
    assert!(format!("{by_client:?}").contains("10.0.0.0/8"));
}

/// What a header line can carry at most: any byte but controls.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop::sample::select(b",;=\"\\ \t:[]%_.".to_vec()),
        4 => prop::sample::select(b"0123456789abcdefor".to_vec()),
        1 => 0x20_u8..0x7f,
        1 => 0x80_u8..=0xff,
    ];
    let pieces = prop_oneof![
        3 => prop::collection::vec(byte, 0..12),
        1 => any::<Ipv4Addr>().prop_map(|ip| format!("for={ip}, ").into_bytes()),
        1 => any::<Ipv4Addr>().prop_map(|ip| format!("{ip},").into_bytes()),
        1 => any::<Ipv6Addr>().prop_map(|ip| format!("for=\"[{ip}]:1\",").into_bytes()),
        1 => Just(b"10.0.0.3, ".to_vec()),
    ];
    prop::collection::vec(pieces, 0..6).prop_map(|pieces| pieces.concat())
}

fn field() -> impl Strategy<Value = ForwardedBy> {
    prop::sample::select(vec![ForwardedBy::XForwardedFor, ForwardedBy::Forwarded])
}

fn name(field: ForwardedBy) -> &'static str {
    match field {
        ForwardedBy::Forwarded => "forwarded",
        _ => "x-forwarded-for",
    }
}

/// The entry that a proxy writes for its peer.
fn entry(field: ForwardedBy, peer: IpAddr, port: Option<u16>) -> String {
    let node = match (peer, port) {
        (IpAddr::V4(v4), None) => v4.to_string(),
        (IpAddr::V4(v4), Some(port)) => format!("{v4}:{port}"),
        (IpAddr::V6(v6), None) => format!("[{v6}]"),
        (IpAddr::V6(v6), Some(port)) => format!("[{v6}]:{port}"),
    };
    match field {
        ForwardedBy::Forwarded => format!("by=_edge;For=\"{node}\";host=\"a,b;c\\\"\""),
        _ => node,
    }
}

fn untrusted() -> impl Strategy<Value = IpAddr> {
    any::<IpAddr>().prop_filter("not one of the proxies", |ip| match ip.to_canonical() {
        IpAddr::V4(v4) => v4.octets()[0] != 10,
        IpAddr::V6(v6) => v6.segments()[..3] != [0x2001, 0xdb8, 0xff],
    })
}

proptest! {
    /// The client writes whatever it likes; one to three proxies of ours append to the line, or
    /// add a line. The key is the client's, always.
    #[test]
    fn no_text_of_a_client_changes_its_key(
        field in field(),
        written in prop::collection::vec(line(), 0..4),
        client in untrusted(),
        port in any::<Option<u16>>(),
        own_line in any::<bool>(),
        proxies in 0..3_u8,
    ) {
        let mut lines = written;
        let mut append = |text: String| match lines.last_mut() {
            Some(last) if !own_line => {
                last.extend_from_slice(b", ");
                last.extend_from_slice(text.as_bytes());
            }
            _ => lines.push(text.into_bytes()),
        };
        append(entry(field, client, port));
        for proxy in 0..proxies {
            append(entry(field, Ipv4Addr::new(10, 0, 0, proxy).into(), port));
        }
        let mut headers = HeaderMap::new();
        for line in &lines {
            headers.append(name(field), HeaderValue::from_bytes(line).unwrap());
        }
        let clients = behind_proxies(field);
        let found = clients.key(PROXY.parse().ok(), &headers);
        let honest = clients.key(Some(client), &HeaderMap::new());
        prop_assert_eq!(found, honest);
    }

    /// A stranger that connects directly is itself, whatever it sends.
    #[test]
    fn no_text_of_an_untrusted_peer_is_read(
        field in field(),
        written in prop::collection::vec(line(), 0..4),
        peer in untrusted(),
    ) {
        let mut headers = HeaderMap::new();
        for line in &written {
            headers.append(name(field), HeaderValue::from_bytes(line).unwrap());
        }
        let clients = behind_proxies(field);
        prop_assert_eq!(clients.address(Some(peer), &headers), Some(peer.to_canonical()));
    }

    /// Any bytes at all, from a trusted peer: an answer, and no panic.
    #[test]
    fn any_text_has_an_answer(field in field(), written in prop::collection::vec(line(), 0..6)) {
        let mut headers = HeaderMap::new();
        for line in &written {
            headers.append(name(field), HeaderValue::from_bytes(line).unwrap());
        }
        prop_assert!(behind_proxies(field).key(PROXY.parse().ok(), &headers).is_some());
    }

    /// The key forgets the host part and nothing else.
    #[test]
    fn a_key_is_the_address_without_the_bits_behind_the_prefix(
        one in any::<u128>(),
        other in any::<u128>(),
        bits in 1..=128_u8,
    ) {
        let clients = ClientKeys::builder().ipv6_prefix(bits).build().unwrap();
        let key = |raw: u128| clients.key(Some(Ipv6Addr::from_bits(raw).into()), &HeaderMap::new());
        let shift = 128 - u32::from(bits);
        let mapped = |raw| Ipv6Addr::from_bits(raw).to_ipv4_mapped().is_some();
        prop_assume!(!mapped(one) && !mapped(other));
        prop_assert_eq!(key(one) == key(other), one >> shift == other >> shift);
        let mixed = (one >> shift << shift) | other.checked_shr(u32::from(bits)).unwrap_or(0);
        prop_assume!(!mapped(mixed));
        prop_assert_eq!(key(one), key(mixed));
    }
}
