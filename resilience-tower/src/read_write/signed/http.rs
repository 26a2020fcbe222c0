//! Signed tokens in requests and responses.

use http::{HeaderMap, HeaderName, HeaderValue, header::COOKIE};
use resilience_core::route::{Position, Token, TokenError};

use super::{Signer, VerifyError};

/// Signed tokens in a cookie: for browsers.
///
/// ```text
/// Set-Cookie: __Host-read-after=AQcy…; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=3600
/// ```
///
/// `Max-Age` is the signer's [`max_age`](Signer::max_age); without one, the cookie ends with the
/// browser's session. The prefix `__Host-` has browsers refuse it from other hosts (RFC 6265bis).
#[derive(Clone, Debug)]
pub struct TokenCookie {
    signer: Signer,
    name: String,
    path: String,
}

/// Signed tokens in a header: for programs. `x-read-after` unless said otherwise, in requests and
/// in the responses of writes.
#[derive(Clone, Debug)]
pub struct TokenHeader {
    signer: Signer,
    name: HeaderName,
}

/// Of cookies of one name, which a browser sends for several paths, so many are tried.
const TRIED: usize = 4;

/// The prefix of names by which browsers refuse a cookie from other hosts.
const HOST: &str = "__Host-";

impl TokenCookie {
    /// The cookie `__Host-read-after`, for all paths.
    pub fn new(signer: Signer) -> Self {
        Self {
            signer,
            name: "__Host-read-after".into(),
            path: "/".into(),
        }
    }

    /// Another name. One with the prefix `__Host-` needs the path `/`.
    ///
    /// # Errors
    ///
    /// A name that is no token of RFC 9110, or one with that prefix where there is another path.
    pub fn name(mut self, name: &str) -> Result<Self, NameError> {
        let named = !name.is_empty() && name.bytes().all(is_token);
        self.name = named.then(|| name.to_owned()).ok_or(NameError::Name)?;
        self.kept()
    }

    /// Another path; the cookie needs another [`name`](Self::name) first.
    ///
    /// # Errors
    ///
    /// A path without a leading `/`, or with a `;` or a control character; another than `/` for a name
    /// with the prefix `__Host-`.
    pub fn path(mut self, path: &str) -> Result<Self, NameError> {
        let plain = |byte: u8| (b' '..0x7f).contains(&byte) && byte != b';';
        let fits = path.starts_with('/') && path.bytes().all(plain);
        self.path = fits.then(|| path.to_owned()).ok_or(NameError::Path)?;
        self.kept()
    }

    /// Browsers drop a cookie of another path whose name has the prefix, in any case of letters.
    fn kept(self) -> Result<Self, NameError> {
        let prefix = self.name.get(..HOST.len());
        let of_host = prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(HOST));
        match of_host && self.path != "/" {
            true => Err(NameError::Host),
            false => Ok(self),
        }
    }

    /// The token of a request; `None` without such a cookie. Of several, the first that is signed
    /// counts.
    ///
    /// # Errors
    ///
    /// As [`Signer::verify`], of the first one.
    pub fn read<P: Position>(&self, headers: &HeaderMap) -> Result<Option<Token<P>>, VerifyError> {
        let lines = headers.get_all(COOKIE).into_iter();
        let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
        let values = pairs.filter_map(|pair| {
            let pair = pair.trim_ascii_start();
            let rest = pair.strip_prefix(self.name.as_bytes())?;
            rest.strip_prefix(b"=").map(<[u8]>::trim_ascii_end)
        });
        let mut first = Ok(None);
        for value in values.take(TRIED) {
            match self.signer.verify(value) {
                Ok(token) => return Ok(Some(token)),
                Err(error) => first = first.and(Err(error)),
            }
        }
        first
    }

    /// The value of `Set-Cookie` with a token.
    ///
    /// # Errors
    ///
    /// As [`Signer::sign`].
    pub fn write<P: Position>(&self, token: &Token<P>) -> Result<HeaderValue, TokenError> {
        let (name, path) = (&self.name, &self.path);
        let text = self.signer.sign(token)?;
        let mut value = format!("{name}={text}; Path={path}; HttpOnly; Secure; SameSite=Lax");
        if let Some(age) = self.signer.max_age {
            // Rounded up: at 0 browsers drop it at once. The token tells its end itself.
            let seconds = age
                .as_secs()
                .saturating_add(u64::from(age.subsec_nanos() > 0));
            value.push_str(&format!("; Max-Age={seconds}"));
        }
        // All parts were checked.
        HeaderValue::try_from(value).map_err(|_| TokenError::Malformed)
    }
}

impl TokenHeader {
    /// The header `x-read-after`.
    pub fn new(signer: Signer) -> Self {
        Self::named(HeaderName::from_static("x-read-after"), signer)
    }

    /// Another header.
    pub const fn named(name: HeaderName, signer: Signer) -> Self {
        Self { signer, name }
    }

    /// The header's name.
    pub const fn name(&self) -> &HeaderName {
        &self.name
    }

    /// The token of a request or a response; `None` without such a header.
    ///
    /// # Errors
    ///
    /// As [`Signer::verify`]; [`Malformed`](VerifyError::Malformed) as well if the header comes twice.
    pub fn read<P: Position>(&self, headers: &HeaderMap) -> Result<Option<Token<P>>, VerifyError> {
        let mut values = headers.get_all(&self.name).into_iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => self.signer.verify(value).map(Some),
            (Some(_), Some(_)) => Err(VerifyError::Malformed),
        }
    }

    /// The header's value with a token.
    ///
    /// # Errors
    ///
    /// As [`Signer::sign`].
    pub fn write<P: Position>(&self, token: &Token<P>) -> Result<HeaderValue, TokenError> {
        let text = self.signer.sign(token)?;
        // Base64 is visible ASCII.
        HeaderValue::try_from(text).map_err(|_| TokenError::Malformed)
    }
}

/// A cookie that cannot be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The name is no token of RFC 9110.
    #[error("the name of a cookie has letters, digits and !#$%&'*+-.^_`|~ only")]
    Name,
    /// A name with the prefix `__Host-`, and a path other than `/`.
    #[error("a cookie with the prefix __Host- needs the path /")]
    Host,
    /// The path does not begin with `/`, or holds what no cookie can.
    #[error("the path of a cookie begins with / and has neither ; nor control characters")]
    Path,
}

/// A character of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
