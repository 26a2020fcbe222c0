//! Any head that an HTTP library hands over: no panic, and what the guard admits has one plain
//! host, one length, one coding and one path; a second guard sees no more in it than the first.
#![no_main]

use gateway_kit::guard::Guard;
use gateway_kit::path;
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};
use libfuzzer_sys::fuzz_target;
use resilience_fuzz::Choices;

const NAMES: [&str; 12] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "expect",
    "cookie",
    "keep-alive",
    "x-other",
    "content_length",
    "proxy-connection",
];

const VALUES: [&str; 32] = [
    "h",
    "h:80",
    "[::1]",
    "[::1]:80",
    "u@h",
    "a,b",
    "a/b",
    "h:",
    "h:65536",
    "3",
    "4",
    "+3",
    "0",
    "03",
    "3, 3",
    "0x3",
    "",
    "chunked",
    "Chunked",
    "gzip",
    "gzip, chunked",
    "chunked, chunked",
    "identity",
    "upgrade",
    "Upgrade, close",
    "websocket",
    "h2c",
    "trailers",
    "trailers, gzip",
    "100-continue",
    "tea",
    "18446744073709551616",
];

const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "CONNECT", "TRACE", "get", "BREW", "OPTIONS",
];

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let _ = run(&mut choices);
});

fn run(choices: &mut Choices<'_>) -> Option<()> {
    let version = choices.one_of(&[Version::HTTP_10, Version::HTTP_11, Version::HTTP_2])?;
    let method = choices.one_of(&METHODS)?;
    let mut request = Request::builder().version(version).method(method);
    for _ in 0..choices.below(7)? {
        let name = HeaderName::from_static(choices.one_of(&NAMES)?);
        let value = match choices.byte()? {
            byte @ 0..=223 => HeaderValue::from_static(VALUES[usize::from(byte) % VALUES.len()]),
            byte => {
                let length = usize::from(byte - 223);
                let bytes: Option<Vec<u8>> = (0..length).map(|_| choices.byte()).collect();
                HeaderValue::from_bytes(&bytes?).ok()?
            }
        };
        request = request.header(name, value);
    }
    let target: Vec<u8> = std::iter::from_fn(|| choices.byte()).collect();
    let uri = match target.as_slice() {
        [] => Uri::from_static("/"),
        target => Uri::try_from(target).ok()?,
    };
    let request = request.uri(uri).body(()).ok()?;
    let (mut parts, ()) = request.into_parts();
    let Ok(checked) = Guard::new().check(&mut parts) else {
        return None;
    };
    let what = format!("{parts:?}");
    let all = |name: &str| -> Vec<&[u8]> {
        let values = parts.headers.get_all(name).iter();
        values.map(HeaderValue::as_bytes).collect()
    };
    assert!(
        ![Method::CONNECT, Method::TRACE].contains(&parts.method),
        "{what}"
    );
    assert_eq!(
        path::canonical_with_slashes(&checked.path)
            .map(|found| found.path.into_owned())
            .as_ref(),
        Ok(&checked.path),
        "{what}"
    );
    match all("host").as_slice() {
        [] => assert_eq!(version, Version::HTTP_10, "{what}"),
        [host] => {
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~[]:".contains(byte);
            assert!(!host.is_empty() && host.iter().all(plain), "{what}");
        }
        _ => panic!("two hosts: {what}"),
    }
    let lengths = all("content-length");
    for length in &lengths {
        assert!(
            !length.is_empty() && length.iter().all(u8::is_ascii_digit),
            "{what}"
        );
        assert_eq!(*length, lengths[0], "{what}");
    }
    let codings = all("transfer-encoding");
    assert_eq!(checked.chunked, !codings.is_empty(), "{what}");
    if checked.chunked {
        assert!(
            codings.len() == 1 && codings[0].eq_ignore_ascii_case(b"chunked"),
            "{what}"
        );
        assert!(lengths.is_empty() && version == Version::HTTP_11, "{what}");
    }
    if version == Version::HTTP_2 {
        for name in ["connection", "upgrade", "keep-alive", "proxy-connection"] {
            assert!(all(name).is_empty(), "{what}");
        }
        assert!(
            all("te")
                .iter()
                .all(|te| te.eq_ignore_ascii_case(b"trailers")),
            "{what}"
        );
    }
    if checked.upgrade {
        assert_eq!(all("upgrade").len(), 1, "{what}");
        assert!(version == Version::HTTP_11 && !checked.chunked, "{what}");
    }
    assert!(all("expect").is_empty(), "{what}");
    // As it is passed on, it is what it was.
    let again = Guard::new().check(&mut parts.clone());
    assert_eq!(again, Ok(checked), "{what}");
    Some(())
}
