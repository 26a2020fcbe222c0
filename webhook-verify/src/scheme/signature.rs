//! The signature header: its grammar, read and written.

use std::borrow::Cow;

use http::HeaderName;

use super::Field;
#[cfg(feature = "ecdsa")]
use crate::mac;
use crate::{
    encoding,
    error::Reason,
    mac::{Algorithm, Candidates, Hash, Mac},
};

/// How the bytes of a signature are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Encoding {
    /// Lower-case hex, two digits per byte.
    Hex,
    /// Base64 of the standard alphabet (RFC 4648 section 4), padded and canonical.
    Base64,
}

/// What stands before a value: `sha256=`, `v1,`, `t=`, or nothing.
pub(crate) type Label = Cow<'static, str>;

/// One header with one value, or with a list of labelled values.
#[derive(Clone, Debug)]
pub(crate) struct SignatureField {
    pub(crate) header: HeaderName,
    /// Between the values of a list; without it the header is one value.
    pub(crate) separator: Option<u8>,
    pub(crate) encoding: Encoding,
    pub(crate) hmac: Option<(Hash, Label)>,
    pub(crate) ed25519: Option<Label>,
    /// ECDSA over P-256; the value is the DER form of a signature in base64.
    pub(crate) ecdsa: Option<Label>,
}

impl SignatureField {
    /// One HMAC-SHA256 value.
    pub(crate) const fn one(header: &'static str, label: &'static str, encoding: Encoding) -> Self {
        Self {
            header: HeaderName::from_static(header),
            separator: None,
            encoding,
            hmac: Some((Hash::Sha256, Cow::Borrowed(label))),
            ed25519: None,
            ecdsa: None,
        }
    }

    /// The value of `label` in the list, which must be there exactly once.
    pub(crate) fn labelled<'a>(&self, field: Field<'a>, label: &str) -> Field<'a> {
        let Field::Once(value) = field else {
            return field;
        };
        let mut found =
            tokens(value, self.separator).filter_map(|token| token.strip_prefix(label.as_bytes()));
        match (found.next(), found.next()) {
            (Some(value), None) => Field::Once(value),
            _ => Field::Malformed,
        }
    }

    /// Reads the candidates of `value` into `all`; `time` is the label of the timestamp in
    /// the list. Undecodable ones are skipped when another is well-formed.
    pub(crate) fn candidates(
        &self,
        value: &[u8],
        time: Option<&str>,
        all: &mut Candidates,
    ) -> Result<(), Reason> {
        let Some(separator) = self.separator else {
            // Not a list of one: looking for separators costs as much as decoding.
            if let Some(mac) = self.candidate(value) {
                all.push(mac);
            }
            return self.well_formed(all);
        };
        let mut seen = 0;
        for token in tokens(value, Some(separator)) {
            if time.is_some_and(|time| token.starts_with(time.as_bytes())) {
                continue;
            }
            // Unknown labels count as well, so that a list cannot be long for nothing.
            if seen == crate::MAX_CANDIDATES {
                return Err(Reason::TooManySignatures);
            }
            seen += 1;
            if let Some(mac) = self.candidate(token) {
                all.push(mac);
            }
        }
        self.well_formed(all)
    }

    fn well_formed(&self, all: &Candidates) -> Result<(), Reason> {
        if all.is_empty() {
            Err(Reason::Malformed(self.header.clone()))
        } else {
            Ok(())
        }
    }

    /// The label decides which kind of key may try the value, never the other way round.
    fn candidate(&self, token: &[u8]) -> Option<Mac> {
        if let Some((hash, label)) = &self.hmac
            && let Some(text) = after(label, token)
        {
            return self.encoding.decode(text, Algorithm::Hmac(*hash));
        }
        if let Some(label) = &self.ed25519
            && let Some(text) = after(label, token)
        {
            return self.encoding.decode(text, Algorithm::Ed25519);
        }
        let text = after(self.ecdsa.as_ref()?, token)?;
        ecdsa_decode(text)
    }

    /// The header value that carries `mac`, and `time` if it stands in the list.
    pub(crate) fn text(&self, mac: &Mac, time: Option<(&str, &str)>) -> String {
        let label = match mac.algorithm() {
            Algorithm::Hmac(_) => self.hmac.as_ref().map(|(_, label)| label),
            Algorithm::Ed25519 => self.ed25519.as_ref(),
            _ => self.ecdsa.as_ref(),
        };
        let label = label.map_or("", |label| label);
        let value = match mac.algorithm() {
            Algorithm::EcdsaP256 => ecdsa_encode(mac.bytes()),
            _ => self.encoding.encode(mac.bytes()),
        };
        match (time, self.separator) {
            (Some((name, at)), Some(separator)) => {
                format!("{name}{at}{}{label}{value}", char::from(separator))
            }
            _ => format!("{label}{value}"),
        }
    }
}

