//! What a provider signs and where it puts the signature.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    encoding,
    error::Reason,
    mac::{Candidates, Mac},
};

/// The definition of a provider's signature, shared by [`Verifier`](crate::Verifier) and
/// [`Signer`](crate::Signer). Made by [`presets`](crate::presets).
#[derive(Clone, Debug)]
pub struct Scheme {
    pub(crate) name: &'static str,
    pub(crate) signature: HeaderName,
    pub(crate) timestamp: Option<HeaderName>,
    pub(crate) id: Option<HeaderName>,
    pub(crate) syntax: Syntax,
    /// What is hashed before the body, in order.
    pub(crate) prefix: &'static [Part],
    pub(crate) tolerance: (Duration, Duration),
    pub(crate) replay: ReplayBasis,
    pub(crate) replay_lifetime: Duration,
}

/// How the signature header is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Syntax {
    /// One value in lower-case hex.
    Hex,
    /// `v1,` and base64, several separated by single blanks.
    VersionedBase64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Id,
    Timestamp,
    Dot,
}

/// Which signed data names a delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReplayBasis {
    Id,
    Mac,
}

impl Scheme {
    /// The name of the scheme.
    #[must_use]
    pub const fn name(&self) -> &str {
        self.name
    }

    /// The header fields of the scheme: signature, then timestamp and id if it has them.
    pub fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        std::iter::once(&self.signature)
            .chain(&self.timestamp)
            .chain(&self.id)
    }

    /// Looks each header field of the scheme up, once.
    pub(crate) fn fields<'a>(&self, headers: &'a HeaderMap) -> Fields<'a> {
        let optional = |name: &Option<HeaderName>| {
            name.as_ref()
                .map_or(Field::Absent, |name| Field::of(headers, name))
        };
        Fields {
            signature: Field::of(headers, &self.signature),
            timestamp: optional(&self.timestamp),
            id: optional(&self.id),
        }
    }

    /// Refuses repeated fields of the scheme.
    pub(crate) fn check_repeated(&self, fields: &Fields<'_>) -> Result<(), Reason> {
        // As in `headers`: an absent optional name has an absent field.
        let repeated = [
            (Some(&self.signature), fields.signature),
            (self.timestamp.as_ref(), fields.timestamp),
            (self.id.as_ref(), fields.id),
        ];
        for (name, field) in repeated {
            if let (Some(name), Field::Repeated) = (name, field) {
                return Err(Reason::Malformed(name.clone()));
            }
        }
        Ok(())
    }

    /// Reads the candidates into `all`; undecodable ones are skipped when another is
    /// well-formed.
    pub(crate) fn candidates(
        &self,
        fields: &Fields<'_>,
        all: &mut Candidates,
    ) -> Result<(), Reason> {
        let value = fields.signature.get(&self.signature)?;
        match self.syntax {
            Syntax::Hex => {
                if let Some(mac) = encoding::hex_decode(value) {
                    all.push(mac);
                }
            }
            Syntax::VersionedBase64 => {
                for (seen, token) in value.split(|byte| *byte == b' ').enumerate() {
                    if seen == crate::MAX_CANDIDATES {
                        return Err(Reason::TooManySignatures);
                    }
                    let mac = token.strip_prefix(b"v1,").and_then(encoding::base64_decode);
                    if let Some(mac) = mac {
                        all.push(mac);
                    }
                }
            }
        }
        if all.is_empty() {
            Err(Reason::Malformed(self.signature.clone()))
        } else {
            Ok(())
        }
    }

    pub(crate) fn signature_text(&self, mac: &Mac) -> String {
        match self.syntax {
            Syntax::Hex => encoding::hex_encode(&mac.0),
            Syntax::VersionedBase64 => format!("v1,{}", encoding::base64_encode(&mac.0)),
        }
    }
}

/// The header fields of a scheme in one delivery.
#[derive(Clone, Copy, Default)]
pub(crate) struct Fields<'a> {
    pub(crate) signature: Field<'a>,
    pub(crate) timestamp: Field<'a>,
    pub(crate) id: Field<'a>,
}

/// One header field.
#[derive(Clone, Copy, Default)]
pub(crate) enum Field<'a> {
    #[default]
    Absent,
    Once(&'a HeaderValue),
    Repeated,
}

impl<'a> Field<'a> {
    pub(crate) fn of(headers: &'a HeaderMap, name: &HeaderName) -> Self {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(value), None) => Self::Once(value),
            (Some(_), Some(_)) => Self::Repeated,
        }
    }

    /// The one value: absent is missing, repeated is malformed.
    pub(crate) fn get(self, name: &HeaderName) -> Result<&'a [u8], Reason> {
        match self {
            Self::Once(value) => Ok(value.as_bytes()),
            Self::Absent => Err(Reason::Missing(name.clone())),
            Self::Repeated => Err(Reason::Malformed(name.clone())),
        }
    }

    /// The text as sent; empty unless it is there once.
    pub(crate) fn text(self) -> &'a [u8] {
        match self {
            Self::Once(value) => value.as_bytes(),
            Self::Absent | Self::Repeated => &[],
        }
    }
}

/// Unix seconds: 1 to 12 digits, no sign, no leading zero.
pub(crate) fn parse_timestamp(text: &[u8]) -> Option<u64> {
    let well_formed = (1..=12).contains(&text.len())
        && text.iter().all(u8::is_ascii_digit)
        && (text[0] != b'0' || text.len() == 1);
    well_formed.then(|| {
        text.iter()
            .fold(0, |value, digit| value * 10 + u64::from(digit - b'0'))
    })
}

/// 1 to 256 visible ASCII characters without a dot, which separates the signed parts.
pub(crate) fn id_is_well_formed(id: &[u8]) -> bool {
    (1..=256).contains(&id.len())
        && id
            .iter()
            .all(|byte| byte.is_ascii_graphic() && *byte != b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_plain_digits_only() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1700000000", Some(1_700_000_000)),
            ("999999999999", Some(999_999_999_999)),
        ] {
            assert_eq!(parse_timestamp(text.as_bytes()), expected);
        }
        for bad in [
            "",
            "+1",
            "-1",
            "01",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "1000000000000",
            "٣",
        ] {
            assert_eq!(parse_timestamp(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn ids_are_bounded_visible_and_without_dot() {
        assert!(id_is_well_formed(b"msg_1") && id_is_well_formed(&[b'a'; 256]));
        for bad in [&b""[..], b"a.b", b"a b", &[b'a'; 257], b"\xc3\xa9"] {
            assert!(!id_is_well_formed(bad));
        }
    }
}
