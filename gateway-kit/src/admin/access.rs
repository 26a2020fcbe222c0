//! Who is let in: by token, by address, never because nothing was said.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use resilience_core::clock::SharedClock;
use resilience_core::rate_limit::{KeyedRateLimiter, Quota};
use subtle::{Choice, ConstantTimeEq};

use super::{Actor, State};
use crate::Error;
use crate::config::{AdminConfig, AdminToken, Network};
use crate::problem::Problem;

/// Wrong tokens of one address at once; then one per [`RECOVERY`].
const WRONG: u32 = 10;
const RECOVERY: Duration = Duration::from_secs(6);
/// The most addresses remembered for wrong tokens.
const ADDRESSES: usize = 10_000;

/// Wrong tokens by address.
pub(crate) fn wrong_tokens(clock: &SharedClock) -> KeyedRateLimiter<[u8]> {
    // In range, whatever the numbers above become.
    let quota = Quota::new(1, RECOVERY).and_then(|quota| quota.burst(WRONG));
    let quota = quota.or_else(|_| Quota::per_second(1));
    let quota = quota.expect("one per second is a quota");
    KeyedRateLimiter::with_clock(quota, ADDRESSES, clock.clone())
}

/// `[admin]`, compiled.
#[derive(Debug)]
pub(crate) struct Access {
    tokens: Vec<Padded>,
    allow: Vec<Network>,
    public: bool,
}

/// A token in a form that is compared in the same time whatever its length. Tokens hold no NUL.
#[derive(Clone)]
struct Padded([u8; AdminToken::LONGEST]);

impl Padded {
    fn new(token: &[u8]) -> Option<Self> {
        let mut padded = [0; AdminToken::LONGEST];
        padded.get_mut(..token.len())?.copy_from_slice(token);
        Some(Self(padded))
    }
}

impl std::fmt::Debug for Padded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Access {
    /// `None`: the admin is off.
    pub(crate) fn compile(config: Option<&AdminConfig>) -> Result<Option<Self>, Error> {
        let Some(config) = config.filter(|config| config.is_on()) else {
            return Ok(None);
        };
        let settings = |reason: String| Error::Settings(reason);
        let tokens = config
            .tokens()
            .map_err(|reason| settings(format!("admin.token_file: {reason}")))?;
        if config.public && tokens.is_empty() {
            return Err(settings(
                "admin.public = true: needs a token (ADMIN_TOKEN or admin.token_file)".to_owned(),
            ));
        }
        let tokens = tokens
            .iter()
            .filter_map(|token| Padded::new(token.as_bytes()));
        Ok(Some(Self {
            tokens: tokens.collect(),
            allow: config.allow.clone(),
            public: config.public,
        }))
    }

    pub(crate) fn is_public(&self) -> bool {
        self.public
    }

    /// Refuses addresses that are not on the list, and pages of other origins.
    pub(crate) fn check_origin(&self, parts: &Parts, client: IpAddr) -> Result<(), Problem> {
        if !self.allow.is_empty() && !self.allow.iter().any(|network| network.contains(client)) {
            return Err(forbidden(
                "address_not_allowed",
                "this address is not on the list of those that may come",
            ));
        }
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.unwrap_or_default();
        // Without a token the address is all that counts, and a browser has that for every page
        // that it shows, also for one whose name was made to lead here.
        if self.tokens.is_empty() && !is_literal(host) {
            return Err(forbidden(
                "foreign_host",
                "without a token the host must be an address or localhost",
            ));
        }
        let mut origins = parts.headers.get_all(ORIGIN).iter();
        let own = |origin: &HeaderValue| {
            let origin = origin.to_str().unwrap_or_default();
            let name = origin
                .strip_prefix("http://")
                .or_else(|| origin.strip_prefix("https://"));
            name.is_some_and(|name| name.eq_ignore_ascii_case(host))
        };
        if !origins.all(own) {
            return Err(foreign());
        }
        Ok(())
    }

    /// Refuses what a page of another site has a browser do; a link to the page itself is none.
    pub(crate) fn check_fetch(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let site = headers.get(HeaderName::from_static("sec-fetch-site"));
        match site.map(HeaderValue::as_bytes) {
            None | Some(b"same-origin" | b"none") => Ok(()),
            Some(_) => Err(foreign()),
        }
    }

