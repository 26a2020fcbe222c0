//! The hops that a forwarding field names, from the right.

use std::net::IpAddr;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::ForwardedBy;

/// The hops of all lines of one field, the last of the last line first. `Some(None)` is a hop
/// that cannot be read.
pub(super) struct Hops<'a> {
    field: ForwardedBy,
    lines: http::header::ValueIter<'a, HeaderValue>,
    /// What is left of the current line; `None` before its first and after its last hop.
    rest: Option<&'a [u8]>,
}

impl<'a> Hops<'a> {
    pub(super) fn new(field: ForwardedBy, headers: &'a HeaderMap) -> Self {
        let name = match field {
            ForwardedBy::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            ForwardedBy::Forwarded => FORWARDED,
        };
        Self {
            field,
            lines: headers.get_all(name).iter(),
            rest: None,
        }
    }
}

impl Iterator for Hops<'_> {
    type Item = Option<IpAddr>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = match self.rest {
            Some(rest) => rest,
            None => self.lines.next_back()?.as_bytes(),
        };
        let (rest, element) = match self.field {
            ForwardedBy::XForwardedFor => split_last(line, line.iter().rposition(|b| *b == b',')),
            ForwardedBy::Forwarded => match last_comma(line) {
                Ok(comma) => split_last(line, comma),
                // A string without a beginning: nothing of this line can be told apart.
                Err(Unquoted) => {
                    self.rest = None;
                    return Some(None);
                }
            },
        };
        self.rest = rest;
        let hop = std::str::from_utf8(element).ok().and_then(|text| {
            let text = text.trim_matches([' ', '\t']);
            match self.field {
                ForwardedBy::XForwardedFor => node(text),
                ForwardedBy::Forwarded => forwarded_for(text).and_then(node),
            }
        });
        Some(hop)
    }
}

fn split_last(line: &[u8], comma: Option<usize>) -> (Option<&[u8]>, &[u8]) {
    // PANIC-FREE: the comma is one of the line's bytes.
    match comma {
        Some(at) => (Some(&line[..at]), &line[at + 1..]),
        None => (None, line),
    }
}

/// A closing quote without an opening one.
struct Unquoted;

/// The last comma outside quoted strings (RFC 9110, section 5.6.4), read from the right.
///
/// From the right, because the right end is what a trusted proxy wrote and is well formed,
/// while the left end may be anything: read from the left, an opening quote sent by a client
/// would swallow what the proxy added. A quote met from the right, outside a string, closes
/// one; the string begins at the next quote before which the backslashes are even in number.
fn last_comma(line: &[u8]) -> Result<Option<usize>, Unquoted> {
    let mut quoted = false;
    for (at, byte) in line.iter().enumerate().rev() {
        match byte {
            b'"' if !quoted => quoted = true,
            b'"' if backslashes_before(line, at).is_multiple_of(2) => quoted = false,
            b',' if !quoted => return Ok(Some(at)),
            _ => {}
        }
    }
    if quoted { Err(Unquoted) } else { Ok(None) }
}

fn backslashes_before(line: &[u8], at: usize) -> usize {
    let before = line[..at].iter().rev();
    before.take_while(|byte| **byte == b'\\').count()
}

