//! Origins of web pages (RFC 6454).

use std::fmt;

use serde::Deserialize;

/// Where a page may come from: `https://shop.example.com`, `http://localhost:3000`, all below a
/// name as `https://*.example.com`, or `*` for any.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct OriginPattern(Kind);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Kind {
    Any,
    Exact(String),
    /// What comes before the subdomain and after it, `https://` and `.example.com:8443`.
    Below(String, String),
}

impl OriginPattern {
    /// Whether it is `*`.
    pub const fn is_any(&self) -> bool {
        matches!(self.0, Kind::Any)
    }

    /// Whether a value of `Origin` is meant. Browsers write it in lower case and leave out the port
    /// that the scheme stands for. `null` is only meant by `*`.
    pub fn matches(&self, origin: &[u8]) -> bool {
        match &self.0 {
            Kind::Any => true,
            Kind::Exact(exact) => origin == exact.as_bytes(),
            Kind::Below(before, after) => {
                let label = origin.strip_prefix(before.as_bytes());
                let label = label.and_then(|rest| rest.strip_suffix(after.as_bytes()));
                label.is_some_and(is_name)
            }
        }
    }
}

impl TryFrom<String> for OriginPattern {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == "*" {
            return Ok(Self(Kind::Any));
        }
        let parsed = parse(&text.to_ascii_lowercase()).map(Self);
        parsed.ok_or(
            "must be \"https://shop.example.com\", \"https://*.example.com\" or \"*\", with no path, \
             and no port that the scheme stands for",
        )
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Any => f.write_str("*"),
            Kind::Exact(exact) => f.write_str(exact),
            Kind::Below(before, after) => write!(f, "{before}*{after}"),
        }
    }
}

fn parse(text: &str) -> Option<Kind> {
    let (scheme, authority) = text.split_once("://")?;
    let default = match scheme {
        "https" => "443",
        "http" => "80",
        _ => return None,
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if let Some(port) = port
        && (port == default || port.starts_with('0') || port.parse::<u16>().is_err())
    {
        return None;
    }
    if let Some(name) = host.strip_prefix("*.") {
        let after = &authority[1..];
        return is_name(name.as_bytes())
            .then(|| Kind::Below(format!("{scheme}://"), after.to_owned()));
    }
    let inside = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let v6 = inside.is_some_and(|inside| inside.parse::<std::net::Ipv6Addr>().is_ok());
    (v6 || is_name(host.as_bytes())).then(|| Kind::Exact(text.to_owned()))
}

/// Labels of a host name.
fn is_name(name: &[u8]) -> bool {
    let good =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(byte);
    let label = |label: &[u8]| !label.is_empty() && label.iter().all(good);
    name.split(|byte| *byte == b'.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> OriginPattern {
        OriginPattern::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn an_origin_is_matched_whole_or_by_its_subdomain() {
        let exact = pattern("https://shop.example.com");
        assert!(exact.matches(b"https://shop.example.com"));
        for other in [
            "http://shop.example.com",
            "https://shop.example.com:444",
            "https://shop.example.com.evil.test",
            "https://evil-shop.example.com",
            "null",
            "",
        ] {
            assert!(!exact.matches(other.as_bytes()), "{other}");
        }
        let below = pattern("https://*.Example.com:8443");
        assert!(below.matches(b"https://a.example.com:8443"));
        assert!(below.matches(b"https://a.b-c.example.com:8443"));
        for other in [
            "https://example.com:8443",
            "https://.example.com:8443",
            "https://a.example.com",
            "https://evil.test/.example.com:8443",
            "https://evil.test:1.example.com:8443",
            "https://u@.example.com:8443",
            "https://a..example.com:8443",
            "http://a.example.com:8443",
        ] {
            assert!(!below.matches(other.as_bytes()), "{other}");
        }
        assert!(pattern("http://[::1]:3000").matches(b"http://[::1]:3000"));
        assert!(pattern("*").matches(b"null"));
    }

    #[test]
    fn an_origin_that_no_browser_writes_is_refused() {
        for text in [
            "",
            "null",
            "shop.example.com",
            "ftp://a.test",
            "https://",
            "https://a.test/",
            "https://a.test:443",
            "http://a.test:80",
            "https://a.test:0",
            "https://a.test:99999",
            "https://*",
            "https://*.",
            "https://a.*.test",
            "https://u@a.test",
            "https://[::1",
        ] {
            assert!(OriginPattern::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
