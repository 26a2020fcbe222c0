//! How a setting that can be off is read: a number, or the word `"off"`.

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
