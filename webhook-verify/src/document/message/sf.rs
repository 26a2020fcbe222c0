//! Structured fields ([RFC 8941](https://www.rfc-editor.org/rfc/rfc8941)): dictionaries, read
//! more strictly than the RFC asks for.
//!
//! A repeated key is refused (the RFC lets the last one win), as are numbers with leading
//! zeros and base64 that is not canonical. So a text has one meaning, and what is written
//! again is what was read, but for white space.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};

/// A value on its own. Kinds that no signature field uses are read over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Value<'a> {
    Integer(i64),
    Text(Cow<'a, str>),
    Bytes(Vec<u8>),
    /// A decimal number, token or boolean.
    Other,
}

pub(super) type Parameters<'a> = Vec<(&'a str, Value<'a>)>;

/// A value with its parameters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Item<'a> {
    pub(super) value: Value<'a>,
    pub(super) parameters: Parameters<'a>,
}

/// A member of a dictionary.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Member<'a> {
    Item(Item<'a>),
    List(Vec<Item<'a>>, Parameters<'a>),
}

/// Why a text is no dictionary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    Syntax,
    /// More members than allowed.
    TooMany,
}

/// The most items of an inner list.
pub(super) const MAX_ITEMS: usize = 64;
/// The most parameters of one item; those that are registered are fewer.
const MAX_PARAMETERS: usize = 16;

/// Reads a dictionary of at most `most` members.
pub(super) fn dictionary(text: &str, most: usize) -> Result<Vec<(&str, Member<'_>)>, Fault> {
    let mut reader = Reader(text.trim_matches(' '));
    let mut members: Vec<(&str, Member<'_>)> = Vec::new();
    while !reader.0.is_empty() {
        if members.len() == most {
            return Err(Fault::TooMany);
        }
        let (key, member) = reader.member().ok_or(Fault::Syntax)?;
        if members.iter().any(|(known, _)| *known == key) {
            return Err(Fault::Syntax);
        }
        members.push((key, member));
        if !reader.comma() {
            return Err(Fault::Syntax);
        }
    }
    Ok(members)
}

/// Writes a string; `text` is printable ASCII.
pub(super) fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        if matches!(letter, '"' | '\\') {
            out.push('\\');
        }
        out.push(letter);
    }
    out.push('"');
}

/// Writes a byte sequence.
pub(super) fn write_bytes(out: &mut String, bytes: &[u8]) {
    out.push(':');
    STANDARD.encode_string(bytes, out);
    out.push(':');
}

