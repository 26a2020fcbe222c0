//! The rules of a JSON payload: the parser says that it is JSON, a second walk over the text
//! finds repeated keys, depth and lengths.

use serde_json::Value;

use crate::Choices;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub depth: usize,
    pub string: usize,
    pub entries: usize,
}

/// `None`: refused. Else the value.
pub fn read(text: &[u8], limits: Limits) -> Option<Value> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let text = std::str::from_utf8(text).ok()?;
    let mut walk = Walk { text, limits };
    walk.value(0)?;
    Some(value)
}

/// The field at a path of keys.
pub fn field<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| match value {
        Value::Object(fields) => fields.get(key),
        _ => None,
    })
}

/// The rest of a text that is known to be JSON.
struct Walk<'a> {
    text: &'a str,
    limits: Limits,
}

impl Walk<'_> {
    fn next(&mut self) -> u8 {
        self.text = self.text.trim_start_matches([' ', '\t', '\n', '\r']);
        self.text.as_bytes()[0]
    }

    fn skip(&mut self, bytes: usize) {
        self.text = &self.text[bytes..];
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        match self.next() {
            b'{' => self.entries(b'}', depth, |walk, keys| {
                keys.push(walk.string()?);
                let last = keys.len() - 1;
                if keys[..last].contains(&keys[last]) {
                    return None;
                }
                assert_eq!(walk.next(), b':');
                walk.skip(1);
                walk.value(depth + 1)
            }),
            b'[' => self.entries(b']', depth, |walk, _| walk.value(depth + 1)),
            b'"' => self.string().map(drop),
            _ => {
                let end = self.text.find([',', ']', '}', ' ', '\t', '\n', '\r']);
                self.skip(end.unwrap_or(self.text.len()));
                Some(())
            }
        }
    }

    fn entries(
        &mut self,
        end: u8,
        depth: usize,
        mut entry: impl FnMut(&mut Self, &mut Vec<String>) -> Option<()>,
    ) -> Option<()> {
        if depth >= self.limits.depth {
            return None;
        }
        self.skip(1);
        let (mut count, mut keys) = (0, Vec::new());
        while self.next() != end {
            if self.next() == b',' {
                self.skip(1);
                self.next();
            }
            entry(self, &mut keys)?;
            count += 1;
        }
        self.skip(1);
        (count <= self.limits.entries).then_some(())
    }

    fn string(&mut self) -> Option<String> {
        self.next();
        let bytes = self.text.as_bytes();
        let mut end = 1;
        while bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let text: String = serde_json::from_str(&self.text[..=end]).ok()?;
        self.skip(end + 1);
        (text.len() <= self.limits.string).then_some(text)
    }
}

const STRINGS: [&str; 14] = [
    "\"a\"",
    "\"b\"",
    "\"\\u0061\"",
    "\"a.b\"",
    "\"\"",
    "\"$serde_json::private::Number\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud800\"",
    "\"é\"",
    "\"\\\"\\\\\\/\"",
    "\"a\\u0000\"",
    "\"12345678\"",
    "\"123456789\"",
    "\"A\"",
];
const SCALARS: [&str; 16] = [
    "0",
    "-0",
    "1",
    "-1",
    "01",
    "1.5",
    "1e3",
    "1e999",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "true",
    "false",
    "null",
    "nul",
    "NaN",
];
const SPACES: [&str; 6] = ["", "", "", " ", "\n\t", "\u{b}"];

/// Writes JSON, mostly well-formed.
pub fn write(choices: &mut Choices<'_>, text: &mut Vec<u8>) -> Option<()> {
    let space = choices.one_of(&SPACES)?;
    text.extend_from_slice(space.as_bytes());
    match choices.byte()? {
        kind @ 0..=99 => {
            let object = kind % 2 == 0;
            text.push(if object { b'{' } else { b'[' });
            let count = choices.below(6)?;
            for i in 0..count {
                if i > 0 {
                    text.push(b',');
                }
                if object {
                    text.extend_from_slice(choices.one_of(&STRINGS)?.as_bytes());
                    text.push(b':');
                }
                write(choices, text)?;
            }
            text.push(if object { b'}' } else { b']' });
        }
        100..=159 => text.extend_from_slice(choices.one_of(&STRINGS)?.as_bytes()),
        160..=249 => text.extend_from_slice(choices.one_of(&SCALARS)?.as_bytes()),
        // Deep, and never closed by accident.
        250..=252 => {
            let depth = choices.below(140)?;
            text.extend(std::iter::repeat_n(b'[', depth));
            text.extend(std::iter::repeat_n(b']', depth));
        }
        _ => {
            let length = choices.below(5)?;
            for _ in 0..length {
                text.push(choices.byte()?);
            }
        }
    }
    text.extend_from_slice(choices.one_of(&SPACES)?.as_bytes());
    Some(())
}
