//! JSON written again in the ways of usual writers: the order of keys and the digits of
//! numbers stay as they are.

use serde::de::IgnoredAny;

/// The white space between tokens.
#[derive(Clone, Copy)]
pub(super) enum Spaces {
    /// `{"a":1,"b":2}`, as JavaScript, PHP, Go, Ruby and serde write it.
    None,
    /// `{"a": 1, "b": 2}`, as Python writes it.
    AfterSigns,
    /// A line for each value.
    Indent(usize),
}

/// What strings look like.
#[derive(Clone, Copy)]
pub(super) enum Escapes {
    Same,
    /// `\/`, as PHP writes it.
    Slash,
    /// `\u00e9`, as Python writes it.
    Ascii,
    /// Both, as PHP does by default.
    SlashAndAscii,
    /// `/` and `é`.
    Plain,
    /// `\u003c` for `<`, `>` and `&`, as Go writes it.
    Html,
}

impl Spaces {
    pub(super) const ALL: [Self; 4] = [
        Self::None,
        Self::AfterSigns,
        Self::Indent(2),
        Self::Indent(4),
    ];
}

impl Escapes {
    pub(super) const ALL: [Self; 6] = [
        Self::Same,
        Self::Slash,
        Self::Ascii,
        Self::SlashAndAscii,
        Self::Plain,
        Self::Html,
    ];
}

/// `None` when it is not JSON.
pub(super) fn rewritten(body: &[u8], spaces: Spaces, escapes: Escapes) -> Option<Vec<u8>> {
    serde_json::from_slice::<IgnoredAny>(body).ok()?;
    let mut left = std::str::from_utf8(body).ok()?;
    let mut writer = Writer {
        out: String::with_capacity(body.len()),
        spaces,
        depth: 0,
    };
    while let Some(first) = left.chars().next() {
        let length = match first {
            '"' => string_length(left),
            _ => first.len_utf8(),
        };
        let (token, rest) = left.split_at_checked(length)?;
        left = rest;
        match first {
            '"' => string(token, escapes, &mut writer.out)?,
            _ if first.is_ascii_whitespace() => {}
            _ => writer.sign(first, left.trim_ascii_start()),
        }
    }
    Some(writer.out.into_bytes())
}

/// With both quotes.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |at| at + 2)
}

struct Writer {
    out: String,
    spaces: Spaces,
    depth: usize,
}

impl Writer {
    fn sign(&mut self, sign: char, rest: &str) {
        match sign {
            '{' | '[' => {
                self.out.push(sign);
                self.depth += 1;
                // Nothing stands in what is empty.
                if !rest.starts_with(['}', ']']) {
                    self.line();
                }
            }
            '}' | ']' => {
                self.depth = self.depth.saturating_sub(1);
                if !self.out.ends_with(['{', '[']) {
                    self.line();
                }
                self.out.push(sign);
            }
            ',' => {
                self.out.push(sign);
                self.blank_if(matches!(self.spaces, Spaces::AfterSigns));
                self.line();
            }
            ':' => {
                self.out.push(sign);
                self.blank_if(!matches!(self.spaces, Spaces::None));
            }
            _ => self.out.push(sign),
        }
    }

    fn blank_if(&mut self, blank: bool) {
        if blank {
            self.out.push(' ');
        }
    }

    fn line(&mut self) {
        if let Spaces::Indent(width) = self.spaces {
            self.out.push('\n');
            self.out
                .extend(std::iter::repeat_n(' ', width * self.depth));
        }
    }
}

/// Writes `token`, a string with its quotes.
fn string(token: &str, escapes: Escapes, out: &mut String) -> Option<()> {
    if let Escapes::Same = escapes {
        out.push_str(token);
        return Some(());
    }
    let text: String = serde_json::from_str(token).ok()?;
    let plain = serde_json::to_string(&text).ok()?;
    let ascii = matches!(escapes, Escapes::Ascii | Escapes::SlashAndAscii);
    let slash = matches!(escapes, Escapes::Slash | Escapes::SlashAndAscii);
    let html = matches!(escapes, Escapes::Html);
    for character in plain.chars() {
        match character {
            '/' if slash => out.push_str("\\/"),
            '<' | '>' | '&' if html => unit(character as u16, out),
            _ if ascii && !character.is_ascii() => {
                let mut room = [0; 2];
                for half in character.encode_utf16(&mut room) {
                    unit(*half, out);
                }
            }
            _ => out.push(character),
        }
    }
    Some(())
}

fn unit(unit: u16, out: &mut String) {
    use std::fmt::Write as _;
    // Writing to a string does not fail.
    let _ = write!(out, "\\u{unit:04x}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = r#"{"z":"é / 😀 <b>","a":[1.50,{},[]],"t":"say \"\\\""}"#;

    fn write(body: &str, spaces: Spaces, escapes: Escapes) -> String {
        String::from_utf8(rewritten(body.as_bytes(), spaces, escapes).unwrap()).unwrap()
    }

    #[test]
    fn keys_and_numbers_stay_and_white_space_goes() {
        let python = write(SENT, Spaces::AfterSigns, Escapes::Same);
        assert_eq!(
            python,
            r#"{"z": "é / 😀 <b>", "a": [1.50, {}, []], "t": "say \"\\\""}"#
        );
        let indented = write(r#"{"a":[1,{}],"b":{}}"#, Spaces::Indent(2), Escapes::Same);
        assert_eq!(
            indented,
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": {}\n}"
        );
        for spaces in Spaces::ALL {
            let other = write(SENT, spaces, Escapes::Same);
            assert_eq!(write(&other, Spaces::None, Escapes::Same), SENT);
        }
    }

    #[test]
    fn every_way_to_escape_is_read_back_as_plain() {
        let php = write(SENT, Spaces::None, Escapes::SlashAndAscii);
        assert!(php.contains(r"\u00e9 \/ \ud83d\ude00 <b>"), "{php}");
        let go = write(SENT, Spaces::None, Escapes::Html);
        assert!(go.contains(r"é / 😀 \u003cb\u003e"), "{go}");
        for escapes in Escapes::ALL {
            let other = write(SENT, Spaces::None, escapes);
            assert_eq!(write(&other, Spaces::None, Escapes::Plain), SENT);
        }
    }

    #[test]
    fn what_is_not_json_is_left_alone() {
        for body in ["", "{", "\"\\", "{\"a\":1} x", "\u{feff}{}"] {
            assert!(rewritten(body.as_bytes(), Spaces::None, Escapes::Same).is_none());
        }
    }
}