/// Whether a string can hold `text`.
pub(crate) fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// The text that is left to read.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    /// Takes `wanted` off the front, if it is there.
    fn eat(&mut self, wanted: char) -> bool {
        let rest = self.0.strip_prefix(wanted);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a str {
        let end = self.0.bytes().position(|byte| !wanted(byte));
        let end = end.unwrap_or(self.0.len());
        // `wanted` takes ASCII only, so the text is never cut inside a character.
        let (taken, rest) = self.0.split_at_checked(end).unwrap_or(("", self.0));
        self.0 = rest;
        taken
    }

    /// What stands between two members; false when it is not that, nor the end.
    fn comma(&mut self) -> bool {
        let space = |byte| matches!(byte, b' ' | b'\t');
        self.take_while(space);
        if self.0.is_empty() {
            return true;
        }
        let comma = self.eat(',');
        self.take_while(space);
        comma && !self.0.is_empty()
    }

    fn member(&mut self) -> Option<(&'a str, Member<'a>)> {
        let key = self.key()?;
        let member = if !self.eat('=') {
            // A key alone is true.
            let value = Value::Other;
            let parameters = self.parameters()?;
            Member::Item(Item { value, parameters })
        } else if self.eat('(') {
            let items = self.items()?;
            Member::List(items, self.parameters()?)
        } else {
            Member::Item(self.item()?)
        };
        Some((key, member))
    }

    fn key(&mut self) -> Option<&'a str> {
        let start = self.0.bytes().next()?;
        if !matches!(start, b'a'..=b'z' | b'*') {
            return None;
        }
        let in_key = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*');
        Some(self.take_while(in_key))
    }

    /// The items of an inner list whose parenthesis is open.
    fn items(&mut self) -> Option<Vec<Item<'a>>> {
        let mut items = Vec::new();
        loop {
            let apart = !self.take_while(|byte| byte == b' ').is_empty();
            if self.eat(')') {
                return Some(items);
            }
            if items.len() == MAX_ITEMS || !(apart || items.is_empty()) {
                return None;
            }
            items.push(self.item()?);
        }
    }

    fn item(&mut self) -> Option<Item<'a>> {
        let value = self.value()?;
        let parameters = self.parameters()?;
        Some(Item { value, parameters })
    }

    fn parameters(&mut self) -> Option<Parameters<'a>> {
        let mut all: Parameters<'a> = Vec::new();
        while self.eat(';') {
            self.take_while(|byte| byte == b' ');
            let key = self.key()?;
            let value = match self.eat('=') {
                true => self.value()?,
                false => Value::Other,
            };
            if all.len() == MAX_PARAMETERS || all.iter().any(|(known, _)| *known == key) {
                return None;
            }
            all.push((key, value));
        }
        Some(all)
    }

    fn value(&mut self) -> Option<Value<'a>> {
        match self.0.bytes().next()? {
            b'"' => self.text().map(Value::Text),
            b':' => self.bytes().map(Value::Bytes),
            b'-' | b'0'..=b'9' => self.number(),
            b'?' => {
                self.eat('?');
                (self.eat('0') || self.eat('1')).then_some(Value::Other)
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'*' => {
                self.take_while(in_token);
                Some(Value::Other)
            }
            _ => None,
        }
    }

    fn text(&mut self) -> Option<Cow<'a, str>> {
        self.eat('"');
        let plain = |byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        let mut text = Cow::Borrowed(self.take_while(plain));
        while self.eat('\\') {
            let escaped = ['"', '\\'].into_iter().find(|one| self.eat(*one))?;
            let text = text.to_mut();
            text.push(escaped);
            text.push_str(self.take_while(plain));
        }
        self.eat('"').then_some(text)
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        self.eat(':');
        let text = self.take_while(|byte| byte != b':' && byte.is_ascii());
        let bytes = STANDARD.decode(text).ok()?;
        self.eat(':').then_some(bytes)
    }

    fn number(&mut self) -> Option<Value<'a>> {
        let negative = self.eat('-');
        let whole = self.take_while(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 15 || (whole.len() > 1 && whole.starts_with('0')) {
            return None;
        }
        if self.eat('.') {
            let fraction = self.take_while(|byte| byte.is_ascii_digit());
            let fits = whole.len() <= 12 && (1..=3).contains(&fraction.len());
            return fits.then_some(Value::Other);
        }
        let number: i64 = whole.parse().ok()?;
        match (negative, number) {
            (true, 0) => None,
            (true, number) => Some(Value::Integer(-number)),
            (false, number) => Some(Value::Integer(number)),
        }
    }
}

