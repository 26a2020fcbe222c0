//! The canonical form of a request path.
//!
//! Routes are matched on this form and upstreams get this form, so that gateway and upstream
//! cannot read one path in two ways. Nothing is decoded twice: `%25` stays `%25`.

use std::borrow::Cow;
use std::fmt::Write;

/// Why a path has no canonical form.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Not a path that starts with `/`.
    #[error("the path does not start with \"/\"")]
    NotAbsolute,
    /// A `%` without two hexadecimal digits.
    #[error("the path has a broken escape")]
    BrokenEscape,
    /// `%2F`, `%5C`, `%00` or a backslash: read differently by different servers.
    #[error("the path has an escape or character that is not allowed")]
    Forbidden,
    /// Dot segments that lead above the root, or that carry parameters (`/..;a/`).
    #[error("the path leads outside the root")]
    Traversal,
}

/// A path in canonical form.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Canonical<'a> {
    /// The path.
    pub path: Cow<'a, str>,
    /// It holds a `%2F` or `%5C`, which some servers read as a separator.
    pub encoded_slash: bool,
}

/// Brings `path` (no query) into canonical form: unreserved characters decoded, other escapes
/// in upper case, `//` merged, dot segments (also escaped ones) resolved. An escaped slash or
/// backslash is refused.
///
/// # Errors
/// See [`PathError`].
///
/// # Examples
/// ```
/// use gateway_kit::path::{PathError, canonical};
///
/// assert_eq!(canonical("/a/%2e%2E/b//c%7e").as_deref(), Ok("/b/c~"));
/// assert_eq!(canonical("/a%2fb"), Err(PathError::Forbidden));
/// ```
pub fn canonical(path: &str) -> Result<Cow<'_, str>, PathError> {
    match canonical_with_slashes(path)? {
        found if found.encoded_slash => Err(PathError::Forbidden),
        found => Ok(found.path),
    }
}

/// The same for a route that takes escaped slashes and backslashes: they stay as they are, and
/// are told of. They still do not hide dot segments: `/a/..%2Fb` is refused.
///
/// # Errors
/// See [`PathError`].
pub fn canonical_with_slashes(path: &str) -> Result<Canonical<'_>, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    let found = decode_unreserved(path)?;
    if found.encoded_slash && hides_dots(&found.path) {
        return Err(PathError::Traversal);
    }
    let mut pairs = found.path.as_bytes().windows(2);
    if !pairs.any(|pair| matches!(pair, b"//" | b"/.")) {
        return Ok(found);
    }
    Ok(Canonical {
        path: Cow::Owned(resolve(&found.path)?),
        ..found
    })
}

/// A canonical path as servers see it that take everything from `;` to the end of a segment for
/// a parameter: what is left, with empty segments merged.
///
/// Routes are matched on this form. Otherwise `/admin;x/users` would pass by the rules of
/// `/admin` and still be `/admin/users` to such a server.
///
/// # Examples
/// ```
/// assert_eq!(gateway_kit::path::without_parameters("/a;v=1/;x/b"), "/a/b");
/// ```
pub fn without_parameters(path: &str) -> Cow<'_, str> {
    if !path.contains(';') {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    for segment in path.split('/').skip(1) {
        let name = segment.split(';').next().unwrap_or_default();
        if !name.is_empty() {
            out.push('/');
            out.push_str(name);
        }
    }
    if path.ends_with('/') || out.is_empty() {
        out.push('/');
    }
    Cow::Owned(out)
}

/// Whether `path` is `prefix` (without a slash at its end, but for `/`) or below it.
pub(crate) fn is_under(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn decode_unreserved(path: &str) -> Result<Canonical<'_>, PathError> {
    let mut encoded_slash = false;
    if path.bytes().all(|byte| byte != b'%' && is_plain(byte)) {
        return Ok(Canonical {
            path: Cow::Borrowed(path),
            encoded_slash,
        });
    }
    let mut out = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            if !is_plain(byte) {
                return Err(PathError::Forbidden);
            }
            out.push(char::from(byte));
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(PathError::BrokenEscape);
        };
        // Two hexadecimal digits fit in a byte.
        let value = (high * 16 + low) as u8;
        match value {
            0 => return Err(PathError::Forbidden),
            b'-' | b'.' | b'_' | b'~' => out.push(char::from(value)),
            _ if value.is_ascii_alphanumeric() => out.push(char::from(value)),
            _ => {
                encoded_slash |= matches!(value, b'/' | b'\\');
                // Writing to a string does not fail.
                let _ = write!(out, "%{value:02X}");
            }
        }
    }
    Ok(Canonical {
        path: Cow::Owned(out),
        encoded_slash,
    })
}

/// A byte that may stand in a path as it is: visible ASCII, no backslash.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'\\'
}

