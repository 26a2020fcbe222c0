//! Senders behind proxies. Whatever a client writes into the header before the proxies add
//! their hops, or into texts that a proxy quotes, the sender is the address that the last
//! trusted proxy saw, or nobody. And any header at all is read as the documented rule says.
#![no_main]

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Request, header::FORWARDED};
use libfuzzer_sys::fuzz_target;
use resilience_fuzz::{
    Choices,
    webhook::forwarded::{ADDRESSES, RANGES, Range, canonical, sender, within},
};
use webhook_verify::{ForwardedBy, IpPolicy, IpRules, Secret, Step, Verifier, presets};

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let _ = match choices.byte() {
        Some(0..=31) => range(choices),
        Some(byte) => walk(choices, byte & 1 == 1, byte & 2 == 2),
        None => None,
    };
});

/// A range by its numbers: taken without host bits only, and it holds what its bits say.
fn range(mut choices: Choices<'_>) -> Option<()> {
    let mut bytes = [0; 4];
    for byte in &mut bytes {
        *byte = choices.byte()?;
    }
    let length = choices.below(40)?;
    let base = u32::from_be_bytes(bytes);
    let mask = (!0_u64 << (32 - length.min(32))) as u32;
    let fits = length <= 32 && base & !mask == 0;
    let text = format!("{}/{length}", std::net::Ipv4Addr::from(base));
    let rules = IpRules::default().trust_proxies([&text]);
    assert_eq!(rules.is_ok(), fits, "{text}");
    let Ok(rules) = rules else { return None };
    let flipped = base ^ (1_u32 << choices.below(32)?);
    let peer = IpAddr::from(std::net::Ipv4Addr::from(flipped));
    let headers: HeaderMap = [(name(false), HeaderValue::from_static("::1"))]
        .into_iter()
        .collect();
    let inside = flipped & mask == base;
    let expected = if inside {
        "::1".parse().ok()
    } else {
        Some(peer)
    };
    assert_eq!(IpPolicy::new(rules).sender(Some(peer), &headers), expected);
    Some(())
}

fn name(rfc_7239: bool) -> HeaderName {
    if rfc_7239 {
        FORWARDED
    } else {
        HeaderName::from_static("x-forwarded-for")
    }
}

fn ranges(choices: &mut Choices<'_>) -> Option<Vec<Range>> {
    let bits = choices.short()?;
    let chosen = RANGES
        .iter()
        .enumerate()
        .filter(|(i, _)| bits >> i & 1 == 1);
    Some(chosen.map(|(_, range)| *range).collect())
}

fn ip(choices: &mut Choices<'_>) -> Option<IpAddr> {
    choices.one_of(&ADDRESSES)?.parse().ok()
}

fn walk(mut choices: Choices<'_>, rfc_7239: bool, proxies: bool) -> Option<()> {
    let trusted = ranges(&mut choices)?;
    let allowed = ranges(&mut choices)?;
    let texts = |ranges: &[Range]| ranges.iter().map(|(text, _)| *text).collect::<Vec<_>>();
    let by = match rfc_7239 {
        true => ForwardedBy::Forwarded,
        false => ForwardedBy::XForwardedFor,
    };
    let rules = IpRules::allow(texts(&allowed)).ok()?;
    let rules = rules.trust_proxies(texts(&trusted)).ok()?.forwarded_by(by);
    let policy = IpPolicy::new(rules);
    let peer = match choices.byte()? {
        255 => None,
        byte => ADDRESSES[usize::from(byte) % ADDRESSES.len()].parse().ok(),
    };
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let truth = match (proxies, peer) {
        (true, Some(peer)) => Some(chain(&mut choices, &trusted, rfc_7239, peer, &mut lines)?),
        _ => {
            for _ in 0..choices.below(4)? {
                lines.push(text(&mut choices)?);
            }
            None
        }
    };
    let name = name(rfc_7239);
    let mut headers = HeaderMap::new();
    for line in &lines {
        headers.append(&name, HeaderValue::from_bytes(line).ok()?);
    }
    // The other header is never read.
    let other = self::name(!rfc_7239);
    headers.append(other, HeaderValue::from_static("192.0.2.7"));
    let found = policy.sender(peer, &headers);
    assert_eq!(
        found,
        sender(&trusted, rfc_7239, peer, &lines),
        "{headers:?}"
    );
    if let Some(Truth { ip, readable }) = truth {
        assert!(
            found == Some(ip) || (found.is_none() && !readable),
            "{headers:?}"
        );
    }
    let (mut parts, ()) = Request::post("/").body(()).ok()?.into_parts();
    parts.headers = headers;
    let verifier = Verifier::builder(presets::github())
        .secret(Secret::new("k", "key").ok()?)
        .source(policy)
        .build()
        .ok()?;
    let error = verifier
        .verify(&parts, peer, b"")
        .expect_err("it is not signed");
    let allowed = found.is_some_and(|ip| within(&allowed, ip));
    assert_eq!(error.step() != Step::Source, allowed);
    Some(())
}