    /// Who asks, if that is somebody who may.
    pub(crate) fn admit(
        &self,
        headers: &HeaderMap,
        address: IpAddr,
        state: &State,
    ) -> Result<Actor, Problem> {
        if self.tokens.is_empty() {
            // The list was looked at already; without one there would be no `Access`.
            let token = false;
            return Ok(Actor { address, token });
        }
        let key = key(address);
        // Before the token is looked at: a guess that is right must not help by then.
        if let Err(limited) = state.wrong.peek(&key, 1) {
            let wait = limited.retry_after.unwrap_or(RECOVERY);
            return Err(Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_wrong_tokens",
                "Too many requests",
                "too many wrong tokens came from this address",
            )
            .retry_after(wait));
        }
        let Some(given) = bearer(headers) else {
            return Err(unauthorized("token_missing", "a bearer token is needed"));
        };
        if self.knows(given) {
            let token = true;
            return Ok(Actor { address, token });
        }
        let _ = state.wrong.try_acquire(&key);
        Err(unauthorized("token_wrong", "the token is not known"))
    }

    fn knows(&self, given: &[u8]) -> bool {
        let Some(given) = Padded::new(given) else {
            return false;
        };
        let known = self.tokens.iter();
        let known = known.fold(Choice::from(0), |known, token| {
            known | token.0.ct_eq(&given.0)
        });
        known.into()
    }
}

/// The token of `Authorization: Bearer`, which must be there once.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    let one = values.next().is_none();
    let token = token.trim_ascii();
    (one && scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// Whom wrong tokens are counted for; of IPv6 a whole /64, which is one subscriber.
fn key(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets()[..8].to_vec(),
    }
}

/// Whether a `Host` is an address or `localhost`.
fn is_literal(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let inside = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost") || inside.unwrap_or(name).parse::<IpAddr>().is_ok()
}

/// 404: nobody can be let in.
pub(crate) fn off() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "admin_off",
        "Not found",
        "the admin is off: there is neither a token nor a list of addresses",
    )
}

fn unauthorized(code: &'static str, detail: &'static str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, code, "Unauthorized", detail).header(
        WWW_AUTHENTICATE,
        HeaderValue::from_static("Bearer realm=\"gateway admin\""),
    )
}

fn forbidden(code: &'static str, detail: &'static str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, code, "Forbidden", detail)
}

fn foreign() -> Problem {
    forbidden("foreign_origin", "a page of another origin may not ask")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_literal_only_as_an_address_or_localhost() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9901",
            "[::1]:9901",
            "[::1]",
            "localhost:1",
        ] {
            assert!(is_literal(host), "{host}");
        }
        for host in [
            "",
            "evil.test",
            "evil.test:9901",
            "127.0.0.1.evil.test",
            "localhost.evil",
        ] {
            assert!(!is_literal(host), "{host}");
        }
    }

    #[test]
    fn wrong_tokens_count_for_a_subscriber() {
        let key = |text: &str| key(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:0:0:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }

    #[test]
    fn a_token_is_known_only_as_a_whole() {
        let config = AdminConfig {
            token: AdminToken::try_from("0123456789abcdef").ok(),
            ..AdminConfig::default()
        };
        let access = Access::compile(Some(&config)).unwrap().unwrap();
        assert!(access.knows(b"0123456789abcdef"));
        for wrong in [
            "",
            "0123456789abcde",
            "0123456789abcdef0",
            "0123456789abcdeF",
        ] {
            assert!(!access.knows(wrong.as_bytes()), "{wrong}");
        }
        assert!(!access.knows(&[b'0'; 300]));
        let nul: &[u8] = b"0123456789abcdef\0";
        // The padding; no header field holds one.
        assert!(access.knows(nul));
        assert!(
            Access::compile(Some(&AdminConfig::default()))
                .unwrap()
                .is_none()
        );
        assert!(Access::compile(None).unwrap().is_none());
        assert!(!format!("{access:?} {config:?}").contains("0123"));
    }
}
