//! The sender's address, against a plain and slow reading of the same headers.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderValue, Request, request::Parts};
use proptest::{prelude::*, sample::select};
use webhook_verify::{
    ForwardedBy, IpPolicy, IpRangeError, IpRules, Reason, Secret, Signer, Step, Verifier, presets,
};

/// A range as it is written, and the same as bits: family, network, length.
type Range = (&'static str, (bool, u128, u32));

const RANGES: [Range; 8] = [
    ("10.0.0.0/8", (false, 0x0a00_0000, 8)),
    ("10.1.0.0/16", (false, 0x0a01_0000, 16)),
    ("192.0.2.7", (false, 0xc000_0207, 32)),
    ("::ffff:192.0.2.0/120", (false, 0xc000_0200, 24)),
    ("0.0.0.0/1", (false, 0, 1)),
    ("2001:db8::/32", (true, 0x2001_0db8 << 96, 32)),
    ("::1", (true, 1, 128)),
    ("::/0", (true, 0, 0)),
];

/// Inside and beside the ranges, and in two forms.
const ADDRESSES: [&str; 12] = [
    "10.0.0.1",
    "10.1.2.3",
    "11.0.0.1",
    "::ffff:10.0.0.1",
    "192.0.2.7",
    "192.0.2.8",
    "::ffff:c000:207",
    "128.0.0.1",
    "2001:db8::7",
    "2001:db9::7",
    "::1",
    "::10.0.0.1",
];

fn bits(ip: IpAddr) -> (bool, u128, u32) {
    match ip {
        IpAddr::V4(v4) => (false, u32::from(v4).into(), 32),
        IpAddr::V6(v6) => match v6.octets() {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d] => {
                (false, u32::from_be_bytes([a, b, c, d]).into(), 32)
            }
            octets => (true, u128::from_be_bytes(octets), 128),
        },
    }
}

fn is_in(ranges: &[Range], ip: IpAddr) -> bool {
    let (v6, address, width) = bits(ip);
    ranges.iter().any(|(_, (of_v6, network, length))| {
        let same = |bit: u32| (address ^ network) >> (width - 1 - bit) & 1 == 0;
        v6 == *of_v6 && (0..*length).all(same)
    })
}

/// A hop as a proxy writes it: an address, with a port or without.
fn read_hop(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let socket = || text.parse().map(|socket: SocketAddr| socket.ip());
    let ip: IpAddr = bare.unwrap_or(text).parse().or_else(|_| socket()).ok()?;
    Some(match bits(ip) {
        (false, v4, _) => IpAddr::from((v4 as u32).to_be_bytes()),
        (true, v6, _) => IpAddr::from(v6.to_be_bytes()),
    })
}

/// The walk, over a list of all hops from the left: peer last.
fn walk(trusted: &[Range], peer: &str, hops: &[Option<IpAddr>]) -> Option<IpAddr> {
    let mut all = hops.to_vec();
    all.push(read_hop(peer));
    let mut answer = None;
    while let Some(hop) = all.pop() {
        answer = Some(hop?);
        if !is_in(trusted, hop?) {
            break;
        }
    }
    answer
}

fn texts(ranges: &[Range]) -> Vec<&'static str> {
    ranges.iter().map(|range| range.0).collect()
}

fn signed(name: &'static str, lines: &[String]) -> Parts {
    let signer = Signer::new(presets::github(), Secret::new("k", "key").unwrap());
    let mut parts = Request::post("/").body(()).unwrap().into_parts().0;
    parts.headers = signer.sign(b"{}").unwrap();
    for line in lines {
        parts
            .headers
            .append(name, HeaderValue::from_str(line).unwrap());
    }
    parts
}

