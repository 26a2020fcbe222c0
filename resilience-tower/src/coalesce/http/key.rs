use std::fmt;
use std::sync::Arc;

use ::http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE, HOST, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, ORIGIN, PROXY_AUTHORIZATION,
    RANGE, UPGRADE,
};
use ::http::{HeaderName, Method, Request};
use http_body::Body;

use crate::coalesce::KeyOf;

/// Finds the key of an HTTP request; see the [module](super) for what is in it.
#[derive(Clone, Debug)]
#[must_use]
pub struct HttpKey {
    fields: Arc<[HeaderName]>,
}

/// The key of an HTTP request.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Key(Arc<[u8]>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only how long it is: credentials may be part of it.
        f.debug_struct("Key")
            .field("bytes", &self.0.len())
            .finish_non_exhaustive()
    }
}

impl Default for HttpKey {
    fn default() -> Self {
        Self::only_fields([ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, ORIGIN])
    }
}

impl HttpKey {
    /// Method, scheme, host (of the URI and of `Host`), path and query, and the usual fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// No fields but these. Without `Accept-Encoding` a caller may get a body that it cannot read.
    pub fn only_fields(fields: impl IntoIterator<Item = HeaderName>) -> Self {
        Self {
            fields: fields.into_iter().collect(),
        }
    }

    /// The field `name` as well. Requests with credentials share an answer only when the field with
    /// the credentials is part of the key, and then with those that have the same.
    pub fn field(self, name: HeaderName) -> Self {
        Self::only_fields(self.fields.iter().cloned().chain([name]))
    }

    pub(super) fn has(&self, name: &HeaderName) -> bool {
        self.fields.contains(name)
    }
}

impl<B: Body> KeyOf<Request<B>> for HttpKey {
    type Key = Key;

    fn key_of(&self, request: &Request<B>) -> Option<Key> {
        let safe = matches!(*request.method(), Method::GET | Method::HEAD);
        if !safe || !request.body().is_end_stream() {
            return None;
        }
        let headers = request.headers();
        let special = |name: &HeaderName| headers.contains_key(name) && !self.has(name);
        if SPECIAL.iter().any(special) {
            return None;
        }
        let uri = request.uri();
        let mut key = Parts(Vec::with_capacity(128));
        key.add(request.method().as_str().as_bytes());
        key.add(uri.scheme_str().unwrap_or_default().as_bytes());
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        // What stands before the host are credentials.
        if authority.contains('@') {
            return None;
        }
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next();
        // Two of them are two opinions on whom the request is for.
        if hosts.next().is_some() {
            return None;
        }
        // Both: the service within may go by either, and who says both may say different ones.
        key.add_host(authority.as_bytes());
        key.add_host(host.map_or(b"", |host| host.as_bytes()));
        let path = uri.path_and_query().map(|path| path.as_str());
        key.add(path.unwrap_or_default().as_bytes());
        for name in &*self.fields {
            let values = headers.get_all(name);
            key.count(values.iter().count());
            values.iter().for_each(|value| key.add(value.as_bytes()));
        }
        Some(Key(key.0.into()))
    }

    fn size_of_key(&self, key: &Key) -> usize {
        size_of::<Key>() + key.0.len()
    }

    #[cfg(feature = "timeout")]
    fn detach(&self, request: &mut Request<B>) {
        use crate::timeout::deadline::Deadline;
        use crate::timeout::deadline::http::{ENVOY_TIMEOUT_MS, GRPC_TIMEOUT};

        request.extensions_mut().remove::<Deadline>();
        // Else one caller in a hurry fails all that wait with it.
        for name in [GRPC_TIMEOUT, ENVOY_TIMEOUT_MS] {
            if !self.has(&name) {
                request.headers_mut().remove(name);
            }
        }
    }
}

/// Fields that make the answer one for this caller alone, or not the whole answer.
static SPECIAL: [HeaderName; 10] = [
    AUTHORIZATION,
    COOKIE,
    PROXY_AUTHORIZATION,
    RANGE,
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
    IF_RANGE,
    UPGRADE,
];

/// The parts of a key, each with its length before it, so that no two lists of parts meet.
struct Parts(Vec<u8>);

impl Parts {
    fn count(&mut self, count: usize) {
        self.0.extend((count as u64).to_le_bytes());
    }

    fn add(&mut self, part: &[u8]) {
        self.count(part.len());
        self.0.extend(part);
    }

    /// Hosts are the same in capital letters and in small ones (RFC 9110, section 4.2.3).
    fn add_host(&mut self, host: &[u8]) {
        self.count(host.len());
        self.0.extend(host.iter().map(u8::to_ascii_lowercase));
    }
}
