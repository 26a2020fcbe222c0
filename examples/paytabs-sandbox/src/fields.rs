//! Reads a JSON object field by field, naming the field, the value and what is allowed.

use axum::http::StatusCode;
use serde_json::{Map, Value};

use crate::error::ApiError;

/// A JSON object received, not yet checked.
#[derive(Debug)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(_) => Err(bad_json("not an object".to_owned())),
            Err(error) => Err(bad_json(error.to_string())),
        }
    }

    /// Refuses every field that is not in `known`.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), ApiError> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                206,
                format!("unknown field {name}; allowed: {}", known.join(", ")),
            )),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn value(&self, name: &str) -> Value {
        self.0.get(name).cloned().unwrap_or(Value::Null)
    }

    /// A text of 1 to `longest` bytes.
    pub(crate) fn text(&self, name: &'static str, longest: usize) -> Result<String, ApiError> {
        match self.0.get(name) {
            Some(Value::String(text)) if (1..=longest).contains(&text.len()) => Ok(text.clone()),
            _ => Err(ApiError::field(
                name,
                self.value(name),
                format!("a text of 1 to {longest} bytes"),
            )),
        }
    }

    /// An `http://` URL; `None` when absent, null or empty.
    pub(crate) fn url(&self, name: &'static str) -> Result<Option<String>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() || text == "none" => Ok(None),
            Some(Value::String(text))
                if text.starts_with("http://") && reqwest::Url::parse(text).is_ok() =>
            {
                Ok(Some(text.clone()))
            }
            Some(value) => Err(ApiError::field(
                name,
                value.clone(),
                "an http:// URL (the sandbox speaks no TLS), or none",
            )),
        }
    }

    pub(crate) fn switch(&self, name: &'static str, now: bool) -> Result<bool, ApiError> {
        match self.0.get(name) {
            None => Ok(now),
            Some(Value::Bool(value)) => Ok(*value),
            Some(value) => Err(ApiError::field(name, value.clone(), "true or false")),
        }
    }
}

fn bad_json(reason: String) -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        206,
        format!("the body must be a JSON object: {reason}"),
    )
}
