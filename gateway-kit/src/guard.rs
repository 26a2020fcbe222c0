//! The request guard: refuses requests that two servers could read in two ways.
//!
//! hyper has parsed the head and settled the framing. What it leaves unchecked is checked here:
//! the framing fields, method, target, `Host` and `:authority`, `Expect` and `Upgrade`. What can
//! be seen in the bytes only (a `Content-Length` beside a `Transfer-Encoding`, lines that end
//! without a CR) the gateway's own listener looks for and tells the guard.
//!
//! The guard works on its own, in front of any service on hyper:
//!
//! ```
//! use gateway_kit::guard::Guard;
//! use http::Request;
//!
//! let guard = Guard::new();
//! let request = Request::get("/a/../b?x=1").header("host", "shop.example").body(()).unwrap();
//! let (mut parts, ()) = request.into_parts();
//! assert_eq!(guard.check(&mut parts).unwrap().path, "/b");
//!
//! let request = Request::get("/").header("host", "u@shop.example").body(()).unwrap();
//! let refused = guard.check(&mut request.into_parts().0).unwrap_err();
//! assert_eq!((refused.status.as_u16(), refused.code), (400, "bad_host"));
//! ```

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use crate::path;

/// Checks request heads; see the [module](self).
#[derive(Clone, Debug, Default)]
pub struct Guard {
    extra_methods: Vec<Method>,
}

/// What the guard found out about a request.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Checked {
    /// The canonical path.
    pub path: String,
    /// The path holds a `%2F` or `%5C`: for routes that take such paths only.
    pub encoded_slash: bool,
    /// The body is chunked, so its length is not known beforehand.
    pub chunked: bool,
    /// The client asks to change to WebSocket, in the one form that is passed on: HTTP/1.1,
    /// `GET`, no body, `Connection: upgrade` and one `Upgrade: websocket`; or over HTTP/2 by
    /// `CONNECT` with this `:protocol` (RFC 8441), which is a `GET` from then on.
    pub upgrade: bool,
}

/// Why a request is not passed on.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{detail}")]
#[non_exhaustive]
pub struct Refused {
    /// The status to answer with.
    pub status: StatusCode,
    /// Stable; for programs.
    pub code: &'static str,
    /// For people; holds no text of the request.
    pub detail: Cow<'static, str>,
}

/// What the bytes of a head show and its parsed form hides; put into a request's extensions by
/// the side that reads the bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// `Content-Length` beside `Transfer-Encoding` (RFC 9112, section 6.1).
    LengthAndCoding,
    /// A line that ends with a bare LF (RFC 9112, section 2.2).
    BareLineFeed,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
        }
    }

    fn bad(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }
}

/// The methods that are passed on without being asked for.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

impl Guard {
    /// A guard that admits GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS.
    pub fn new() -> Self {
        Self::default()
    }

    /// Admits more methods. CONNECT without a protocol and TRACE stay refused.
    #[must_use]
    pub fn with_methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        for method in methods {
            if !METHODS.contains(&method) && !self.extra_methods.contains(&method) {
                self.extra_methods.push(method);
            }
        }
        self
    }

    /// Checks a head and brings its target and `Host` into the form that is passed on: `Host` is
    /// the authority of the target if it has one, cookies of HTTP/2 are joined.
    ///
    /// # Errors
    /// The request must not be passed on, and the connection should be closed.
    pub fn check(&self, parts: &mut Parts) -> Result<Checked, Refused> {
        let chunked = check_framing(parts)?;
        let extended = take_extended_connect(parts);
        self.check_method(&parts.method)?;
        check_expect(parts)?;
        check_host(parts)?;
        join_cookies(parts);
        let found = path::canonical_with_slashes(parts.uri.path())
            .map_err(|error| Refused::bad("bad_path", error.to_string()))?;
        Ok(Checked {
            encoded_slash: found.encoded_slash,
            path: found.path.into_owned(),
            chunked,
            upgrade: extended || wants_websocket(parts, chunked),
        })
    }

    /// The methods that are admitted, for `Allow`.
    pub(crate) fn allow(&self) -> String {
        let methods: Vec<&str> = METHODS
            .iter()
            .chain(&self.extra_methods)
            .map(Method::as_str)
            .collect();
        methods.join(", ")
    }

    fn check_method(&self, method: &Method) -> Result<(), Refused> {
        // CONNECT would make us a tunnel; TRACE would echo what we add.
        let never = *method == Method::CONNECT || *method == Method::TRACE;
        if never || !(METHODS.contains(method) || self.extra_methods.contains(method)) {
            return Err(Refused::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this method is not served here",
            ));
        }
        Ok(())
    }
}

