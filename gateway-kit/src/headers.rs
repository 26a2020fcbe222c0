//! Header fields that end here, and those the gateway adds.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, Entry, FORWARDED, HOST, HeaderName, HeaderValue, TE,
};
use http::{HeaderMap, header};

/// The correlation id, taken from the client when well formed, passed on and returned.
pub(crate) const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Fields that concern one connection only (RFC 9110, section 7.6.1), whatever `Connection`
/// says. `Transfer-Encoding` is set anew by whoever writes the next message. `Trailer` stays:
/// it announces fields that are passed on.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            // Half of an h2c upgrade (RFC 7540, section 3.2.1), which is never passed on.
            | "http2-settings"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Fields that `Connection` cannot name away: without them the message would be read
/// differently, or what the gateway vouches for would be lost.
fn is_protected(name: &HeaderName) -> bool {
    [HOST, CONTENT_LENGTH, header::CONTENT_TYPE, header::TRAILER].contains(name)
        || is_ours(name.as_str())
}

/// Fields that the gateway sets.
fn is_ours(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || [
            FORWARDED.as_str(),
            X_REAL_IP.as_str(),
            CORRELATION_ID.as_str(),
        ]
        .contains(&name)
}

/// The form that names have in common which some server may take for the same: all that is no
/// letter or digit is one character to it.
pub(crate) fn folded(name: &str) -> String {
    let fold = |one: char| {
        if one.is_ascii_alphanumeric() {
            one
        } else {
            '-'
        }
    };
    name.to_ascii_lowercase().chars().map(fold).collect()
}

/// Fields that a configuration must not have the gateway set: a message would be read otherwise.
#[cfg(feature = "jwt")]
pub(crate) fn is_reserved(name: &HeaderName) -> bool {
    let folded = folded(name.as_str());
    let is = |reserved: &HeaderName| reserved.as_str() == folded;
    is_ours(&folded)
        || is_hop_by_hop(&folded)
        || [
            HOST,
            CONTENT_LENGTH,
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            header::TRAILER,
            header::EXPECT,
            header::AUTHORIZATION,
            header::COOKIE,
            header::ORIGIN,
        ]
        .iter()
        .any(is)
}

/// Removes fields whose names fold to one of `names`, which are folded.
pub(crate) fn remove_folded(headers: &mut HeaderMap, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let is_one = |name: &&HeaderName| {
        let folded = folded(name.as_str());
        names.contains(&folded)
    };
    let found: Vec<HeaderName> = headers.keys().filter(is_one).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// Fields that no transform may change: those of the connection and the framing, the host, and
/// what the gateway vouches for, also under names that some servers take for the same.
pub(crate) fn is_fixed(name: &HeaderName) -> bool {
    let folded = folded(name.as_str());
    let framing = [CONTENT_LENGTH, HOST, header::EXPECT, header::TRAILER];
    let is_framing = framing.iter().any(|reserved| reserved == folded.as_str());
    is_hop_by_hop(&folded) || is_framing || is_ours(&folded)
}

/// The elements of a list field, without white space around them and without empty ones.
pub(crate) fn list<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'h [u8]> {
    let lines = headers.get_all(name).into_iter();
    let elements = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    elements
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Removes what concerns one connection only: the list above and all that `Connection` names.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let found = |name: &&HeaderName| is_hop_by_hop(name.as_str());
    // A look at each name that is there costs less than looking for each that may be.
    while let Some(name) = headers.keys().find(found).cloned() {
        if name == CONNECTION {
            remove_named(headers);
        }
        headers.remove(name);
    }
}

