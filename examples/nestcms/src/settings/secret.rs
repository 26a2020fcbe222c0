//! Text that must not be shown.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// A key or password. `Debug` shows that it is there, and nothing else of it.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde's own message for a wrong type would quote the value.
        let value = toml::Value::deserialize(deserializer)?;
        match value {
            toml::Value::String(text) if !text.is_empty() => Ok(Self(text)),
            _ => Err(de::Error::custom("must be a text that is not empty")),
        }
    }
}