/// Whether the body is chunked.
fn check_framing(parts: &Parts) -> Result<bool, Refused> {
    let ambiguous = |detail| Err(Refused::bad("ambiguous_framing", detail));
    match parts.extensions.get() {
        Some(Fault::LengthAndCoding) => {
            return ambiguous("Transfer-Encoding does not go with Content-Length or HTTP/1.0");
        }
        Some(Fault::BareLineFeed) => {
            return ambiguous("a line of the head does not end with CR LF");
        }
        None => {}
    }
    check_length(&parts.headers)?;
    if parts.version == Version::HTTP_2 {
        return check_http2(&parts.headers).map(|()| false);
    }
    let codings: Vec<&HeaderValue> = parts.headers.get_all(TRANSFER_ENCODING).iter().collect();
    let chunked = match codings.as_slice() {
        [] => return Ok(false),
        [only] => only.as_bytes().eq_ignore_ascii_case(b"chunked"),
        _ => false,
    };
    if !chunked {
        return Err(Refused::new(
            StatusCode::NOT_IMPLEMENTED,
            "unknown_transfer_coding",
            "the only transfer coding understood is one \"chunked\"",
        ));
    }
    if parts.version == Version::HTTP_10 || parts.headers.contains_key(CONTENT_LENGTH) {
        return ambiguous("Transfer-Encoding does not go with Content-Length or HTTP/1.0");
    }
    Ok(true)
}

/// One number, however often it is said.
fn check_length(headers: &HeaderMap) -> Result<(), Refused> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return Ok(());
    };
    let digits = !first.is_empty() && first.as_bytes().iter().all(u8::is_ascii_digit);
    let number = first
        .to_str()
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    if !digits || number.is_none() || lengths.any(|other| other != first) {
        return Err(Refused::bad(
            "ambiguous_framing",
            "Content-Length is not one number",
        ));
    }
    Ok(())
}

/// RFC 9113, section 8.2.2: fields of one connection make a request malformed. The library
/// below refuses them too; this holds without it.
fn check_http2(headers: &HeaderMap) -> Result<(), Refused> {
    let forbidden = [
        CONNECTION,
        TRANSFER_ENCODING,
        UPGRADE,
        http::HeaderName::from_static("keep-alive"),
        http::HeaderName::from_static("proxy-connection"),
    ];
    let te = headers.get_all(TE).iter();
    let mut te = te.filter(|value| !value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    if forbidden.iter().any(|name| headers.contains_key(name)) || te.next().is_some() {
        return Err(Refused::bad(
            "ambiguous_framing",
            "a field of one connection does not go with HTTP/2",
        ));
    }
    Ok(())
}

fn check_expect(parts: &mut Parts) -> Result<(), Refused> {
    let mut expectations = parts.headers.get_all(EXPECT).iter();
    match (expectations.next(), expectations.next()) {
        (None, _) => Ok(()),
        (Some(value), None) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            // hyper answers 100 as soon as the body is asked for.
            parts.headers.remove(EXPECT);
            Ok(())
        }
        _ => Err(Refused::new(
            StatusCode::EXPECTATION_FAILED,
            "unknown_expectation",
            "the only expectation understood is \"100-continue\"",
        )),
    }
}

