//! The payload policy: JSON within limits, with the fields that handlers rely on.

use std::{fmt, sync::Arc};

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::Reason;

/// The type of a JSON value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum FieldType {
    /// A string.
    String,
    /// Any number.
    Number,
    /// A number without fraction or exponent that fits 64 bits.
    Integer,
    /// `true` or `false`.
    Bool,
    /// An object.
    Object,
    /// An array.
    Array,
}

/// Valid JSON without repeated keys, limited in depth and length, with required fields.
///
/// Defaults: depth 32; strings 65 536 bytes; arrays and objects 10 000 entries.
#[derive(Clone, Debug)]
pub struct PayloadPolicy {
    limits: Limits,
    required: Vec<(Arc<str>, Box<[String]>, FieldType)>,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    depth: usize,
    string: usize,
    entries: usize,
}

/// Reads JSON without repeated keys, nested at most 32 deep; only the limit of the body
/// bounds its length.
///
/// # Errors
/// `NotJson` or `TooDeep`.
pub(crate) fn parse(body: &[u8]) -> Result<Value, Reason> {
    let limits = Limits {
        depth: 32,
        string: usize::MAX,
        entries: usize::MAX,
    };
    limits.read(body)
}

impl Default for PayloadPolicy {
    fn default() -> Self {
        let limits = Limits {
            depth: 32,
            string: 65_536,
            entries: 10_000,
        };
        Self {
            limits,
            required: Vec::new(),
        }
    }
}

impl PayloadPolicy {
    /// The default limits and no required field.
    #[must_use]
    pub fn json() -> Self {
        Self::default()
    }

    /// A field that must be present; dots lead into objects (`payment_result.response_status`).
    #[must_use]
    pub fn require(mut self, path: &str, field_type: FieldType) -> Self {
        let keys = path.split('.').map(str::to_owned).collect();
        self.required.push((path.into(), keys, field_type));
        self
    }

    /// How deep objects and arrays may nest; at most 100, above which the parser stops.
    #[must_use]
    pub fn max_depth(mut self, depth: usize) -> Self {
        self.limits.depth = depth.min(100);
        self
    }

    /// The most bytes of one string or object key.
    #[must_use]
    pub const fn max_string(mut self, bytes: usize) -> Self {
        self.limits.string = bytes;
        self
    }

    /// The most entries of one array or object.
    #[must_use]
    pub const fn max_entries(mut self, entries: usize) -> Self {
        self.limits.entries = entries;
        self
    }

    pub(crate) fn check(&self, body: &[u8]) -> Result<(), Reason> {
        let value = self.limits.read(body)?;
        for (path, keys, expected) in &self.required {
            let field = keys.iter().try_fold(&value, |value, key| value.get(key));
            match field {
                None => return Err(Reason::FieldMissing(path.clone())),
                Some(field) if !expected.admits(field) => {
                    return Err(Reason::FieldType(path.clone()));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl Limits {
    fn read(self, body: &[u8]) -> Result<Value, Reason> {
        let mut failure = None;
        let seed = Checked {
            limits: self,
            depth: 0,
            failure: &mut failure,
        };
        let mut reader = serde_json::Deserializer::from_slice(body);
        let value = seed.deserialize(&mut reader);
        let value = value.and_then(|value| reader.end().map(|()| value));
        value.map_err(|_| failure.unwrap_or(Reason::NotJson))
    }
}

impl FieldType {
    fn admits(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Number => value.is_number(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Bool => value.is_boolean(),
            Self::Object => value.is_object(),
            Self::Array => value.is_array(),
        }
    }
}

/// Reads one value under the limits; the reason of a refusal is left in `failure`, because
/// the parser's own error type cannot carry it.
struct Checked<'a> {
    limits: Limits,
    depth: usize,
    failure: &'a mut Option<Reason>,
}

impl Checked<'_> {
    fn refuse<E: serde::de::Error>(&mut self, reason: Reason) -> E {
        *self.failure = Some(reason);
        E::custom("refused")
    }

    fn string<E: serde::de::Error>(&mut self, text: &str) -> Result<(), E> {
        if text.len() > self.limits.string {
            Err(self.refuse(Reason::TooLong))
        } else {
            Ok(())
        }
    }

    fn enter<E: serde::de::Error>(&mut self) -> Result<(), E> {
        if self.depth >= self.limits.depth {
            Err(self.refuse(Reason::TooDeep))
        } else {
            Ok(())
        }
    }

    fn room<E: serde::de::Error>(&mut self, entries: usize) -> Result<(), E> {
        if entries >= self.limits.entries {
            Err(self.refuse(Reason::TooLong))
        } else {
            Ok(())
        }
    }

    const fn inner(&mut self) -> Checked<'_> {
        Checked {
            limits: self.limits,
            depth: self.depth + 1,
            failure: self.failure,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Checked<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: serde::de::Error>(mut self, text: &str) -> Result<Value, E> {
        self.string(text)?;
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        self.enter()?;
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self.inner())? {
            self.room(values.len())?;
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        self.enter()?;
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            self.string(&key)?;
            self.room(values.len())?;
            let value = map.next_value_seed(self.inner())?;
            if values.insert(key, value).is_some() {
                return Err(A::Error::custom("repeated key"));
            }
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_types_and_repeated_keys_are_refused() {
        let policy = PayloadPolicy::json()
            .require("a.b", FieldType::Integer)
            .max_depth(3)
            .max_string(4)
            .max_entries(3);
        assert_eq!(policy.check(br#"{"a":{"b":1}}"#), Ok(()));
        for (body, reason) in [
            (r#"{"a":{"b":1}"#, Reason::NotJson),
            (r#"{"a":{"b":1}} x"#, Reason::NotJson),
            (r#"{"a":{"b":1,"b":1}}"#, Reason::NotJson),
            (r#"{"a":{}}"#, Reason::FieldMissing("a.b".into())),
            (r#"{"a":{"b":1.5}}"#, Reason::FieldType("a.b".into())),
            (r#"{"a":[[[1]]]}"#, Reason::TooDeep),
            (r#"{"a":"12345"}"#, Reason::TooLong),
            (r#"{"a":[1,2,3,4]}"#, Reason::TooLong),
        ] {
            assert_eq!(policy.check(body.as_bytes()), Err(reason), "{body}");
        }
        let deep = "[".repeat(100_000);
        let check = PayloadPolicy::json().check(deep.as_bytes());
        assert_eq!(check, Err(Reason::TooDeep));
        assert_eq!(parse(deep.as_bytes()), Err(Reason::TooDeep));
    }

    #[test]
    fn documents_are_read_strictly_but_of_any_length() {
        let long = format!(r#"["{}"]"#, "a".repeat(100_000));
        assert!(parse(long.as_bytes()).is_ok());
        for bad in [
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            "{} {}",
            "",
        ] {
            assert_eq!(parse(bad.as_bytes()), Err(Reason::NotJson), "{bad}");
        }
    }
}
