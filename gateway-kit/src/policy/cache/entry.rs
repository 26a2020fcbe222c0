//! What a request is looked up by, and one answer that is kept.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AGE, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE,
    CONTENT_TYPE, COOKIE, DATE, ETAG, FORWARDED, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use super::directives::{self, Freshness};
use crate::body::Body;
use crate::headers::list;
use crate::metrics::Held;

/// The address of an answer: `host/path?query`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Key(Arc<str>);

impl Key {
    pub(super) fn new(host: &str, path: &str, query: Option<&str>) -> Self {
        let mut text = host.to_ascii_lowercase();
        text.push_str(path);
        if let Some(query) = query {
            text.push('?');
            text.push_str(query);
        }
        Self(text.into())
    }

    pub(super) fn from(address: &str) -> Self {
        Self(address.into())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A request as far as the cache goes by it.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) key: Key,
    pub(super) head: bool,
    /// It has credentials: what is kept is for it only if the answer says so.
    pub(super) authorized: bool,
    /// Its client's `Accept-Encoding` is not passed on.
    pub(super) without_encoding: bool,
    /// What the gateway, or a proxy before it, says of where the request came in. An upstream may
    /// build its answer on it and not say so.
    pub(super) came_in: Vec<u8>,
    /// The client's conditions, which are answered here.
    conditions: Vec<(HeaderName, HeaderValue)>,
}

impl Wanted {
    pub(super) fn new<B>(key: Key, request: &Request<B>, authorized: bool) -> Self {
        let headers = request.headers();
        let conditions = [IF_NONE_MATCH, IF_MODIFIED_SINCE].into_iter();
        let conditions = conditions.flat_map(|name| {
            let values = headers.get_all(&name).iter();
            values
                .map(move |value| (name.clone(), value.clone()))
                .collect::<Vec<_>>()
        });
        Self {
            key,
            head: request.method() == Method::HEAD,
            authorized: authorized || headers.contains_key(AUTHORIZATION),
            without_encoding: false,
            came_in: came_in(headers),
            conditions: conditions.collect(),
        }
    }

    /// Whether the client has what is kept (RFC 9110, section 13.2.2).
    fn has(&self, stored: &Stored) -> bool {
        if stored.status != StatusCode::OK {
            return false;
        }
        let by_tag = || {
            self.conditions
                .iter()
                .filter(|(name, _)| *name == IF_NONE_MATCH)
        };
        if by_tag().next().is_some() {
            let tag = stored.headers.get(ETAG).map(|tag| opaque(tag.as_bytes()));
            return by_tag().any(|(_, line)| names_tag(line.as_bytes(), tag));
        }
        let mut dates = self
            .conditions
            .iter()
            .filter(|(name, _)| *name == IF_MODIFIED_SINCE);
        let (Some((_, since)), None) = (dates.next(), dates.next()) else {
            return false;
        };
        let modified = stored.headers.get(LAST_MODIFIED).and_then(directives::date);
        match (modified, directives::date(since)) {
            (Some(modified), Some(since)) => modified <= since,
            _ => false,
        }
    }
}

/// What tells where a request came in: `X-Forwarded-*` and its like, but for the client's address, in
/// one order.
fn came_in(headers: &HeaderMap) -> Vec<u8> {
    let told = headers.iter().filter(|(name, _)| {
        let rest = name.as_str().strip_prefix("x-forwarded-");
        rest.is_some_and(|rest| rest != "for") || CAME_IN.contains(name)
    });
    let mut told: Vec<_> = told.collect();
    told.sort_by_key(|(name, _)| name.as_str());
    let mut text = Vec::new();
    for (name, value) in told {
        text.extend_from_slice(name.as_str().as_bytes());
        text.push(b':');
        text.extend_from_slice(value.as_bytes());
        text.push(b'\n');
    }
    // A proxy may pass on what a client wrote there. What is quoted may be cut wrongly, and is then
    // part of the key for nothing.
    for line in headers.get_all(FORWARDED) {
        let pairs = line.as_bytes().split(|byte| b",;".contains(byte));
        for pair in pairs.map(<[u8]>::trim_ascii) {
            let address = [&b"for="[..], b"by="].into_iter().any(|name| {
                let start = pair.get(..name.len());
                start.is_some_and(|start| start.eq_ignore_ascii_case(name))
            });
            if !address {
                text.extend_from_slice(pair);
                text.push(b'\n');
            }
        }
    }
    text
}

/// What some servers take the scheme from.
const CAME_IN: [HeaderName; 3] = [
    HeaderName::from_static("front-end-https"),
    HeaderName::from_static("x-scheme"),
    HeaderName::from_static("x-url-scheme"),
];

