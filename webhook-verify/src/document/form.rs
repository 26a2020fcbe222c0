//! `application/x-www-form-urlencoded`, read strictly, in one pass and as bytes.

use std::borrow::Cow;

use crate::error::Reason;

/// The fields of a form in the order in which they were sent, decoded.
///
/// Read are forms that every parser reads alike: visible ASCII only, `%` always before two
/// hex digits, no field without a name. A name without `=` has the empty value, and an empty
/// place (`a=1&&b=2`) is no field. Values need not be UTF-8.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Form<'a> {
    fields: Vec<Field<'a>>,
}

/// One field of a form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Field<'a> {
    pub(crate) name: Cow<'a, [u8]>,
    pub(crate) value: Cow<'a, [u8]>,
}

impl<'a> Form<'a> {
    /// Reads a body or a query. Repeated fields are kept: the caller judges them.
    ///
    /// # Errors
    /// [`Reason::NotForm`] when parsers could differ about it, or when it has more than
    /// [`MAX_FIELDS`] fields.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, Reason> {
        let mut fields = Vec::new();
        for pair in text.split(|byte| *byte == b'&') {
            if pair.is_empty() {
                continue;
            }
            let field = Field::parse(pair).ok_or(Reason::NotForm)?;
            if fields.len() == MAX_FIELDS {
                return Err(Reason::NotForm);
            }
            fields.push(field);
        }
        Ok(Self { fields })
    }

    /// All fields, in the order sent.
    pub(crate) fn fields(&self) -> &[Field<'a>] {
        &self.fields
    }

    /// The value of a field that must be there once.
    ///
    /// # Errors
    /// [`Reason::FieldMissing`] or [`Reason::FieldRepeated`].
    pub(crate) fn once(&self, name: &str) -> Result<&[u8], Reason> {
        let mut found = self
            .fields
            .iter()
            .filter(|field| *field.name == *name.as_bytes());
        match (found.next(), found.next()) {
            (Some(field), None) => Ok(&field.value),
            (None, _) => Err(Reason::FieldMissing(name.into())),
            _ => Err(Reason::FieldRepeated(name.into())),
        }
    }
}

impl<'a> Field<'a> {
    fn parse(pair: &'a [u8]) -> Option<Self> {
        let equals = pair.iter().position(|byte| *byte == b'=');
        let (name, value) = equals.map_or((pair, &[][..]), |at| (&pair[..at], &pair[at + 1..]));
        let name = decode(name)?;
        let value = decode(value)?;
        (!name.is_empty()).then_some(Self { name, value })
    }
}

/// `+` is a blank and `%` leads two hex digits of either case; `None` when something else
/// stands after `%`, or a byte that no sender leaves as it is.
fn decode(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !text.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        out.push(match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                digit(*high)? << 4 | digit(*low)?
            }
            (b'%', _) => return None,
            (b'+', _) => b' ',
            (byte, _) => *byte,
        });
    }
    Some(Cow::Owned(out))
}

fn digit(text: u8) -> Option<u8> {
    let value = char::from(text).to_digit(16)?;
    u8::try_from(value).ok()
}

/// Appends `name=value` as PHP's `urlencode` writes it, after a `&` unless it is the first:
/// letters, digits, `-`, `_` and `.` stay, a blank is `+`, all else is `%` and two upper-case
/// hex digits (`~` and `*` too, which other encoders leave).
pub(crate) fn append_as_php(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if !out.is_empty() {
        out.push(b'&');
    }
    encode_as_php(out, name);
    out.push(b'=');
    encode_as_php(out, value);
}

fn encode_as_php(out: &mut Vec<u8>, text: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(*byte),
            b' ' => out.push(b'+'),
            _ => {
                let [high, low] = [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
                out.extend([b'%', high, low]);
            }
        }
    }
}

/// The most fields of a form: PHP's `max_input_vars`, which reads no more either.
const MAX_FIELDS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    fn pairs(text: &[u8]) -> Result<Pairs, Reason> {
        let owned = |field: &Field<'_>| (field.name.to_vec(), field.value.to_vec());
        Ok(Form::parse(text)?.fields().iter().map(owned).collect())
    }

    #[test]
    fn fields_are_decoded_to_bytes_in_the_order_sent() {
        let text = b"b=1&a=x+y%2B&a=%ff%FE%00&empty=&bare&n%26=%3d=&&";
        let expected: [(&[u8], &[u8]); 6] = [
            (b"b", b"1"),
            (b"a", b"x y+"),
            (b"a", b"\xff\xfe\0"),
            (b"empty", b""),
            (b"bare", b""),
            (b"n&", b"=="),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        assert_eq!(pairs(text), Ok(expected));
        assert_eq!(pairs(b""), Ok(vec![]));
    }

    #[test]
    fn what_parsers_read_differently_is_no_form() {
        for text in [
            &b"=1"[..],
            b"a=1&=",
            b"a=%",
            b"a=%4",
            b"a=%zz",
            b"a=%+1",
            b"a=%-1",
            b"%=1",
            b"a=b c",
            b"a=1\n",
            b"a=1\r\n",
            b"a\0=1",
            b"a=\x7f",
            b"a=\xc3\xa9",
            b" a=1",
        ] {
            assert_eq!(pairs(text), Err(Reason::NotForm), "{text:?}");
        }
    }

    #[test]
    fn a_thousand_fields_are_read_and_no_more() {
        let most = "a=1&".repeat(1000);
        assert_eq!(pairs(most.as_bytes()).map(|fields| fields.len()), Ok(1000));
        assert_eq!(pairs(format!("{most}a").as_bytes()), Err(Reason::NotForm));
        let empty = "&".repeat(100_000);
        assert_eq!(pairs(empty.as_bytes()), Ok(vec![]));
    }

    #[test]
    fn a_field_that_is_asked_for_is_there_once() {
        let form = Form::parse(b"a=1&b=2&%62=3").unwrap();
        assert_eq!(form.once("a"), Ok(&b"1"[..]));
        assert_eq!(form.once("b"), Err(Reason::FieldRepeated("b".into())));
        assert_eq!(form.once("c"), Err(Reason::FieldMissing("c".into())));
    }

    /// The third vector of `http_build_query`, made by PHP 8.3.33.
    #[test]
    fn fields_are_written_as_php_writes_them() {
        let mut out = Vec::new();
        append_as_php(&mut out, b"m", "a b c~*'()!/é+".as_bytes());
        append_as_php(&mut out, b"n.-_", b"\0x");
        let php = b"m=a+b+c%7E%2A%27%28%29%21%2F%C3%A9%2B&n.-_=%00x";
        assert_eq!(out, php);
        let back = pairs(&out).unwrap();
        assert_eq!(back[0].1, "a b c~*'()!/é+".as_bytes());
        for byte in 0..=255 {
            let mut out = Vec::new();
            append_as_php(&mut out, &[byte], &[byte, byte]);
            assert_eq!(pairs(&out), Ok(vec![(vec![byte], vec![byte; 2])]));
        }
    }
}