/// Whether a server that decodes `%2F` and `%5C` would see dot segments (escapes are in upper
/// case here).
fn hides_dots(path: &str) -> bool {
    let escaped = path.split('/').filter(|segment| segment.contains('%'));
    escaped.into_iter().any(|segment| {
        let segment = segment.replace("%5C", "%2F");
        let mut parts = segment.split("%2F").map(|part| part.split(';').next());
        parts.any(|part| matches!(part, Some("." | "..")))
    })
}

/// RFC 3986, section 5.2.4, on segments; empty segments are merged.
fn resolve(path: &str) -> Result<String, PathError> {
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_with_slash = false;
    for segment in path.split('/').skip(1) {
        ends_with_slash = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                let left = segments.pop().ok_or(PathError::Traversal)?;
                // An empty segment to those who know parameters, or two to those who decode a
                // slash: `..` would leave another.
                if left.starts_with(';') || left.contains("%2F") || left.contains("%5C") {
                    return Err(PathError::Traversal);
                }
            }
            _ if segment.starts_with(".;") || segment.starts_with("..;") => {
                return Err(PathError::Traversal);
            }
            _ => segments.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &segments {
        out.push('/');
        out.push_str(segment);
    }
    if ends_with_slash || out.is_empty() {
        out.push('/');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_brought_into_its_canonical_form() {
        for (given, wanted) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a//b///c", "/a/b/c"),
            ("/a/./b/../c", "/a/c"),
            ("/a/%2e%2E/c", "/c"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/%41%7e%2D", "/A~-"),
            ("/a%20b%c3%a4", "/a%20b%C3%A4"),
            ("/%252e%252e/", "/%252e%252e/"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/..b/...", "/a/..b/..."),
            ("/a;v=1/b", "/a;v=1/b"),
        ] {
            assert_eq!(canonical(given).as_deref(), Ok(wanted), "{given}");
        }
    }

    #[test]
    fn a_path_with_two_readings_is_refused() {
        for (given, wanted) in [
            ("a/b", PathError::NotAbsolute),
            ("*", PathError::NotAbsolute),
            ("/..", PathError::Traversal),
            ("/a/../../b", PathError::Traversal),
            ("/%2e%2e/b", PathError::Traversal),
            ("/a/..;x/b", PathError::Traversal),
            ("/a/.;/b", PathError::Traversal),
            ("/a/;x/../b", PathError::Traversal),
            ("/a%2fb", PathError::Forbidden),
            ("/a%5Cb", PathError::Forbidden),
            ("/a\\b", PathError::Forbidden),
            ("/a%00", PathError::Forbidden),
            ("/a\u{e4}", PathError::Forbidden),
            ("/a%", PathError::BrokenEscape),
            ("/a%4", PathError::BrokenEscape),
            ("/a%zz", PathError::BrokenEscape),
        ] {
            assert_eq!(canonical(given), Err(wanted), "{given}");
        }
    }

    #[test]
    fn an_escaped_slash_is_kept_and_told_of_but_hides_no_dots() {
        for (given, wanted) in [("/a%2fb", "/a%2Fb"), ("/x/../a%5cb/", "/a%5Cb/")] {
            let found = canonical_with_slashes(given).unwrap();
            assert_eq!((found.path.as_ref(), found.encoded_slash), (wanted, true));
        }
        assert!(!canonical_with_slashes("/a%20b").unwrap().encoded_slash);
        for given in [
            "/a/..%2fb",
            "/a/%2e%2e%2fb",
            "/a%5c..",
            "/a%2F.%2Fb",
            "/a%2f..;x",
            "/a%5cb/../c",
        ] {
            let refused = canonical_with_slashes(given);
            assert_eq!(refused, Err(PathError::Traversal), "{given}");
        }
        assert_eq!(
            canonical_with_slashes("/a%2f%00"),
            Err(PathError::Forbidden)
        );
    }

    #[test]
    fn parameters_are_taken_off_segment_by_segment() {
        for (given, wanted) in [
            ("/a/b", "/a/b"),
            ("/a;v=1/b;w", "/a/b"),
            ("/;x/a", "/a"),
            ("/;x", "/"),
            ("/a;x/", "/a/"),
            ("/a;x=/b", "/a/b"),
        ] {
            assert_eq!(without_parameters(given), wanted, "{given}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_canonical_form_is_its_own_canonical_form(path in "/[a-z./%0-9A-F;]{0,24}") {
            if let Ok(once) = canonical(&path) {
                let twice = canonical(&once).map(Cow::into_owned);
                proptest::prop_assert_eq!(twice, Ok(once.clone().into_owned()));
                proptest::prop_assert!(!once.contains("/../"));
            }
        }
    }
}
