//! The header fields of one delivery, and the strict forms of timestamp and id.

use http::{HeaderMap, HeaderName};

use crate::error::Reason;

/// The header fields of a scheme in one delivery.
#[derive(Clone, Copy, Default)]
pub(crate) struct Fields<'a> {
    pub(crate) signature: Field<'a>,
    pub(crate) timestamp: Field<'a>,
    pub(crate) id: Field<'a>,
}

/// One field.
#[derive(Clone, Copy, Default)]
pub(crate) enum Field<'a> {
    #[default]
    Absent,
    Once(&'a [u8]),
    /// More than one header of the name.
    Repeated,
    /// A part of a header that is not there exactly once.
    Malformed,
}

impl<'a> Field<'a> {
    pub(crate) fn of(headers: &'a HeaderMap, name: &HeaderName) -> Self {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(value), None) => Self::Once(value.as_bytes()),
            (Some(_), Some(_)) => Self::Repeated,
        }
    }

    /// The one value: absent is missing, repeated is malformed.
    pub(crate) fn get(self, name: &HeaderName) -> Result<&'a [u8], Reason> {
        match self {
            Self::Once(value) => Ok(value),
            Self::Absent => Err(Reason::Missing(name.clone())),
            Self::Repeated | Self::Malformed => Err(Reason::Malformed(name.clone())),
        }
    }

    /// The text as sent; empty unless it is there once.
    pub(crate) const fn text(self) -> &'a [u8] {
        match self {
            Self::Once(value) => value,
            _ => &[],
        }
    }
}

/// Unix time in whole units: 1 to `most` digits (at most 18), no sign, no leading zero.
pub(crate) fn parse_timestamp(text: &[u8], most: usize) -> Option<u64> {
    if !(1..=most).contains(&text.len()) || (text[0] == b'0' && text.len() > 1) {
        return None;
    }
    text.iter().try_fold(0, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| value * 10 + u64::from(digit))
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
            assert_eq!(parse_timestamp(text.as_bytes(), 12), expected);
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
            assert_eq!(parse_timestamp(bad.as_bytes(), 12), None, "{bad:?}");
        }
        assert_eq!(
            parse_timestamp(b"999999999999999", 15),
            Some(999_999_999_999_999)
        );
        assert_eq!(parse_timestamp(b"1000000000000000", 15), None);
    }

    #[test]
    fn ids_are_bounded_visible_and_without_dot() {
        assert!(id_is_well_formed(b"msg_1") && id_is_well_formed(&[b'a'; 256]));
        for bad in [&b""[..], b"a.b", b"a b", &[b'a'; 257], b"\xc3\xa9"] {
            assert!(!id_is_well_formed(bad));
        }
    }
}
