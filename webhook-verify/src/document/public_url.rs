//! The public URL of a receiver, where it is signed: from the configuration and never from the
//! request, whose `Host` the sender chooses.

use std::fmt;

use http::uri::{Authority, PathAndQuery};

use crate::scheme::SchemeError;

/// An origin, or a whole URL.
#[derive(Clone)]
pub(crate) struct PublicUrl {
    origins: Vec<Box<str>>,
    web_socket: bool,
    target: Option<PathAndQuery>,
}

impl PublicUrl {
    /// Reads `https://example.com` (also `http`, `wss`, `ws`; with a port; with a user) or the
    /// same with path and query.
    ///
    /// # Errors
    /// [`SchemeError::Url`] for anything else; with a fragment, which no request has; for an
    /// origin with a slash behind it, which could be meant as either.
    pub(crate) fn parse(url: &str) -> Result<Self, SchemeError> {
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains('#') {
            return Err(SchemeError::Url(
                "blanks, fragments and non-ASCII characters are not part of it",
            ));
        }
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let default_port = match scheme {
            "https" | "wss" => 443,
            "http" | "ws" => 80,
            _ => return Err(SchemeError::Url("it begins with `https://` or `http://`")),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        Ok(Self {
            origins: origins(scheme, authority, default_port)?,
            web_socket: scheme.starts_with("ws"),
            target: read_target(target)?,
        })
    }

    /// Scheme, host and port in each spelling that is signed for it, the configured one first:
    /// with and without port, and with the user if there is one.
    pub(crate) fn origins(&self) -> &[Box<str>] {
        &self.origins
    }

    pub(crate) const fn is_web_socket(&self) -> bool {
        self.web_socket
    }

    /// Path and query, when the whole URL is configured.
    pub(crate) const fn target(&self) -> Option<&PathAndQuery> {
        self.target.as_ref()
    }
}

/// Without the other spellings, in one of which a password may stand.
impl fmt::Debug for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.origins.first().map_or("", |origin| origin);
        let target = self.target.as_ref().map_or("", PathAndQuery::as_str);
        write!(f, "PublicUrl({origin}{target})")
    }
}

fn origins(scheme: &str, authority: &str, default_port: u16) -> Result<Vec<Box<str>>, SchemeError> {
    let bad = SchemeError::Url("host or port cannot be read");
    let parsed: Authority = authority.parse().map_err(|_| bad.clone())?;
    let (user, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let host = parsed.host();
    let ports = match parsed.port_u16() {
        None => [String::new(), format!(":{default_port}")],
        Some(port) => [format!(":{port}"), String::new()],
    };
    if host.is_empty() || ports[0] == ":0" || place != format!("{host}{}", ports[0]) {
        return Err(bad);
    }
    let mut users = vec![String::new()];
    if authority.contains('@') {
        users.push(format!("{user}@"));
    }
    let mut all = Vec::new();
    for user in users {
        for port in &ports {
            all.push(format!("{scheme}://{user}{host}{port}").into());
        }
    }
    Ok(all)
}

fn read_target(text: &str) -> Result<Option<PathAndQuery>, SchemeError> {
    match text {
        "" => Ok(None),
        "/" => Err(SchemeError::Url("an origin has no slash behind it")),
        _ if !text.starts_with('/') || text.ends_with('?') => {
            Err(SchemeError::Url("path or query is empty"))
        }
        _ => {
            let target = text.parse();
            let target = target.map_err(|_| SchemeError::Url("path or query cannot be read"));
            target.map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(url: &str) -> Vec<String> {
        let url = PublicUrl::parse(url).unwrap();
        url.origins().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_origin_has_a_spelling_with_and_without_port() {
        for (url, expected) in [
            (
                "https://a.example",
                ["https://a.example", "https://a.example:443"],
            ),
            (
                "http://a.example",
                ["http://a.example", "http://a.example:80"],
            ),
            (
                "https://a.example:443",
                ["https://a.example:443", "https://a.example"],
            ),
            (
                "https://a.example:8443/x",
                ["https://a.example:8443", "https://a.example"],
            ),
            ("wss://[::1]:9", ["wss://[::1]:9", "wss://[::1]"]),
        ] {
            assert_eq!(all(url), expected, "{url}");
        }
    }

    #[test]
    fn a_user_is_left_out_first_and_never_shown() {
        let url = "https://user:pa:ss@a.example:81/hook?x=1";
        let expected = [
            "https://a.example:81",
            "https://a.example",
            "https://user:pa:ss@a.example:81",
            "https://user:pa:ss@a.example",
        ];
        assert_eq!(all(url), expected);
        let shown = format!("{:?}", PublicUrl::parse(url).unwrap());
        assert_eq!(shown, "PublicUrl(https://a.example:81/hook?x=1)");
    }

    #[test]
    fn what_is_no_public_url_is_refused() {
        for url in [
            "",
            "a.example",
            "ftp://a.example",
            "HTTPS://a.example",
            "https:/a.example",
            "https://",
            "https:///hook",
            "https://:80/hook",
            "https://user@",
            "https://a.example/",
            "https://a.example?x=1",
            "https://a.example/hook?",
            "https://a.example/hook#rc=2",
            "https://a.example/a b",
            "https://a.example:",
            "https://a.example:0",
            "https://a.example:080",
            "https://a.example:65536",
            "https://a.example:x",
            "https://[::1",
            "https://a.exämple",
        ] {
            let refused = matches!(PublicUrl::parse(url), Err(SchemeError::Url(_)));
            assert!(refused, "{url}");
        }
    }
}
