//! How a setting that can be off is read: a number, or the word `"off"`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

#[derive(Deserialize)]
#[serde(untagged)]
enum OffOr<T> {
    Value(T),
    Word(String),
    Null(()),
}

pub(super) fn off_or<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    match OffOr::deserialize(deserializer) {
        Ok(OffOr::Value(value)) => Ok(Some(value)),
        Ok(OffOr::Null(())) => Ok(None),
        Ok(OffOr::Word(word)) if word == "off" => Ok(None),
        Ok(OffOr::Word(word)) => Err(Error::custom(format!(
            "invalid value {word:?}, allowed: a number or \"off\""
        ))),
        Err(_) => Err(Error::custom("allowed: a number or \"off\"")),
    }
}

/// The same for a span of time: `"30s"`, or the word `"off"`.
pub(super) fn off_or_span<'de, D>(deserializer: D) -> Result<Option<Duration>, D::Error>
where
    D: Deserializer<'de>,
{
    const ALLOWED: &str = "allowed: a time like \"30s\", or \"off\"";
    match Option::<String>::deserialize(deserializer) {
        Ok(None) => Ok(None),
        Ok(Some(word)) if word == "off" => Ok(None),
        Ok(Some(word)) => humantime_serde::re::humantime::parse_duration(&word)
            .map(Some)
            .map_err(|_| Error::custom(format!("invalid value {word:?}, {ALLOWED}"))),
        Err(_) => Err(Error::custom(ALLOWED)),
    }
}
