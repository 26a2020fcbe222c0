//! The canonical form of a request path.
//!
//! Routes are matched on this form and upstreams get this form, so that gateway and upstream
//! cannot read one path in two ways. Nothing is decoded twice: `%25` stays `%25`.

use std::borrow::Cow;

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

/// Brings `path` (no query) into canonical form: unreserved characters decoded, other escapes
/// in upper case, `//` merged, dot segments (also escaped ones) resolved.
///
/// # Errors
/// See [`PathError`].
pub fn canonical(path: &str) -> Result<Cow<'_, str>, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    let decoded = decode_unreserved(path)?;
    let tangled = |text: &str| text.contains("//") || text.contains("/.");
    if !tangled(&decoded) {
        return Ok(decoded);
    }
    resolve(&decoded).map(Cow::Owned)
}

fn decode_unreserved(path: &str) -> Result<Cow<'_, str>, PathError> {
    if path.bytes().all(|byte| byte != b'%' && is_plain(byte)) {
        return Ok(Cow::Borrowed(path));
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
            b'/' | b'\\' | 0 => return Err(PathError::Forbidden),
            b'-' | b'.' | b'_' | b'~' => out.push(char::from(value)),
            _ if value.is_ascii_alphanumeric() => out.push(char::from(value)),
            _ => out.push_str(&format!("%{value:02X}")),
        }
    }
    Ok(Cow::Owned(out))
}

/// A byte that may stand in a path as it is: visible ASCII, no backslash.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'\\'
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
                segments.pop().ok_or(PathError::Traversal)?;
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
