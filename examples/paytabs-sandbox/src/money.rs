//! Exact amounts: decimal text on the wire, whole minor units inside. Never a float.

use serde_json::Value;

/// Currencies the sandbox's profile is set up for, with their decimal places (ISO 4217).
const CURRENCIES: [(&str, u32); 16] = [
    ("AED", 2),
    ("BHD", 3),
    ("EGP", 2),
    ("EUR", 2),
    ("GBP", 2),
    ("INR", 2),
    ("IQD", 3),
    ("JOD", 3),
    ("JPY", 0),
    ("KWD", 3),
    ("MAD", 2),
    ("OMR", 3),
    ("QAR", 2),
    ("SAR", 2),
    ("TND", 3),
    ("USD", 2),
];

/// A currency of the profile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Currency {
    pub(crate) code: &'static str,
    exponent: u32,
}

impl Currency {
    pub(crate) fn find(code: &str) -> Option<Self> {
        CURRENCIES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(code))
            .map(|&(code, exponent)| Self { code, exponent })
    }

    /// The codes accepted, for error messages.
    pub(crate) fn allowed() -> String {
        CURRENCIES.map(|(code, _)| code).join(", ")
    }

    /// Reads a decimal text or number as minor units.
    ///
    /// A JSON number has passed through an `f64` by the time it is seen here. Its shortest
    /// text is the text that was sent as long as that had at most 15 significant digits,
    /// so longer numbers are refused and must be sent as text.
    pub(crate) fn parse(self, value: &Value) -> Option<u64> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => {
                let text = number.to_string();
                (text.bytes().filter(u8::is_ascii_digit).count() <= 15).then_some(text)?
            }
            _ => return None,
        };
        self.parse_text(&text)
    }

    fn parse_text(self, text: &str) -> Option<u64> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let places = self.exponent as usize;
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return None;
        }
        // "5." is no number, and "5.00" in a currency without decimals is exact.
        if text.ends_with('.') || fraction.trim_end_matches('0').len() > places {
            return None;
        }
        let mut minor: u64 = whole.parse().ok()?;
        let mut padded = fraction.bytes().chain(std::iter::repeat(b'0'));
        for _ in 0..places {
            let digit = u64::from(padded.next()? - b'0');
            minor = minor.checked_mul(10)?.checked_add(digit)?;
        }
        Some(minor)
    }

    /// `1050` as `10.50`.
    pub(crate) fn format(self, minor: u64) -> String {
        let places = self.exponent as usize;
        if places == 0 {
            return minor.to_string();
        }
        let digits = format!("{minor:0width$}", width = places + 1);
        let (whole, fraction) = digits.split_at(digits.len() - places);
        format!("{whole}.{fraction}")
    }

    /// One whole unit, in minor units.
    pub(crate) fn unit(self) -> u64 {
        10u64.pow(self.exponent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(code: &str, value: Value) -> Option<u64> {
        Currency::find(code).expect("known").parse(&value)
    }

    #[test]
    fn amounts_keep_every_minor_unit() {
        assert_eq!(parse("AED", json!("46.17")), Some(4617));
        assert_eq!(parse("AED", json!(46.17)), Some(4617));
        assert_eq!(parse("AED", json!(46)), Some(4600));
        assert_eq!(parse("KWD", json!("1.005")), Some(1005));
        assert_eq!(parse("JPY", json!("500")), Some(500));
        assert_eq!(parse("AED", json!("0.10")), Some(10));
        for minor in [0, 5, 99, 100, 123_456_789] {
            let currency = Currency::find("SAR").expect("known");
            assert_eq!(currency.parse_text(&currency.format(minor)), Some(minor));
        }
    }

    #[test]
    fn amounts_that_are_not_exact_are_refused() {
        for bad in [
            "", ".5", "5.", "1.005", "-1", "+1", "1e3", "1,00", " 1", "٣",
        ] {
            assert_eq!(parse("AED", json!(bad)), None, "{bad}");
        }
        assert_eq!(parse("AED", json!("99999999999999999999")), None);
        assert_eq!(parse("AED", json!(1e300)), None);
        assert_eq!(parse("AED", json!(true)), None);
        assert_eq!(parse("JPY", json!("5.5")), None);
    }
}
