//! Refuses what pages of other origins do in a user's name.
//!
//! By the rule of Go's `net/http.CrossOriginProtection`, with three additions: WebSockets are looked
//! at too, a page without TLS is another origin where the client came by TLS, and requests with a
//! bearer token and without cookies pass.

use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use crate::config::{CsrfConfig, OriginPattern};
use crate::problem::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The origins that may, besides the one that a request is for.
#[derive(Debug)]
pub(crate) struct Csrf {
    origins: Vec<OriginPattern>,
}

impl Csrf {
    pub(crate) fn new(config: &CsrfConfig) -> Self {
        Self {
            origins: config.origins.clone(),
        }
    }

    /// 403 for a request that a page of another origin makes; `upgrade` if it is for a WebSocket,
    /// `secure` if the client came by TLS.
    pub(crate) fn check(
        &self,
        method: &Method,
        headers: &HeaderMap,
        upgrade: bool,
        secure: bool,
    ) -> Result<(), Problem> {
        let safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if (safe && !upgrade) || is_own_master(headers) || self.is_welcome(headers, secure) {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "cross_origin",
            "Forbidden",
            "a page of another origin may not do this",
        ))
    }

    fn is_welcome(&self, headers: &HeaderMap, secure: bool) -> bool {
        let mut origins = headers.get_all(ORIGIN).iter();
        let origin = match (origins.next(), origins.next()) {
            (origin, None) => origin.map(http::HeaderValue::as_bytes),
            (_, Some(_)) => return false,
        };
        let is_listed = |origin: &[u8]| self.origins.iter().any(|one| one.matches(origin));
        let listed = origin.is_some_and(is_listed);
        let mut sites = headers.get_all(SEC_FETCH_SITE).iter().peekable();
        if sites.peek().is_some() {
            let own = |site: &http::HeaderValue| site == "same-origin" || site == "none";
            return listed || sites.all(own);
        }
        match origin {
            // No browser, or one that is older than both fields.
            None => true,
            Some(origin) => listed || is_for(origin, headers, secure),
        }
    }
}

/// Whether a request is for the origin that its page is of.
fn is_for(origin: &[u8], headers: &HeaderMap, secure: bool) -> bool {
    let host = headers.get(HOST).map(http::HeaderValue::as_bytes);
    let Some(host) = host.filter(|host| !host.is_empty()) else {
        return false;
    };
    let same = |rest: Option<&[u8]>| rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host));
    // A server without TLS of the same name may be anybody's.
    same(origin.strip_prefix(b"https://")) || (!secure && same(origin.strip_prefix(b"http://")))
}

/// A browser adds cookies, but no bearer token, to what a page asks for.
fn is_own_master(headers: &HeaderMap) -> bool {
    let bearer = |value: &http::HeaderValue| {
        let scheme = value.as_bytes().get(..7);
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
    };
    !headers.contains_key(COOKIE) && headers.get(AUTHORIZATION).is_some_and(bearer)
}
