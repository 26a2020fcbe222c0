//! `Content-Digest` ([RFC 9530](https://www.rfc-editor.org/rfc/rfc9530)).

use http::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq;

use super::{
    base::joined,
    sf::{Item, Member, Value, dictionary, write_bytes},
};
use crate::error::Reason;

pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// The most digests of one body.
const MAX_DIGESTS: usize = 16;

/// Compares every digest of an algorithm that is safe (`sha-256`, `sha-512`) with the body;
/// there must be one at least. Others are not looked at: they prove nothing.
///
/// # Errors
/// The field is missing or malformed, or a digest is another body's.
pub(super) fn check(headers: &HeaderMap, body: &[u8]) -> Result<(), Reason> {
    let text = joined(headers, &CONTENT_DIGEST)?;
    let malformed = || Reason::Malformed(CONTENT_DIGEST);
    let members = dictionary(&text, MAX_DIGESTS).map_err(|_| malformed())?;
    let mut some = false;
    for (name, member) in &members {
        let right = match *name {
            "sha-256" => equal(&Sha256::digest(body), member),
            "sha-512" => equal(&Sha512::digest(body), member),
            _ => continue,
        };
        if !right.ok_or_else(malformed)? {
            return Err(Reason::Digest);
        }
        some = true;
    }
    some.then_some(()).ok_or_else(malformed)
}

/// `None` when the member is not the bytes of such a digest.
fn equal(digest: &[u8], member: &Member<'_>) -> Option<bool> {
    let Member::Item(Item { value, parameters }) = member else {
        return None;
    };
    match value {
        Value::Bytes(bytes) if parameters.is_empty() && bytes.len() == digest.len() => {
            Some(bytes.ct_eq(digest).into())
        }
        _ => None,
    }
}

/// The value of the field for `body`.
pub(super) fn write(body: &[u8]) -> String {
    let mut text = "sha-256=".to_owned();
    write_bytes(&mut text, &Sha256::digest(body));
    text
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const BODY: &[u8] = b"{\"hello\": \"world\"}";
    const SHA_256: &str = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    const SHA_512: &str = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";

    fn check_lines(lines: &[&str]) -> Result<(), Reason> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CONTENT_DIGEST, HeaderValue::from_str(line).unwrap());
        }
        check(&headers, BODY)
    }

    /// RFC 9421, 7.2.8.
    #[test]
    fn the_published_digests_are_those_of_the_body() {
        assert_eq!(write(BODY), SHA_256);
        for lines in [
            &[SHA_256][..],
            &[SHA_512],
            &[SHA_256, SHA_512],
            &[&format!("{SHA_512},{SHA_256}")],
            &[&format!("md5=:AAAA:, crc32c, {SHA_256}, unixsum=1")],
        ] {
            assert_eq!(check_lines(lines), Ok(()), "{lines:?}");
        }
    }

    #[test]
    fn every_digest_that_is_looked_at_must_be_right() {
        let wrong_256 = SHA_256.replace("X48", "Y48");
        let wrong_512 = SHA_512.replace("WZD", "XZD");
        for lines in [
            &[&*wrong_256][..],
            &[&*wrong_512],
            &[SHA_256, &wrong_512],
            &[&wrong_256, SHA_512],
        ] {
            assert_eq!(check_lines(lines), Err(Reason::Digest), "{lines:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_DIGEST, HeaderValue::from_static(SHA_256));
        assert_eq!(
            check(&headers, b"{\"hello\":\"world\"}"),
            Err(Reason::Digest)
        );
    }

    #[test]
    fn a_field_that_proves_nothing_is_refused() {
        assert_eq!(check_lines(&[]), Err(Reason::Missing(CONTENT_DIGEST)));
        for lines in [
            &[""][..],
            &["md5=:Sd/dVLAcvNLSq16eXua5uQ==:"],
            &[SHA_256, SHA_256],
            &["sha-256"],
            &["sha-256=()"],
            &["sha-256=::"],
            &["sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBA==:"],
            &[&SHA_256.to_uppercase()],
            &[&SHA_256.replace("sha-256", "SHA-256")],
            &[&SHA_256.replace("BPE=", "BPE")],
            &[&SHA_256.replace("BPE=", "BPF=")],
            &[&format!("{SHA_256};a")],
            &[&SHA_256.replace(':', "\"")],
        ] {
            let malformed = Err(Reason::Malformed(CONTENT_DIGEST));
            assert_eq!(check_lines(lines), malformed, "{lines:?}");
        }
    }
}
