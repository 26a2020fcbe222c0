//! Just enough JSON for a flat object of texts and numbers.

use std::fmt::Write;

use bytes::Bytes;

/// A JSON object (RFC 8259) under construction.
#[derive(Debug)]
pub(crate) struct Json(String);

impl Json {
    pub(crate) fn new() -> Self {
        let mut text = String::with_capacity(224);
        text.push('{');
        Self(text)
    }

    /// A member whose value is a text.
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.string(value);
    }

    /// A member whose value is a number.
    pub(crate) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        // Writing to a `String` cannot fail.
        let _ = write!(self.0, "{value}");
    }

    pub(crate) fn finish(mut self) -> Bytes {
        self.0.push('}');
        self.0.into()
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.string(name);
        self.0.push(':');
    }

    fn string(&mut self, value: &str) {
        self.0.push('"');
        for c in value.chars() {
            match c {
                '"' | '\\' => self.0.extend(['\\', c]),
                '\0'..='\x1f' => {
                    let _ = write!(self.0, "\\u{:04x}", u32::from(c));
                }
                _ => self.0.push(c),
            }
        }
        self.0.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_survives_a_json_parser() {
        let every: String = ('\0'..='\u{2ff}').chain(['\u{2028}', '😀']).collect();
        let mut json = Json::new();
        json.text(&every, &every);
        json.number("n", u64::MAX);
        let parsed: serde_json::Value = serde_json::from_slice(&json.finish()).unwrap();
        assert_eq!(parsed[&every], every.as_str());
        assert_eq!(parsed["n"], u64::MAX);
    }

    #[test]
    fn an_object_without_members_is_empty() {
        assert_eq!(Json::new().finish(), "{}");
    }
}