/// Removes what `Connection` names.
fn remove_named(headers: &mut HeaderMap) {
    let options = headers.get_all(CONNECTION).iter();
    let named: Vec<HeaderName> = options
        // Nearly all say this, and it is removed anyway.
        .filter(|value| !value.as_bytes().eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| !is_protected(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// The same for a request; `TE: trailers` is kept, as gRPC needs it.
pub(crate) fn remove_request_hop_by_hop(headers: &mut HeaderMap) {
    let trailers = headers
        .get_all(&TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"));
    remove_hop_by_hop(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        // RFC 9110, section 10.1.4: TE goes with the connection option of its name.
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
}

/// Removes what must not come in trailers (RFC 9110, section 6.5.1): fields of framing, routing,
/// authentication, content and control, by which whoever merges trailers into the head would be
/// told something else than was checked, and what the gateway vouches for.
pub(crate) fn remove_from_trailers(trailers: &mut HeaderMap) {
    let barred: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| !may_be_trailer(name.as_str()))
        .cloned()
        .collect();
    for name in barred {
        trailers.remove(name);
    }
}

fn may_be_trailer(name: &str) -> bool {
    const BARRED: [&str; 41] = [
        "age",
        "allow",
        "authorization",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-length",
        "content-location",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expect",
        "expires",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "location",
        "max-forwards",
        "origin",
        "pragma",
        "range",
        "referer",
        "refresh",
        "retry-after",
        "set-cookie",
        "strict-transport-security",
        "trailer",
        "traceparent",
        "tracestate",
        "user-agent",
        "vary",
        "via",
        "warning",
        "www-authenticate",
        "x-api-key",
        "x-http-method-override",
    ];
    // Some servers take both for one name.
    let folded = name.replace('_', "-");
    !is_hop_by_hop(&folded) && !is_ours(&folded) && !BARRED.contains(&folded.as_str())
}

/// Who sent a request, as far as it can be believed.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The other end of the connection.
    pub(crate) peer: IpAddr,
    /// The same as it is told to upstreams.
    pub(crate) address: HeaderValue,
    /// Whether the peer is one of our proxies.
    pub(crate) trusted: bool,
    /// `http` or `https`: how the request came to us.
    pub(crate) scheme: &'static str,
}

/// Tells the upstream where the request came from: `X-Forwarded-*`, `Forwarded` (RFC 7239) and
/// `X-Real-IP`. What an untrusted peer sent under these names is removed first, also under
/// names with `_` that some upstreams fold to the same.
pub(crate) fn set_forwarded(headers: &mut HeaderMap, origin: &Origin, client: IpAddr) {
    remove_folding(headers);
    if !origin.trusted {
        let spoofed: Vec<HeaderName> = headers
            .keys()
            .filter(|name| is_ours(name.as_str()) && **name != CORRELATION_ID)
            .cloned()
            .collect();
        for name in spoofed {
            headers.remove(name);
        }
    }
    let peer = origin.peer.to_canonical();
    let host = headers.get(HOST).cloned();
    let address = &origin.address;
    append(headers, X_FORWARDED_FOR, address.clone());
    let element = forwarded_element(peer, address, host.as_ref(), origin.scheme);
    if let Some(element) = value(element) {
        append(headers, FORWARDED, element);
    }
    if let Entry::Vacant(entry) = headers.entry(X_FORWARDED_PROTO) {
        entry.insert(HeaderValue::from_static(origin.scheme));
    }
    if let (Some(host), Entry::Vacant(entry)) = (host, headers.entry(X_FORWARDED_HOST)) {
        entry.insert(host);
    }
    let client = match client == peer {
        true => address.clone(),
        false => told(client),
    };
    headers.insert(X_REAL_IP, client);
}

/// The text as a value, without a copy.
fn value(text: impl Into<Bytes>) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(text.into()).ok()
}

fn remove_folding(headers: &mut HeaderMap) {
    let folding: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().contains('_'))
        .filter(|name| {
            let folded = name.as_str().replace('_', "-");
            is_ours(&folded)
                || matches!(
                    folded.as_str(),
                    "content-length" | "transfer-encoding" | "host"
                )
        })
        .cloned()
        .collect();
    for name in folding {
        headers.remove(name);
    }
}

/// Adds an element to a list field, as one line.
fn append(headers: &mut HeaderMap, name: HeaderName, element: HeaderValue) {
    let mut field = match headers.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(element);
            return;
        }
        Entry::Occupied(entry) => entry,
    };
    let mut line = Vec::new();
    for value in field.iter() {
        line.extend_from_slice(value.as_bytes());
        line.extend_from_slice(b", ");
    }
    line.extend_from_slice(element.as_bytes());
    if let Some(value) = value(line) {
        field.insert(value);
    }
}

/// An address as upstreams are told it.
pub(crate) fn told(address: IpAddr) -> HeaderValue {
    let text = address.to_canonical().to_string();
    // Digits, letters, dots and colons.
    value(text).unwrap_or_else(|| HeaderValue::from_static("unknown"))
}

