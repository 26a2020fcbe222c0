//! Whatever a client and the proxies before us wrote: who the client is, is what the last trusted
//! proxy saw; what an upstream is told is the same; and nothing that an untrusted peer said about
//! it gets there.
#![no_main]

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use resilience_fuzz::Choices;

const ADDRESSES: [&str; 8] = [
    "10.0.0.1",
    "10.0.0.2",
    "192.0.2.7",
    "203.0.113.5",
    "::ffff:10.0.0.1",
    "::ffff:192.0.2.7",
    "2001:db8::1",
    "fd00::1",
];

const NAMES: [&str; 16] = [
    "x-forwarded-for",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-user",
    "x-real-ip",
    "forwarded",
    "x_forwarded_for",
    "x-forwarded_for",
    "x_real_ip",
    "content_length",
    "transfer_encoding",
    "host",
    "x-correlation-id",
    "x-other",
    "x_other",
];

fn is_trusted(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(address) => address.segments()[0] == 0xfd00,
    }
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let _ = run(&mut choices);
});

fn run(choices: &mut Choices<'_>) -> Option<()> {
    let peer: IpAddr = choices.one_of(&ADDRESSES)?.parse().ok()?;
    let mut headers = HeaderMap::new();
    for _ in 0..choices.below(8)? {
        let name = HeaderName::from_static(choices.one_of(&NAMES)?);
        let value = HeaderValue::from_bytes(&text(choices)?).ok()?;
        // The guard admits one plain host.
        if name == "host" {
            headers.insert(name, HeaderValue::from_static("h.example"));
        } else {
            headers.append(name, value);
        }
    }
    let before = headers.clone();
    let client = gateway_kit::fuzzing::forward(&mut headers, peer, is_trusted);
    let peer = peer.to_canonical();

    assert_eq!(client, expected(&before, peer), "{before:?}");
    assert_eq!(one(&headers, "x-real-ip"), client.to_string());
    let list = one(&headers, "x-forwarded-for");
    assert_eq!(list.rsplit(", ").next(), Some(peer.to_string().as_str()));
    for name in [
        "x_forwarded_for",
        "x-forwarded_for",
        "x_real_ip",
        "content_length",
    ] {
        assert!(!headers.contains_key(name), "{name}");
    }
    // Whoever trusts us finds the same client.
    let hops = list.split(',').rev().map(str::trim);
    let mut found = None;
    for hop in hops {
        let Ok(hop) = hop.parse::<IpAddr>() else {
            break;
        };
        found = Some(hop.to_canonical());
        if !is_trusted(hop) {
            break;
        }
    }
    assert_eq!(found, Some(client), "{list}");
    if !is_trusted(peer) {
        assert_eq!(list, peer.to_string());
        assert_eq!(one(&headers, "x-forwarded-proto"), "http");
        assert!(!headers.contains_key("x-forwarded-user"));
        assert!(one(&headers, "forwarded").starts_with("for="));
        assert!(!one(&headers, "forwarded").contains(','));
    }
    // The rest is not touched.
    for name in ["x-other", "x_other", "x-correlation-id", "host"] {
        let all = |headers: &HeaderMap| headers.get_all(name).iter().cloned().collect::<Vec<_>>();
        assert_eq!(all(&headers), all(&before), "{name}");
    }
    Some(())
}

fn one(headers: &HeaderMap, name: &str) -> String {
    let mut values = headers.get_all(name).iter();
    let value = values.next().expect("it is set");
    assert!(values.next().is_none(), "{name} is there twice");
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Read from the right: the first address that is not trusted, or the last that can be read.
fn expected(headers: &HeaderMap, peer: IpAddr) -> IpAddr {
    let mut client = peer;
    let lines = headers.get_all("x-forwarded-for").iter();
    let mut hops: Vec<String> = Vec::new();
    for line in lines {
        let line = String::from_utf8_lossy(line.as_bytes()).into_owned();
        hops.extend(
            line.split(',')
                .map(|hop| hop.trim_matches([' ', '\t']).to_owned()),
        );
    }
    while is_trusted(client) {
        match hops.pop().map(|hop| hop.parse::<IpAddr>()) {
            Some(Ok(hop)) => client = hop.to_canonical(),
            Some(Err(_)) | None => break,
        }
    }
    client
}

fn text(choices: &mut Choices<'_>) -> Option<Vec<u8>> {
    const WORDS: [&str; 8] = [",", ", ", " ", ":80", "unknown", "for=", "\"", ";"];
    let mut all = Vec::new();
    for _ in 0..choices.below(6)? {
        match choices.byte()? {
            byte @ 0..=127 => {
                all.extend_from_slice(ADDRESSES[usize::from(byte) % 8].as_bytes());
            }
            byte @ 128..=239 => all.extend_from_slice(WORDS[usize::from(byte) % 8].as_bytes()),
            _ => all.push(choices.byte()?),
        }
    }
    all.retain(|byte| *byte >= b' ' && *byte != 0x7f || *byte == b'\t');
    Some(all)
}