/// A tag without its `W/`.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Whether a line of `If-None-Match` names `tag`, by weak comparison.
fn names_tag(line: &[u8], tag: Option<&[u8]>) -> bool {
    let mut rest = line.trim_ascii();
    if rest == b"*" {
        return true;
    }
    let Some(tag) = tag else { return false };
    // A tag may have commas.
    while let Some(start) = rest.iter().position(|byte| *byte == b'"') {
        let inner = &rest[start + 1..];
        let Some(end) = inner.iter().position(|byte| *byte == b'"') else {
            return false;
        };
        if &rest[start..start + end + 2] == tag {
            return true;
        }
        rest = &inner[end + 1..];
    }
    false
}

/// What a request has for each field that an answer was chosen by.
pub(super) type Chosen = Vec<(HeaderName, Vec<u8>)>;

/// The values of the fields that `vary` names, as far as a name can be read.
pub(super) fn chosen_by<'n>(
    names: impl Iterator<Item = &'n HeaderName>,
    headers: &HeaderMap,
) -> Chosen {
    let values = names.map(|name| (name.clone(), values_of(name, headers)));
    values.collect()
}

fn values_of(name: &HeaderName, headers: &HeaderMap) -> Vec<u8> {
    let mut all = Vec::new();
    for value in headers.get_all(name) {
        // Told apart from a value with a comma, and from no value.
        all.push(b'\n');
        all.extend_from_slice(value.as_bytes());
    }
    all
}

/// An answer that is kept.
#[derive(Debug)]
pub(crate) struct Stored {
    status: StatusCode,
    /// What the client gets, but for `Age` and what tells of the cache.
    headers: HeaderMap,
    body: Bytes,
    pub(super) freshness: Freshness,
    /// When it came, by the clock of the gateway.
    at: Duration,
    pub(super) chosen: Chosen,
    came_in: Vec<u8>,
    pub(super) route: Arc<str>,
    pub(super) size: usize,
    _held: Held,
}

/// An answer as it came, or as it is now known to be.
pub(super) struct Came<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a Bytes,
}

/// What an answer costs beside its bytes.
const OVERHEAD: usize = 512;

impl Stored {
    /// Keeps an answer to `wanted`, whose request had the fields `asked`. Bytes are copied: they
    /// may be part of a buffer many times as large.
    pub(super) fn new(
        wanted: &Wanted,
        asked: &HeaderMap,
        came: &Came<'_>,
        route: &str,
        freshness: Freshness,
        times: Times,
        held: impl FnOnce(usize) -> Held,
    ) -> Self {
        let mut headers = HeaderMap::with_capacity(came.headers.len() + 2);
        let mut size = OVERHEAD + came.body.len() + wanted.key.0.len() + wanted.came_in.len();
        for (name, value) in came.headers {
            if *name == AGE || *name == CONTENT_LENGTH {
                continue;
            }
            size += name.as_str().len() + value.len() + 32;
            let value = HeaderValue::from_bytes(value.as_bytes());
            if let Ok(value) = value {
                headers.append(name.clone(), value);
            }
        }
        if !headers.contains_key(DATE) {
            headers.insert(DATE, directives::http_date(times.wall));
        }
        let names: Vec<HeaderName> = list(came.headers, &VARY)
            .filter_map(|name| HeaderName::from_bytes(name).ok())
            .collect();
        let chosen = chosen_by(names.iter(), asked);
        size += chosen
            .iter()
            .map(|(_, value)| value.len() + 64)
            .sum::<usize>();
        Self {
            status: came.status,
            headers,
            body: Bytes::copy_from_slice(came.body),
            freshness,
            at: times.clock,
            chosen,
            came_in: wanted.came_in.clone(),
            route: route.into(),
            size,
            _held: held(size),
        }
    }