fn check_host(parts: &mut Parts) -> Result<(), Refused> {
    let bad = |detail: &'static str| Refused::bad("bad_host", detail);
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let Some(authority) = parts.uri.authority() else {
        return match (host, second) {
            (_, Some(_)) => Err(bad("more than one Host")),
            (None, _) if parts.version == Version::HTTP_10 => Ok(()),
            (None, _) => Err(bad("Host is missing")),
            (Some(host), _) if !is_host(host.as_bytes()) => Err(bad("Host is malformed")),
            (Some(_), _) => Ok(()),
        };
    };
    let http2 = parts.version == Version::HTTP_2;
    match (host, second) {
        (_, Some(_)) => return Err(bad("more than one Host")),
        // Before HTTP/2 a client has to say Host beside an absolute target too.
        (None, _) if !http2 && parts.version != Version::HTTP_10 => {
            return Err(bad("Host is missing"));
        }
        (Some(host), _) if !is_host(host.as_bytes()) => return Err(bad("Host is malformed")),
        // RFC 9113, section 8.3.1.
        (Some(host), _)
            if http2
                && !host
                    .as_bytes()
                    .eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
        {
            return Err(bad("Host is not the :authority"));
        }
        _ => {}
    }
    // RFC 9112, section 3.2.2: the authority of an absolute-form target replaces Host.
    let malformed = "the authority of the target is malformed";
    let scheme = parts.uri.scheme_str().unwrap_or_default();
    if !matches!(scheme, "http" | "https") || !is_host(authority.as_str().as_bytes()) {
        return Err(bad(malformed));
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| bad(malformed))?;
    parts.headers.insert(HOST, host);
    Ok(())
}

/// `host [":" port]` with nothing that another server may take for a user, path or list.
fn is_host(host: &[u8]) -> bool {
    if is_plain_host(host) {
        return true;
    }
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~[]:".contains(byte);
    host.iter().all(plain)
        && std::str::from_utf8(host)
            .ok()
            .and_then(|host| host.parse::<Authority>().ok())
            .is_some_and(|authority| {
                let port = authority.as_str().strip_prefix(authority.host());
                is_name(authority.host()) && port.is_some_and(is_port)
            })
}

/// What nearly all are: a name of letters, digits, dots and hyphens, and perhaps a port. All else is
/// looked at in full.
fn is_plain_host(host: &[u8]) -> bool {
    let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let end = host.iter().position(|byte| !of_name(byte));
    match end.and_then(|end| host.split_at_checked(end)) {
        None => !host.is_empty(),
        Some((name, [b':', port @ ..])) => {
            let digits = port.iter().all(u8::is_ascii_digit);
            // Of five digits, texts are in the order of their numbers.
            let fits = port.len() < 5 || port.len() == 5 && port <= b"65535".as_slice();
            !name.is_empty() && digits && fits
        }
        Some(_) => false,
    }
}

/// A name or an address; IPv6 in brackets.
fn is_name(host: &str) -> bool {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match inner {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains(['[', ']']),
    }
}

/// Empty, or `:` with nothing or a number up to 65 535.
fn is_port(port: &str) -> bool {
    match port.strip_prefix(':') {
        None => port.is_empty(),
        Some("") => true,
        Some(number) => {
            number.bytes().all(|byte| byte.is_ascii_digit()) && number.parse::<u16>().is_ok()
        }
    }
}

/// A `CONNECT` that asks for WebSocket becomes the `GET` that it is over HTTP/1.1 (RFC 8441,
/// section 5). Any other stays what it is, and is refused.
fn take_extended_connect(parts: &mut Parts) -> bool {
    #[cfg(feature = "http2")]
    if parts.method == Method::CONNECT
        && parts.version == Version::HTTP_2
        && let Some(protocol) = parts.extensions.remove::<hyper::ext::Protocol>()
        && protocol.as_str().eq_ignore_ascii_case("websocket")
    {
        parts.method = Method::GET;
        return true;
    }
    let _ = parts;
    false
}

/// RFC 9113, section 8.2.3: a cookie may come in pieces, and HTTP/1.1 knows one line.
fn join_cookies(parts: &mut Parts) {
    if parts.version != Version::HTTP_2 {
        return;
    }
    let cookies: Vec<&[u8]> = parts
        .headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        parts.headers.insert(COOKIE, joined);
    }
}