/// The `for` parameter of one element of `Forwarded` (RFC 7239, section 4); twice is unreadable.
fn forwarded_for(element: &str) -> Option<&str> {
    let mut found = None;
    let mut quoted = false;
    let mut escaped = false;
    // Whoever chose a quoted value (a proxy quotes the client's `Host`) chose no parameter.
    let pairs = element.split(|c: char| {
        let literal = std::mem::take(&mut escaped);
        match c {
            '\\' if quoted && !literal => escaped = true,
            '"' if !literal => quoted = !quoted,
            ';' => return !quoted,
            _ => {}
        }
        false
    });
    for pair in pairs {
        let pair = pair.trim_matches([' ', '\t']);
        if pair.is_empty() {
            continue;
        }
        let (name, value) = pair.split_once('=')?;
        if name.eq_ignore_ascii_case("for") && found.replace(value).is_some() {
            return None;
        }
    }
    let value = found?;
    match value.strip_prefix('"') {
        // An escape inside is left as it is, and no address then.
        Some(open) => open.strip_suffix('"'),
        None => Some(value),
    }
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`,
/// `[2001:db8::1]`, `[2001:db8::1]:80`; a port may be obfuscated (`_p`), as RFC 7239 allows.
fn node(text: &str) -> Option<IpAddr> {
    let (address, port) = if let Some(open) = text.strip_prefix('[') {
        let (address, after) = open.split_once(']')?;
        let port = match after {
            "" => None,
            _ => Some(after.strip_prefix(':')?),
        };
        (IpAddr::V6(address.parse().ok()?), port)
    } else if let Ok(address) = text.parse() {
        (address, None)
    } else {
        let (address, port) = text.split_once(':')?;
        (IpAddr::V4(address.parse().ok()?), Some(port))
    };
    port.is_none_or(is_port).then(|| address.to_canonical())
}

fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !name.is_empty() && name.bytes().all(plain)
        }
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hops(field: ForwardedBy, lines: &[&str]) -> Vec<Option<String>> {
        let name = match field {
            ForwardedBy::XForwardedFor => "x-forwarded-for",
            ForwardedBy::Forwarded => "forwarded",
        };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, line.parse().unwrap());
        }
        Hops::new(field, &headers)
            .map(|hop| hop.map(|address| address.to_string()))
            .collect()
    }

    fn addresses(hops: &[&str]) -> Vec<Option<String>> {
        hops.iter().map(|hop| Some((*hop).to_owned())).collect()
    }

    #[test]
    fn lines_and_their_hops_are_read_from_the_right() {
        let read = hops(
            ForwardedBy::XForwardedFor,
            &["192.0.2.1,192.0.2.2", "192.0.2.3 ,\t192.0.2.4"],
        );
        let expected = addresses(&["192.0.2.4", "192.0.2.3", "192.0.2.2", "192.0.2.1"]);
        assert_eq!(read, expected);
    }

    #[test]
    fn nodes_with_and_without_ports_are_understood() {
        for (text, address) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:65535", "192.0.2.1"),
            ("192.0.2.1:_p.1-2", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
        ] {
            assert_eq!(
                node(text).map(|ip| ip.to_string()).as_deref(),
                Some(address)
            );
        }
        for text in [
            "",
            "unknown",
            "_hidden",
            "192.0.2.1:",
            "192.0.2.1:_",
            "192.0.2.1:123456",
            "192.0.2.1:8o",
            "192.0.2.1 80",
            "192.0.2.01",
            "192.0.2",
            "[192.0.2.1]",
            "[2001:db8::1",
            "[2001:db8::1]80",
            "[2001:db8::1]:",
            "2001:db8::1]",
            "fe80::1%eth0",
            "example.com",
        ] {
            assert_eq!(node(text), None, "{text:?}");
        }
    }

    #[test]
    fn quoted_text_in_forwarded_is_neither_an_element_nor_a_parameter() {
        let real = addresses(&["198.51.100.1"]);
        for line in [
            "for=198.51.100.1",
            r#"For="198.51.100.1:80""#,
            r#"proto=https; for=198.51.100.1 ;by=_x"#,
            r#"for=198.51.100.1;host="x, for=203.0.113.5;a""#,
            r#"for=198.51.100.1;host="x;for=203.0.113.5;a""#,
            r#"for=198.51.100.1;host="x\", for=203.0.113.5;a=\"""#,
            r#"for=198.51.100.1;host="x\\""#,
        ] {
            assert_eq!(hops(ForwardedBy::Forwarded, &[line]), real, "{line}");
        }
    }

    #[test]
    fn what_a_client_wrote_does_not_swallow_the_element_of_the_proxy() {
        for client in [r#"for=""#, r#"host="a"#, r#"\"#, r#"for="\"#, r#""""#, ",,"] {
            let line = format!("{client}, for=198.51.100.1");
            let read = hops(ForwardedBy::Forwarded, &[&line]);
            assert_eq!(read[0].as_deref(), Some("198.51.100.1"), "{line}");
        }
    }

    #[test]
    fn elements_that_name_nobody_or_two_are_unreadable() {
        for line in [
            "",
            "for=",
            "for",
            "by=198.51.100.1",
            "for=unknown",
            "for=_hidden",
            r#"for="_hidden:80""#,
            "for=198.51.100.1;for=198.51.100.1",
            r#"for="198.51.100.1"#,
            r#"for=198.51.100.1""#,
            r#"for="\198.51.100.1""#,
            r#"for="198.51.100.1";x"y"#,
        ] {
            let read = hops(ForwardedBy::Forwarded, &[line]);
            assert_eq!(read.first(), Some(&None), "{line}");
        }
    }
}