fn forwarded_element(
    peer: IpAddr,
    address: &HeaderValue,
    host: Option<&HeaderValue>,
    scheme: &str,
) -> Vec<u8> {
    let (open, close): (&[u8], &[u8]) = match peer {
        IpAddr::V4(_) => (b"for=", b""),
        IpAddr::V6(_) => (b"for=\"[", b"]\""),
    };
    let mut element = Vec::with_capacity(96);
    for part in [open, address.as_bytes(), close] {
        element.extend_from_slice(part);
    }
    // The guard admits no quote or backslash in a host.
    if let Some(host) = host.and_then(|host| host.to_str().ok()) {
        for part in [";host=\"", host, "\""] {
            element.extend_from_slice(part.as_bytes());
        }
    }
    for part in [";proto=", scheme] {
        element.extend_from_slice(part.as_bytes());
    }
    element
}

/// The client's address: the peer, or what trusted peers say, read from the right up to the
/// first address that is not one of ours.
pub(crate) fn client_address(
    headers: &HeaderMap,
    origin: &Origin,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut client = origin.peer.to_canonical();
    if !origin.trusted {
        return client;
    }
    // By bytes: a line that is not ASCII must not be passed over, for then an older one counts.
    let lines: Vec<&[u8]> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    let hops = lines.iter().rev();
    for hop in hops.flat_map(|line| line.rsplit(|byte| *byte == b',')) {
        // An unreadable hop ends what can be believed.
        let hop = std::str::from_utf8(hop.trim_ascii()).ok();
        let Some(address) = hop.and_then(|hop| hop.parse::<IpAddr>().ok()) else {
            break;
        };
        client = address.to_canonical();
        if !is_trusted(client) {
            break;
        }
    }
    client
}

/// Whether the client came by TLS: to us, or to a proxy that is believed and says so once.
pub(crate) fn is_secure(headers: &HeaderMap, origin: &Origin) -> bool {
    if origin.scheme == "https" {
        return true;
    }
    if !origin.trusted {
        return false;
    }
    let mut said = headers.get_all(X_FORWARDED_PROTO).iter();
    let https = said.next().is_some_and(|one| one == "https");
    https && said.next().is_none()
}

/// The client's correlation id, if it is one that can be logged and passed on.
pub(crate) fn correlation_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(CORRELATION_ID).iter();
    let value = values.next()?;
    let id = value.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    let well_formed = (1..=128).contains(&id.len()) && id.bytes().all(plain);
    (well_formed && values.next().is_none()).then_some(value)
}

/// Whether an entity tag is weak (RFC 9110, section 8.8.3).
pub(crate) fn is_weak(tag: &HeaderValue) -> bool {
    tag.as_bytes().starts_with(b"W/")
}

/// Makes the entity tag weak: the bytes are others than those that it was given for.
pub(crate) fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG).filter(|tag| !is_weak(tag)) else {
        return;
    };
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        headers.insert(header::ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_lose_what_must_not_come_so_late_and_keep_the_rest() {
        let mut trailers = HeaderMap::new();
        for name in [
            "connection",
            "content-length",
            "content_length",
            "transfer-encoding",
            "Transfer_Encoding",
            "te",
            "trailer",
            "upgrade",
            "host",
            "authorization",
            "set-cookie",
            "cookie",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-real-ip",
            "forwarded",
            "x-correlation-id",
            "cache-control",
            "content-type",
            "location",
        ] {
            trailers.append(
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_static("x"),
            );
        }
        let kept = [
            "digest",
            "etag",
            "grpc-message",
            "grpc-status",
            "grpc-status-details-bin",
            "server-timing",
            "x-checksum",
        ];
        for name in kept {
            trailers.append(name, HeaderValue::from_static("1"));
            trailers.append(name, HeaderValue::from_static("2"));
        }
        remove_from_trailers(&mut trailers);
        let mut left: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, kept);
        assert_eq!(trailers.len(), 2 * kept.len());
    }

    /// Dropping one name from `is_hop_by_hop` makes a row fail.
    #[test]
    fn each_hop_by_hop_field_is_removed() {
        for name in [
            "connection",
            "http2-settings",
            "keep-alive",
            "proxy-connection",
            "proxy-authenticate",
            "proxy-authentication-info",
            "proxy-authorization",
            "te",
            "transfer-encoding",
            "upgrade",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static("x"));
            headers.insert("x-stays", HeaderValue::from_static("1"));
            remove_hop_by_hop(&mut headers);
            assert!(!headers.contains_key(name), "{name}");
            assert!(headers.contains_key("x-stays"), "{name}");
        }
    }
}
