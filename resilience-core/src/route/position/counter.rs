//! A version that counts up.

use std::{fmt, str::FromStr};

use super::{Coverage, ParseError, Position, number};

/// A number that goes up with every write, for stores that tell one: an HTTP backend with a version
/// in a header, an event log.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Counter(
    /// The version.
    pub u64,
);

impl Position for Counter {
    const KIND: u8 = 4;

    fn covers(&self, wanted: &Self) -> Coverage {
        Coverage::of(self.0, wanted.0)
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.0.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(u64::from_be_bytes).map(Self)
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Counter {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let expected = "a whole number below 2^64, without sign or leading zeros";
        number(text).map(Self).ok_or(ParseError { expected })
    }
}