/// Anything else than WebSocket is not passed on, h2c least of all: what is said on such a
/// connection would pass by every rule here.
fn wants_websocket(parts: &Parts, chunked: bool) -> bool {
    let mut protocols = parts.headers.get_all(UPGRADE).iter();
    let (Some(protocol), None) = (protocols.next(), protocols.next()) else {
        return false;
    };
    let connection = parts.headers.get_all(CONNECTION).iter();
    let mut options = connection
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let length = parts.headers.get(CONTENT_LENGTH);
    protocol.as_bytes().eq_ignore_ascii_case(b"websocket")
        && options.any(|option| option.trim().eq_ignore_ascii_case("upgrade"))
        && parts.version == Version::HTTP_11
        && parts.method == Method::GET
        && !chunked
        && length.is_none_or(|length| length == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(request: http::request::Builder) -> Result<(Parts, Checked), StatusCode> {
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let checked = Guard::new()
            .check(&mut parts)
            .map_err(|refused| refused.status)?;
        Ok((parts, checked))
    }

    fn get(uri: &str) -> http::request::Builder {
        http::Request::get(uri).header(HOST, "a.example:80")
    }

    #[test]
    fn one_plain_host_is_required() {
        assert!(checked(get("/")).is_ok());
        for host in ["[::1]:8080", "a:", "a:65535", "a:000080", "a-b.c:00080"] {
            let request = http::Request::get("/").header(HOST, host);
            assert!(checked(request).is_ok(), "{host}");
        }
        for hosts in [
            &[][..],
            &[""],
            &["a", "a"],
            &["a/b"],
            &["u@h"],
            &["a,b"],
            &["a b"],
            &["a:b"],
            &["a:65536"],
            &["a:065536"],
            &[":80"],
            &["[::g]"],
            &["[::1"],
            &["[::1]a"],
            &["a%2eb"],
        ] {
            let request = hosts.iter().fold(http::Request::get("/"), |request, host| {
                request.header(HOST, *host)
            });
            assert_eq!(
                checked(request).err(),
                Some(StatusCode::BAD_REQUEST),
                "{hosts:?}"
            );
        }
        assert!(checked(http::Request::get("/").version(Version::HTTP_10)).is_ok());
    }

    #[test]
    fn an_absolute_target_replaces_the_host() {
        let (parts, checked) = checked(get("http://b.example/x?y")).unwrap();
        assert_eq!(parts.headers[HOST], "b.example");
        assert_eq!(checked.path, "/x");
    }

    #[test]
    fn connect_and_trace_are_refused() {
        for method in [Method::CONNECT, Method::TRACE] {
            let refused = checked(get("/").method(method)).err();
            assert_eq!(refused, Some(StatusCode::METHOD_NOT_ALLOWED));
        }
    }

    #[test]
    fn only_one_chunked_coding_is_understood() {
        let te = |values: &[&str]| {
            values.iter().fold(get("/"), |request, value| {
                request.header(TRANSFER_ENCODING, *value)
            })
        };
        assert!(checked(te(&["chunked"])).unwrap().1.chunked);
        for values in [
            &["gzip"][..],
            &["gzip, chunked"],
            &["chunked", "chunked"],
            &[""],
        ] {
            let refused = checked(te(values)).err();
            assert_eq!(refused, Some(StatusCode::NOT_IMPLEMENTED), "{values:?}");
        }
        for request in [
            te(&["chunked"]).header(CONTENT_LENGTH, "3"),
            te(&["chunked"]).version(Version::HTTP_10),
        ] {
            assert_eq!(checked(request).err(), Some(StatusCode::BAD_REQUEST));
        }
    }

    #[test]
    fn an_unknown_expectation_is_refused_and_a_known_one_is_taken_off() {
        let (parts, _) = checked(get("/").header(EXPECT, "100-Continue")).unwrap();
        assert!(!parts.headers.contains_key(EXPECT));
        let refused = checked(get("/").header(EXPECT, "tea")).err();
        assert_eq!(refused, Some(StatusCode::EXPECTATION_FAILED));
    }
}