/// The address that the proxies saw, and whether their hops are within what is read.
struct Truth {
    ip: IpAddr,
    readable: bool,
}

/// What reaches us after a client wrote what it liked and each proxy added its peer. `None`
/// as well when the client is trusted: then it is believed.
fn chain(
    choices: &mut Choices<'_>,
    trusted: &[Range],
    rfc_7239: bool,
    peer: IpAddr,
    lines: &mut Vec<Vec<u8>>,
) -> Option<Truth> {
    let mut hops = vec![peer];
    while within(trusted, canonical(*hops.last()?)) {
        hops.push(ip(choices)?);
    }
    if choices.below(2)? == 1 {
        lines.push(text(choices)?);
    }
    let mut readable = true;
    for hop in hops.iter().skip(1).rev() {
        let element = if rfc_7239 {
            element(choices, *hop)?
        } else {
            bare(choices, *hop)?
        };
        readable &= !rfc_7239 || is_read(&element);
        match lines.last_mut() {
            Some(line) if choices.below(4)? > 0 => {
                line.extend_from_slice(b", ");
                line.extend_from_slice(&element);
            }
            _ => lines.push(element),
        }
    }
    Some(Truth {
        ip: canonical(*hops.last()?),
        readable,
    })
}

/// Elements with a comma, a backslash or no text in quotes are not read.
fn is_read(element: &[u8]) -> bool {
    let text = std::str::from_utf8(element);
    text.is_ok_and(|text| !text.contains([',', '\\']))
}

fn bare(choices: &mut Choices<'_>, hop: IpAddr) -> Option<Vec<u8>> {
    let port = choices.below(3)?;
    let text = match (hop, port) {
        (_, 0) => hop.to_string(),
        (IpAddr::V4(_), _) => format!("{hop}:8080"),
        (IpAddr::V6(_), 1) => format!("[{hop}]:1"),
        (IpAddr::V6(_), _) => format!("[{hop}]"),
    };
    Some(text.into_bytes())
}

/// A well-formed element with parameters around `for`, some with a client's text in quotes.
fn element(choices: &mut Choices<'_>, hop: IpAddr) -> Option<Vec<u8>> {
    let mut pairs = Vec::new();
    for _ in 0..choices.below(3)? {
        let name = choices.one_of(&["host", "proto", "by", "ext"])?;
        pairs.push([name.as_bytes(), b"=", &quoted(&text(choices)?)].concat());
    }
    let name = choices.one_of(&["for", "For", "FOR"])?;
    let address = match hop {
        IpAddr::V4(_) => bare(choices, hop)?,
        IpAddr::V6(_) => format!("[{hop}]").into_bytes(),
    };
    let plain = address
        .iter()
        .all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let value = if plain { address } else { quoted(&address) };
    let at = choices.below(pairs.len() + 1)?;
    pairs.insert(at, [name.as_bytes(), b"=", &value].concat());
    let between = choices.one_of(&[";", "; ", " ;"])?;
    Some(pairs.join(between.as_bytes()))
}

/// A quoted string (RFC 9110), as a proxy writes it.
fn quoted(text: &[u8]) -> Vec<u8> {
    let mut all = vec![b'"'];
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            all.push(b'\\');
        }
        all.push(*byte);
    }
    all.push(b'"');
    all
}

/// Text in which forged hops are likely. Bytes that no header can hold are left out.
fn text(choices: &mut Choices<'_>) -> Option<Vec<u8>> {
    const WORDS: [&str; 24] = [
        "for=",
        "For=",
        "\"",
        "\\",
        ",",
        ";",
        " ",
        "=",
        "[",
        "]",
        ":80",
        "10.0.0.1",
        "192.0.2.7",
        "203.0.113.5",
        "2001:db8::1",
        "::ffff:10.0.0.1",
        "unknown",
        "_hidden",
        "host=",
        "\t",
        "[2001:db8::1]:1",
        "for=\"10.0.0.1\"",
        "for=10.0.0.2",
        ", for=10.0.0.1",
    ];
    let mut all = Vec::new();
    for _ in 0..choices.below(10)? {
        match choices.byte()? {
            byte @ 0..=223 => {
                all.extend_from_slice(WORDS[usize::from(byte) % WORDS.len()].as_bytes())
            }
            _ => all.push(choices.byte()?),
        }
    }
    all.retain(|byte| *byte >= b' ' && *byte != 0x7f || *byte == b'\t');
    Some(all)
}