/// What the verifier says: the address, or the step and the reason.
fn judged(rules: IpRules, peer: Option<IpAddr>, parts: &Parts) -> Result<IpAddr, Reason> {
    let policy = IpPolicy::new(rules);
    let verifier = Verifier::builder(presets::github())
        .secret(Secret::new("k", "key").unwrap())
        .source(policy.clone())
        .build()
        .unwrap();
    match verifier.verify(parts, peer, b"{}") {
        Ok(verified) => {
            assert_eq!(policy.sender(peer, &parts.headers), verified.source());
            Ok(verified.source().unwrap())
        }
        Err(error) => {
            assert_eq!(error.step(), Step::Source);
            Err(error.reason().clone())
        }
    }
}

fn expected(allowed: &[Range], sender: Option<IpAddr>) -> Result<IpAddr, Reason> {
    match sender {
        None => Err(Reason::SourceUnknown),
        Some(ip) if is_in(allowed, ip) => Ok(ip),
        Some(ip) => Err(Reason::SourceDenied(ip)),
    }
}

fn some_ranges() -> impl Strategy<Value = Vec<Range>> {
    prop::collection::vec(select(&RANGES[..]), 0..4)
}

fn address() -> impl Strategy<Value = &'static str> {
    select(&ADDRESSES[..])
}

/// Mostly addresses, in the forms that proxies write; sometimes what is none.
fn hop() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => address().prop_map(str::to_owned),
        1 => address().prop_map(|ip| {
            if ip.contains(':') { format!("[{ip}]:443") } else { format!("{ip}:443") }
        }),
        1 => address().prop_map(|ip| {
            if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
        }),
        1 => select(vec![
            "", "unknown", "_hidden", "10.0.0.1.", "10.0.0", "010.0.0.1", "10.0.0.1:99999", "[::1",
            "::1]:443", "10.0.0.1 10.0.0.1", "10.0.0.1/8", "\u{b9}0.0.0.1", "for=10.0.0.1",
        ]).prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn x_forwarded_for_is_read_as_by_the_plain_walk(
        trusted in some_ranges(),
        allowed in some_ranges(),
        peer in address(),
        lines in prop::collection::vec(prop::collection::vec(hop(), 1..4), 0..4),
        blank in select(vec!["", " ", "\t", "  "]),
    ) {
        let hops: Vec<_> = lines.iter().flatten().map(|hop| read_hop(hop)).collect();
        let expected = expected(&allowed, walk(&trusted, peer, &hops));
        let lines: Vec<_> = lines.iter().map(|line| line.join(&format!("{blank},{blank}"))).collect();
        let rules = IpRules::allow(texts(&allowed)).unwrap().trust_proxies(texts(&trusted)).unwrap();
        let parts = signed("x-forwarded-for", &lines);
        prop_assert_eq!(judged(rules, peer.parse().ok(), &parts), expected);
    }

    /// Elements are written as RFC 7239 says, with text of a client's choice in quotes: the
    /// reader may give up, but what it reads is the `for` of the right element.
    #[test]
    fn forwarded_is_read_as_it_was_written_or_not_at_all(
        trusted in some_ranges(),
        allowed in some_ranges(),
        peer in address(),
        elements in prop::collection::vec((address(), client_text(), any::<[bool; 3]>()), 0..5),
        cut in 0_usize..5,
    ) {
        let plain = elements.iter().all(|(_, text, _)| !text.contains([',', '"', '\\']));
        let hops: Vec<_> = elements.iter().map(|(ip, ..)| read_hop(ip)).collect();
        let written: Vec<_> = elements.iter().map(|(ip, text, order)| element(ip, text, *order)).collect();
        let (one, two) = written.split_at(cut.min(written.len()));
        let lines = [one, two].map(|line| line.join(", "));
        let lines: Vec<_> = lines.into_iter().filter(|line| !line.is_empty()).collect();
        let rules = IpRules::allow(texts(&allowed)).unwrap().trust_proxies(texts(&trusted)).unwrap();
        let rules = rules.forwarded_by(ForwardedBy::Forwarded);
        let parts = signed("forwarded", &lines);
        let judged = judged(rules, peer.parse().ok(), &parts);
        if plain || judged != Err(Reason::SourceUnknown) {
            prop_assert_eq!(judged, expected(&allowed, walk(&trusted, peer, &hops)));
        }
    }

    /// Whatever the headers say, a peer that is no proxy speaks for itself.
    #[test]
    fn nothing_that_an_untrusted_peer_writes_counts(
        allowed in some_ranges(),
        peer in address(),
        text in "[ -~]{0,40}",
        forwarded: bool,
    ) {
        let mut rules = IpRules::allow(texts(&allowed)).unwrap();
        if forwarded {
            rules = rules.forwarded_by(ForwardedBy::Forwarded);
        }
        let expected = expected(&allowed, read_hop(peer));
        for name in ["x-forwarded-for", "forwarded"] {
            let parts = signed(name, std::slice::from_ref(&text));
            prop_assert_eq!(&judged(rules.clone(), peer.parse().ok(), &parts), &expected);
            prop_assert_eq!(judged(rules.clone(), None, &parts), Err(Reason::SourceUnknown));
        }
    }

    #[test]
    fn ranges_are_taken_exactly_when_no_bit_is_set_behind_the_prefix(
        bits: u32, length in 0_u32..40, v6: bool,
    ) {
        let width = if v6 { 128 } else { 32 };
        let address = if v6 {
            IpAddr::from((u128::from(bits) << 96).to_be_bytes())
        } else {
            IpAddr::from(bits.to_be_bytes())
        };
        let answer = IpRules::allow([format!("{address}/{length}")]);
        let behind = if length >= 32 { 0 } else { bits << length };
        match answer {
            Ok(_) => prop_assert!(behind == 0 && length <= width),
            Err(IpRangeError::HostBits { network, .. }) => {
                prop_assert!(behind != 0);
                prop_assert!(IpRules::allow([network.to_string()]).is_ok(), "the range meant");
                prop_assert!(network.contains(&address));
            }
            Err(_) => prop_assert!(length > width),
        }
    }
}