const fn in_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_'
        )
        || matches!(byte, b'`' | b'|' | b'~' | b':' | b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(text: &str) -> Result<Member<'_>, Fault> {
        let mut members = dictionary(text, 16)?;
        assert_eq!(members.len(), 1);
        Ok(members.remove(0).1)
    }

    fn value(text: &str) -> Option<Value<'_>> {
        let text: &'static str = String::leak(format!("k={text}"));
        match member(text) {
            Ok(Member::Item(item)) => Some(item.value),
            _ => None,
        }
    }

    #[test]
    fn values_of_each_kind_are_read() {
        assert_eq!(value("0"), Some(Value::Integer(0)));
        assert_eq!(value("-42"), Some(Value::Integer(-42)));
        assert_eq!(
            value("999999999999999"),
            Some(Value::Integer(999_999_999_999_999))
        );
        assert_eq!(value(r#""""#), Some(Value::Text("".into())));
        assert_eq!(value(r#""a\"\\b""#), Some(Value::Text(r#"a"\b"#.into())));
        assert_eq!(value(":a2V5:"), Some(Value::Bytes(b"key".into())));
        assert_eq!(value("::"), Some(Value::Bytes(Vec::new())));
        for other in ["1.5", "-0.125", "token/x:y", "*", "?0", "?1"] {
            assert_eq!(value(other), Some(Value::Other), "{other}");
        }
    }

    #[test]
    fn what_has_a_second_form_or_none_is_refused() {
        for bad in [
            "k=01",
            "k=-0",
            "k=1234567890123456",
            "k=1.",
            "k=1.2345",
            "k=1234567890123.0",
            "k=-",
            "k=",
            "k=\"a",
            "k=\"a\\n\"",
            "k=\"\\",
            "k=\"é\"",
            "k=\"\u{7f}\"",
            "k=\"\t\"",
            "k=:a2V5",
            "k=:a2V:",
            "k=:a2V5=:",
            "k=:a2V6a2V=:",
            "k=:a-V5:",
            "k=: a2V5:",
            "k=?2",
            "k=@1",
            "k=%\"a\"",
            "K=1",
            "1=1",
            "k=1,",
            "k=1,,l=1",
            ",k=1",
            "k=1 l=1",
            "k=1, k=1",
            "k=1;a;a",
            "k=1;A",
            "k=1 ;a",
            "k=(",
            "k=(\"a\"",
            "k=(\"a\"\"b\")",
            "k=(\"a\", \"b\")",
            "k=(\"a\"\t)",
            "k=((\"a\"))",
            "\tk=1",
            "k=1;a= 1",
            "k =1",
            "k= 1",
        ] {
            assert_eq!(dictionary(bad, 16), Err(Fault::Syntax), "{bad:?}");
        }
    }

    #[test]
    fn white_space_is_free_where_the_rfc_lets_it_be() {
        let tight = dictionary(r#"a=("x" "y";p);q=1,b"#, 16).unwrap();
        assert_eq!(
            dictionary(" a=(  \"x\"   \"y\"; p );  q=1 \t,\t b  ", 16).unwrap(),
            tight
        );
        assert_eq!(dictionary("", 16), Ok(Vec::new()));
        assert_eq!(dictionary("  ", 16), Ok(Vec::new()));
    }

    #[test]
    fn members_items_and_parameters_are_bounded() {
        let members = |count: usize| -> String {
            let all: Vec<_> = (0..count).map(|i| format!("k{i}")).collect();
            all.join(", ")
        };
        assert_eq!(dictionary(&members(16), 16).unwrap().len(), 16);
        assert_eq!(dictionary(&members(17), 16), Err(Fault::TooMany));
        let items = |count: usize| format!("k=({})", "1 ".repeat(count));
        assert!(dictionary(&items(MAX_ITEMS), 16).is_ok());
        assert_eq!(dictionary(&items(MAX_ITEMS + 1), 16), Err(Fault::Syntax));
        let parameters = |count: usize| -> String {
            let all: Vec<_> = (0..count).map(|i| format!(";p{i}")).collect();
            format!("k{}", all.concat())
        };
        assert!(dictionary(&parameters(MAX_PARAMETERS), 16).is_ok());
        assert_eq!(
            dictionary(&parameters(MAX_PARAMETERS + 1), 16),
            Err(Fault::Syntax)
        );
    }

    #[test]
    fn strings_and_bytes_are_read_as_they_were_written() {
        let mut out = "k=".to_owned();
        write_text(&mut out, r#" a"\b~"#);
        out.push_str(", b=");
        write_bytes(&mut out, &[0xff, 0]);
        assert_eq!(out, r#"k=" a\"\\b~", b=:/wA=:"#);
        let read = dictionary(&out, 2).unwrap();
        let values: Vec<_> = read
            .into_iter()
            .map(|(_, member)| match member {
                Member::Item(item) => item.value,
                Member::List(..) => panic!("an item"),
            })
            .collect();
        assert_eq!(
            values,
            [Value::Text(r#" a"\b~"#.into()), Value::Bytes(vec![0xff, 0])]
        );
    }
}
