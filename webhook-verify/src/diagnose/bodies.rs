//! A body as it may have been before something changed it.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::json::{self, Escapes, Spaces};

/// What happened to a body on its way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum BodyChange {
    /// A line feed was added to its end, by an editor or `echo`.
    LineFeedAdded,
    /// The line feed at its end was lost.
    LineFeedLost,
    /// LF became CRLF.
    LineEndsToCrlf,
    /// CRLF became LF.
    LineEndsToLf,
    /// White space was added around it.
    WhiteSpaceAdded,
    /// A byte order mark was put before it.
    ByteOrderMark,
    /// It was written in base64, as some gateways hand bodies on.
    Base64,
    /// Something read the JSON and wrote it again, with other white space or escapes.
    Json,
}

impl fmt::Display for BodyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LineFeedAdded => {
                "without the line feed at the end, which an editor or `echo` added"
            }
            Self::LineFeedLost => "with a line feed at the end: the sender's body has one",
            Self::LineEndsToCrlf => "with line ends of LF in place of CRLF",
            Self::LineEndsToLf => "with line ends of CRLF in place of LF",
            Self::WhiteSpaceAdded => "without the white space around it",
            Self::ByteOrderMark => "without the byte order mark",
            Self::Base64 => "as the bytes that the base64 stands for: something encoded the body",
            Self::Json => {
                "as JSON written in another way: something read the body and wrote it again"
            }
        })
    }
}

/// Each change undone. None is the body itself.
pub(super) fn before_change(body: &[u8]) -> Vec<(BodyChange, Vec<u8>)> {
    let mut all = Vec::new();
    let mut add = |change, bytes: Vec<u8>| all.push((change, bytes));
    if let Some(without) = body.strip_suffix(b"\n") {
        let without = without.strip_suffix(b"\r").unwrap_or(without);
        add(BodyChange::LineFeedAdded, without.to_vec());
    }
    add(BodyChange::LineFeedLost, [body, b"\n"].concat());
    if let Ok(text) = std::str::from_utf8(body) {
        let lf = text.replace("\r\n", "\n");
        let crlf = lf.replace('\n', "\r\n");
        add(BodyChange::LineEndsToCrlf, lf.into_bytes());
        add(BodyChange::LineEndsToLf, crlf.into_bytes());
    }
    if let Some(rest) = body.strip_prefix(b"\xef\xbb\xbf") {
        add(BodyChange::ByteOrderMark, rest.to_vec());
    }
    add(BodyChange::WhiteSpaceAdded, body.trim_ascii().to_vec());
    if let Ok(bytes) = STANDARD.decode(body.trim_ascii()) {
        add(BodyChange::Base64, bytes);
    }
    for spaces in Spaces::ALL {
        for escapes in Escapes::ALL {
            if let Some(json) = json::rewritten(body, spaces, escapes) {
                add(BodyChange::Json, json);
            }
        }
    }
    all.retain(|(_, changed)| changed != body);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_undone_by_its_name() {
        for (was, is, change) in [
            (&b"a"[..], &b"a\n"[..], BodyChange::LineFeedAdded),
            (b"a", b"a\r\n", BodyChange::LineFeedAdded),
            (b"a\n", b"a", BodyChange::LineFeedLost),
            (b"a\nb", b"a\r\nb", BodyChange::LineEndsToCrlf),
            (b"a\r\nb", b"a\nb", BodyChange::LineEndsToLf),
            (b"a", b" \ta\n ", BodyChange::WhiteSpaceAdded),
            (b"a", b"\xef\xbb\xbfa", BodyChange::ByteOrderMark),
            (b"{}", b"e30=", BodyChange::Base64),
            (
                b"{\"b\":1,\"a\":[]}",
                b"{\"b\": 1, \"a\": []}",
                BodyChange::Json,
            ),
        ] {
            let all = before_change(is);
            assert!(
                all.iter().any(|one| *one == (change, was.to_vec())),
                "{change:?}"
            );
            assert!(all.iter().all(|(_, bytes)| bytes != is));
        }
    }
}