/// What a client may have in its `Host` or elsewhere, such as an element of its own.
fn client_text() -> impl Strategy<Value = String> {
    let part = select(vec![
        "example.com",
        ",",
        ";",
        "=",
        "for",
        "for=192.0.2.7",
        ", for=192.0.2.7, ",
        ";for=10.0.0.1;",
        "\"",
        "\\",
        " ",
        "\"for=192.0.2.7\"",
        "\\\"",
    ]);
    prop::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
}

/// One element as a careful proxy writes it: quoted where needed, with escapes.
fn element(ip: &str, text: &str, [first, upper, quoted]: [bool; 3]) -> String {
    let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let name = if upper { "For" } else { "for" };
    let ip = match (ip.contains(':'), quoted) {
        (true, _) => format!("\"[{ip}]\""),
        (false, true) => quote(ip),
        (false, false) => ip.to_owned(),
    };
    let pairs = [format!("{name}={ip}"), format!("host={}", quote(text))];
    let [one, two] = if first {
        pairs
    } else {
        [pairs[1].clone(), pairs[0].clone()]
    };
    format!("{one};{two};proto=https")
}

#[test]
fn the_reference_and_the_ranges_agree_on_what_they_mean() {
    let of = |ranges: &[Range], ip: &str| is_in(ranges, ip.parse().unwrap());
    assert!(of(&RANGES[..1], "10.255.0.1") && !of(&RANGES[..1], "11.0.0.0"));
    assert!(of(&RANGES[3..4], "::ffff:192.0.2.200") && !of(&RANGES[3..4], "192.0.3.0"));
    assert!(of(&RANGES[7..], "::2") && !of(&RANGES[7..], "::ffff:10.0.0.1"));
    let parts = signed("x-other", &[]);
    let v6 = IpRules::allow(["::/0"]).unwrap();
    let mapped = judged(v6, "::ffff:10.0.0.1".parse().ok(), &parts);
    assert_eq!(
        mapped,
        Err(Reason::SourceDenied("10.0.0.1".parse().unwrap()))
    );
}
