//! Money: an integer count of minor units and its currency, never a float.
//!
//! On the wire an amount is a decimal string with at most as many digits behind the
//! point as its currency has (ISO 4217): `"12.50"` SAR, `"1.234"` KWD, `"500"` JPY.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeStruct};

/// A currency that the application accepts.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Currency {
    code: &'static str,
    exponent: u32,
}

/// An amount of one currency in minor units.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

/// Why a text is no amount.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MoneyError {
    /// Not digits with at most one point between digits.
    #[error("not a decimal number")]
    Malformed,
    /// More digits behind the point than the currency has.
    #[error("more than {0} digits behind the point")]
    TooPrecise(u32),
    /// Larger than [`Money::MAX_MINOR`].
    #[error("too large")]
    TooLarge,
}

impl Currency {
    /// Looks a currency up by its upper-case ISO 4217 code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        CURRENCIES
            .iter()
            .find(|(known, _)| *known == code)
            .map(|&(code, exponent)| Self { code, exponent })
    }

    /// The codes that are accepted, joined by a comma.
    #[must_use]
    pub fn allowed() -> String {
        let codes: Vec<_> = CURRENCIES.iter().map(|(code, _)| *code).collect();
        codes.join(", ")
    }

    /// The ISO 4217 code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.code
    }

    /// Digits behind the point.
    #[must_use]
    pub const fn exponent(self) -> u32 {
        self.exponent
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

impl Money {
    /// The largest amount accepted, in minor units: 10^15, far from any overflow.
    pub const MAX_MINOR: i64 = 1_000_000_000_000_000;

    /// An amount of `minor` minor units; `None` when negative or above [`Self::MAX_MINOR`].
    #[must_use]
    pub const fn from_minor(minor: i64, currency: Currency) -> Option<Self> {
        if minor < 0 || minor > Self::MAX_MINOR {
            return None;
        }
        Some(Self { minor, currency })
    }

    /// Reads a decimal string such as `"12.50"`. Fewer digits than the currency has are
    /// fine, a sign, an exponent, blanks or a bare point are not.
    ///
    /// # Errors
    ///
    /// [`MoneyError`] when the text is no such number or too large.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, MoneyError> {
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return Err(MoneyError::Malformed),
            Some(parts) => parts,
            None => (text, ""),
        };
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return Err(MoneyError::Malformed);
        }
        let exponent = currency.exponent as usize;
        // Zeros behind the last digit change nothing; other digits would be lost.
        let significant = fraction.trim_end_matches('0');
        if significant.len() > exponent {
            return Err(MoneyError::TooPrecise(currency.exponent));
        }
        let mut minor = 0_i64;
        let padded = significant.bytes().chain(std::iter::repeat(b'0'));
        for byte in whole.bytes().chain(padded.take(exponent)) {
            minor = minor
                .checked_mul(10)
                .and_then(|m| m.checked_add(i64::from(byte - b'0')))
                .filter(|m| *m <= Self::MAX_MINOR)
                .ok_or(MoneyError::TooLarge)?;
        }
        Ok(Self { minor, currency })
    }

    /// The count of minor units.
    #[must_use]
    pub const fn minor(self) -> i64 {
        self.minor
    }

    /// The currency.
    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// Whether the amount is above zero.
    #[must_use]
    pub const fn is_positive(self) -> bool {
        self.minor > 0
    }
}

/// `{"amount": "12.50", "currency": "SAR"}`
impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Money", 2)?;
        fields.serialize_field("amount", &self.to_string())?;
        fields.serialize_field("currency", self.currency.code)?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            amount: String,
            currency: String,
        }
        let wire = Wire::deserialize(deserializer)?;
        let currency = Currency::from_code(&wire.currency)
            .ok_or_else(|| de::Error::custom("unknown currency"))?;
        Self::parse(&wire.amount, currency).map_err(de::Error::custom)
    }
}

/// The decimal string of the wire, without the currency.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exponent = self.currency.exponent as usize;
        if exponent == 0 {
            return write!(f, "{}", self.minor);
        }
        let unit = 10_i64.pow(self.currency.exponent);
        write!(f, "{}.{:0exponent$}", self.minor / unit, self.minor % unit)
    }
}

/// ISO 4217 codes and minor units of what the application trades in.
const CURRENCIES: [(&str, u32); 18] = [
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
    ("PKR", 2),
    ("QAR", 2),
    ("SAR", 2),
    ("TND", 3),
    ("TRY", 2),
    ("USD", 2),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::from_code(code).unwrap()
    }

    #[test]
    fn the_exponent_of_the_currency_places_the_point() {
        for (code, text, minor) in [
            ("SAR", "12.5", 1250),
            ("KWD", "1.234", 1234),
            ("JPY", "500", 500),
            ("USD", "0.01", 1),
            ("USD", "007", 700),
            ("USD", "1.500", 150),
        ] {
            assert_eq!(Money::parse(text, currency(code)).unwrap().minor(), minor);
        }
    }

    #[test]
    fn what_is_not_a_plain_decimal_is_refused() {
        for text in [
            "", ".", "1.", ".5", "-1", "+1", "1e3", " 1", "1,0", "1.2.3", "٣", "NaN",
        ] {
            assert_eq!(
                Money::parse(text, currency("USD")),
                Err(MoneyError::Malformed),
                "{text}"
            );
        }
        assert_eq!(
            Money::parse("1.001", currency("USD")),
            Err(MoneyError::TooPrecise(2))
        );
        assert_eq!(
            Money::parse(&"9".repeat(400), currency("USD")),
            Err(MoneyError::TooLarge)
        );
    }

    proptest! {
        #[test]
        fn an_amount_survives_its_own_text(minor in 0..=Money::MAX_MINOR, index in 0..CURRENCIES.len()) {
            let currency = currency(CURRENCIES[index].0);
            let money = Money::from_minor(minor, currency).unwrap();
            prop_assert_eq!(Money::parse(&money.to_string(), currency), Ok(money));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = Money::parse(&text, currency("KWD"));
        }
    }
}