/// The values of a list, empty ones included; without a separator the text is one.
fn tokens(text: &[u8], separator: Option<u8>) -> impl Iterator<Item = &[u8]> {
    let mut left = Some(text);
    std::iter::from_fn(move || {
        let text = left?;
        let end = separator.and_then(|separator| encoding::find(separator, text));
        let end = end.and_then(|at| text.split_at_checked(at));
        left = end.and_then(|(_, rest)| rest.get(1..));
        Some(end.map_or(text, |(token, _)| token))
    })
}

/// What follows `label`, if `token` begins with it.
fn after<'a>(label: &str, token: &'a [u8]) -> Option<&'a [u8]> {
    // To compare nothing is not free: the `memcmp` of glibc for AVX-512 reads zero bytes of
    // an empty text, which points nowhere, and takes 80 ns to find that harmless.
    if label.is_empty() {
        Some(token)
    } else {
        token.strip_prefix(label.as_bytes())
    }
}

/// The DER form has up to 72 bytes.
#[cfg(feature = "ecdsa")]
fn ecdsa_decode(text: &[u8]) -> Option<Mac> {
    let mut room = [0; 72];
    let der = encoding::base64_decode_up_to(text, &mut room)?;
    let signature = mac::ecdsa::from_der(der)?;
    Some(Mac::new(Algorithm::EcdsaP256, &signature))
}

#[cfg(feature = "ecdsa")]
fn ecdsa_encode(signature: &[u8]) -> String {
    let der = mac::ecdsa::to_der(signature);
    der.map_or_else(String::new, |der| encoding::base64_encode(&der))
}

#[cfg(not(feature = "ecdsa"))]
const fn ecdsa_decode(_: &[u8]) -> Option<Mac> {
    None
}

#[cfg(not(feature = "ecdsa"))]
const fn ecdsa_encode(_: &[u8]) -> String {
    String::new()
}

impl Encoding {
    /// Exactly as many bytes as `algorithm` makes; anything else is `None`.
    fn decode(self, text: &[u8], algorithm: Algorithm) -> Option<Mac> {
        match algorithm {
            Algorithm::Hmac(Hash::Sha256) => self.exactly::<32>(text, algorithm),
            Algorithm::Hmac(Hash::Sha1) => self.exactly::<20>(text, algorithm),
            Algorithm::Hmac(Hash::Sha512) | Algorithm::Ed25519 => {
                self.exactly::<64>(text, algorithm)
            }
            _ => None,
        }
    }

    fn exactly<const N: usize>(self, text: &[u8], algorithm: Algorithm) -> Option<Mac> {
        let bytes: [u8; N] = match self {
            Self::Hex => encoding::hex_decode(text)?,
            Self::Base64 => encoding::base64_decode(text)?,
        };
        Some(Mac::new(algorithm, &bytes))
    }

    fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => encoding::hex_encode(bytes),
            Self::Base64 => encoding::base64_encode(bytes),
        }
    }
}
