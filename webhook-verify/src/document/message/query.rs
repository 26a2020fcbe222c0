//! The parameters of a query as `@query-param` signs them
//! ([RFC 9421, 2.2.8](https://www.rfc-editor.org/rfc/rfc9421#section-2.2.8)): decoded by the
//! rules of forms, then encoded again in one way.

/// The parameters of one query, encoded.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

/// The most parameters that are read.
const MAX_PARAMETERS: usize = 1000;

impl Parameters {
    /// Reads a query; `None` when it has too many parameters or one is not UTF-8.
    pub(super) fn read(query: &str) -> Option<Self> {
        let mut all = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            if all.len() == MAX_PARAMETERS {
                return None;
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            all.push((recode(name)?, recode(value)?));
        }
        Some(Self(all))
    }

    /// The value of the parameter of this encoded name; `None` unless it is there once.
    pub(super) fn once(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(known, _)| known == name);
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value)
    }
}

/// The one encoding of what `text` encodes.
fn recode(text: &str) -> Option<String> {
    let decoded = decode(text.as_bytes());
    std::str::from_utf8(&decoded).ok()?;
    Some(encode(&decoded))
}

/// `%` without two hex digits stands for itself, as in every browser.
fn decode(mut text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    while let [first, rest @ ..] = text {
        let (byte, rest) = match (first, rest) {
            (b'+', _) => (b' ', rest),
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', rest),
            },
            _ => (*first, rest),
        };
        out.push(byte);
        text = rest;
    }
    out
}

fn digit(text: u8) -> Option<u8> {
    let digit = char::from(text).to_digit(16)?;
    u8::try_from(digit).ok()
}

fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'*' | b'-' | b'.' | b'_') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn once(query: &str, name: &str) -> Option<String> {
        Parameters::read(query)?.once(name).map(str::to_owned)
    }

    /// The examples of the RFC.
    #[test]
    fn parameters_are_encoded_as_in_the_rfc() {
        let query = "param=value&foo=bar&baz=batman&qux=";
        assert_eq!(once(query, "baz").unwrap(), "batman");
        assert_eq!(once(query, "qux").unwrap(), "");
        assert_eq!(once(query, "param").unwrap(), "value");
        let query = "var=this%20is%20a%20big%0Amultiline%20value&bar=with+plus+whitespace\
                     &fa%C3%A7ade%22%3A%20=something";
        for (name, value) in [
            ("var", "this%20is%20a%20big%0Amultiline%20value"),
            ("bar", "with%20plus%20whitespace"),
            ("fa%C3%A7ade%22%3A%20", "something"),
        ] {
            assert_eq!(once(query, name).unwrap(), value);
        }
    }

    #[test]
    fn a_parameter_that_is_absent_or_repeated_has_no_value() {
        assert_eq!(once("a=1", "b"), None);
        assert_eq!(once("a=1&a=1", "a"), None);
        assert_eq!(once("a=1&%61=2", "a"), None);
        assert_eq!(once("a=1&a", "a"), None);
        // The name is compared in its encoded form.
        assert_eq!(once("%61=1", "%61"), None);
        assert_eq!(once("a=%ff", "a"), None);
        assert_eq!(once("", ""), None);
    }

    #[test]
    fn odd_forms_are_read_as_forms_are() {
        assert_eq!(once("&&a&", "a").unwrap(), "");
        assert_eq!(once("=x", "").unwrap(), "x");
        assert_eq!(once("a=b=c", "a").unwrap(), "b%3Dc");
        assert_eq!(once("a=%zz%4&b=%e4%BD%a0", "a").unwrap(), "%25zz%254");
        assert_eq!(once("a=%zz%4&b=%e4%BD%a0", "b").unwrap(), "%E4%BD%A0");
        assert_eq!(once("a=~!'()", "a").unwrap(), "%7E%21%27%28%29");
    }

    #[test]
    fn parameters_are_bounded() {
        assert!(Parameters::read(&"a&".repeat(MAX_PARAMETERS)).is_some());
        assert!(Parameters::read(&"a&".repeat(MAX_PARAMETERS + 1)).is_none());
    }
}
