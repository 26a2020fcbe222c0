//! Durations as people write them.

use humantime_serde::Serde;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `with = "Human"`: a duration as `"30s"`, `"500ms"`, `"1m 30s"`.
#[derive(Debug)]
pub(crate) enum Human {}

impl Human {
    pub(crate) fn serialize<T, S>(value: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
        for<'a> Serde<&'a T>: Serialize,
    {
        humantime_serde::serialize(value, serializer)
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        Serde<T>: Deserialize<'de>,
    {
        humantime_serde::deserialize(deserializer)
    }
}
