//! A JSON body, checked field by field.

use axum::body::Bytes;
use http::StatusCode;
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::domain::money::{Currency, Money};

/// The fields of a body.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// The fields of `body`, all of which must be `known`.
    pub(super) fn parse(body: &Bytes, known: &[&str]) -> Result<Self, Problem> {
        let value = serde_json::from_slice(body).map_err(|e| {
            let message = format!("the body is not JSON: {e}");
            Problem::new(StatusCode::BAD_REQUEST, "bad_json", message)
        })?;
        let Value::Object(fields) = value else {
            return Err(Problem::invalid("body", value.to_string(), "a JSON object"));
        };
        if let Some((name, value)) = fields.iter().find(|(n, _)| !known.contains(&n.as_str())) {
            return Err(Problem::invalid(name, value.to_string(), known.join(", ")));
        }
        Ok(Self(fields))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A text of 1 to `longest` bytes without control characters.
    pub(super) fn text(&self, name: &str, longest: usize) -> Result<&str, Problem> {
        let allowed = || format!("a text of 1 to {longest} bytes without control characters");
        match self.0.get(name) {
            Some(Value::String(text))
                if (1..=longest).contains(&text.len()) && !text.chars().any(char::is_control) =>
            {
                Ok(text)
            }
            Some(value) => Err(Problem::invalid(name, value.to_string(), allowed())),
            None => Err(Problem::invalid(name, "nothing", allowed())),
        }
    }

    /// A text of up to `longest` bytes, lines and all; empty when it is not there.
    pub(super) fn prose(&self, name: &str, longest: usize) -> Result<&str, Problem> {
        match self.0.get(name) {
            None => Ok(""),
            Some(Value::String(text)) if text.len() <= longest && !text.contains('\0') => Ok(text),
            Some(value) => {
                let allowed = format!("a text of up to {longest} bytes without NUL");
                Err(Problem::invalid(name, value.to_string(), allowed))
            }
        }
    }

    /// One of `allowed`; the first when it is not there.
    pub(super) fn one_of(&self, name: &str, allowed: &[&str]) -> Result<String, Problem> {
        match self.0.get(name) {
            None => Ok((*allowed.first().unwrap_or(&"")).to_owned()),
            Some(Value::String(text)) if allowed.contains(&text.as_str()) => Ok(text.clone()),
            Some(value) => Err(Problem::invalid(
                name,
                value.to_string(),
                allowed.join(", "),
            )),
        }
    }

    pub(super) fn currency(&self) -> Result<Currency, Problem> {
        let code = self.text("currency", 3)?;
        Currency::from_code(code)
            .ok_or_else(|| Problem::invalid("currency", code, Currency::allowed()))
    }

    pub(super) fn amount(&self, currency: Currency) -> Result<Money, Problem> {
        let digits = currency.exponent();
        let allowed = format!(
            "a decimal string above 0 with up to {digits} digits behind the point, such as \"{}\"",
            Money::from_minor(12_345, currency).map_or_else(String::new, |m| m.to_string()),
        );
        match self.0.get("amount") {
            Some(Value::String(text)) => match Money::parse(text, currency) {
                Ok(money) if money.is_positive() => Ok(money),
                _ => Err(Problem::invalid("amount", text, allowed)),
            },
            Some(value) => Err(Problem::invalid("amount", value.to_string(), allowed)),
            None => Err(Problem::invalid("amount", "nothing", allowed)),
        }
    }
}