    /// The same body under what a 304 says of it (RFC 9111, section 3.2).
    pub(super) fn with_news(&self, news: &HeaderMap) -> HeaderMap {
        let mut headers = self.headers.clone();
        // Fields of the bytes, which are the same.
        let fixed = [
            CONTENT_LENGTH,
            CONTENT_ENCODING,
            CONTENT_TYPE,
            CONTENT_RANGE,
        ];
        for name in news.keys().filter(|name| !fixed.contains(name)) {
            headers.remove(name);
            for value in news.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        headers
    }

    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Whether it is what `wanted`, with these fields, would get.
    pub(super) fn is_for(&self, wanted: &Wanted, headers: &HeaderMap) -> bool {
        self.is_like(wanted, headers) && (!wanted.authorized || self.freshness.for_authorized)
    }

    /// Whether a newer answer to the same request takes its place.
    pub(super) fn is_like(&self, wanted: &Wanted, headers: &HeaderMap) -> bool {
        let mut chosen = self.chosen.iter();
        self.came_in == wanted.came_in
            && chosen.all(|(name, value)| values_of(name, headers) == *value)
    }

    pub(super) fn age(&self, now: Duration) -> Duration {
        self.freshness
            .age
            .saturating_add(now.saturating_sub(self.at))
    }

    /// How long it is still fresh, or has been stale.
    pub(super) fn fresh(&self, now: Duration) -> Result<Duration, Duration> {
        let resident = now.saturating_sub(self.at);
        match self.freshness.time.checked_sub(resident) {
            Some(left) if !left.is_zero() => Ok(left),
            _ => Err(resident.saturating_sub(self.freshness.time)),
        }
    }

    /// Puts what an upstream is asked by into `headers`.
    pub(super) fn ask_about(&self, headers: &mut HeaderMap) {
        for (ask, known) in [(IF_NONE_MATCH, ETAG), (IF_MODIFIED_SINCE, LAST_MODIFIED)] {
            headers.remove(&ask);
            if let Some(value) = self.headers.get(known) {
                headers.insert(ask, value.clone());
            }
        }
    }

    /// Whether a 304 that came for it is about it.
    pub(super) fn is_meant(&self, news: &HeaderMap) -> bool {
        match (self.headers.get(ETAG), news.get(ETAG)) {
            (Some(known), Some(told)) => opaque(known.as_bytes()) == opaque(told.as_bytes()),
            _ => true,
        }
    }

    /// The answer for one client.
    pub(super) fn answer(&self, wanted: &Wanted, now: Duration) -> Response<Body> {
        let mut headers = self.headers.clone();
        headers.insert(AGE, self.age(now).as_secs().into());
        let mut response = Response::new(Body::empty());
        if wanted.has(self) {
            let of_body: Vec<HeaderName> = headers
                .keys()
                .filter(|name| name.as_str().starts_with("content-") && **name != CONTENT_LOCATION)
                .cloned()
                .collect();
            for name in of_body {
                headers.remove(name);
            }
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            *response.status_mut() = self.status;
            if self.status != StatusCode::NO_CONTENT {
                headers.insert(CONTENT_LENGTH, self.body.len().into());
            }
            if !wanted.head {
                *response.body_mut() = Body::from(self.body.clone());
            }
        }
        *response.headers_mut() = headers;
        response
    }
}

/// One moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// By the gateway's.
    pub(super) clock: Duration,
    /// In Unix time.
    pub(super) wall: Duration,
}

/// Why a request passes the cache by.
pub(super) fn bypass<B: http_body::Body>(
    request: &Request<B>,
    cookies: bool,
) -> Option<&'static str> {
    let headers = request.headers();
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return Some("method");
    }
    // A body that the key does not hold.
    let has_body = !request.body().is_end_stream();
    let by_cookie = !cookies && headers.contains_key(COOKIE);
    let named = BYPASS.iter().any(|name| headers.contains_key(name));
    (has_body || by_cookie || named).then_some("bypass")
}

/// Requests for a part or under a condition that only the service can judge, and fields by which
/// some frameworks take one request for another.
const BYPASS: [HeaderName; 12] = [
    http::header::RANGE,
    http::header::IF_RANGE,
    http::header::IF_MATCH,
    http::header::IF_UNMODIFIED_SINCE,
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-host"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-original-uri"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_among_others_also_with_commas() {
        let rows: [(&str, bool); 12] = [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("*", true),
            ("\"b\", \"a\"", true),
            ("\"b\",W/\"a\"", true),
            ("\"x,\"a\"", false),
            ("\"b\"", false),
            ("a", false),
            ("", false),
            ("\"a", false),
            ("\"A\"", false),
            ("\"\", \"a\"", true),
        ];
        for (line, found) in rows {
            assert_eq!(names_tag(line.as_bytes(), Some(b"\"a\"")), found, "{line}");
        }
        assert!(names_tag(b"\"b,a\"", Some(b"\"b,a\"")));
        assert!(names_tag(b"*", None));
        assert!(!names_tag(b"\"a\"", None));
    }

    #[test]
    fn several_lines_are_not_one_line_nor_none() {
        let lines = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-a", HeaderValue::from_static(line));
            }
            values_of(&HeaderName::from_static("x-a"), &headers)
        };
        let all = [
            lines(&[]),
            lines(&[""]),
            lines(&["a", "b"]),
            lines(&["a, b"]),
            lines(&["a"]),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "{index}");
        }
    }
}
