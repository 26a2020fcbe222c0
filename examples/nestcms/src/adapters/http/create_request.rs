//! The body of a create call, checked field by field.

use axum::body::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::{
    domain::money::{Currency, Money},
    payments::NewPayment,
};

/// Reads and checks the body.
pub(super) fn read(
    user_id: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<NewPayment, Problem> {
    let fields = Fields::parse(body)?;
    let code = fields.text("currency", 3)?;
    let currency = Currency::from_code(code)
        .ok_or_else(|| Problem::invalid("currency", code, Currency::allowed()))?;
    Ok(NewPayment {
        user_id: user_id.to_owned(),
        amount: fields.amount(currency)?,
        order_ref: fields.text("order_ref", MAX_TEXT)?.to_owned(),
        idempotency_key: idempotency_key(headers, &fields)?,
        method: match fields.0.get("method") {
            None => "card".to_owned(),
            Some(_) => fields.text("method", 32)?.to_owned(),
        },
    })
}

struct Fields(Map<String, Value>);

impl Fields {
    fn parse(body: &Bytes) -> Result<Self, Problem> {
        let value = serde_json::from_slice(body).map_err(|e| {
            let message = format!("the body is not JSON: {e}");
            Problem::new(StatusCode::BAD_REQUEST, "bad_json", message)
        })?;
        let Value::Object(fields) = value else {
            return Err(Problem::invalid("body", value.to_string(), "a JSON object"));
        };
        if let Some((name, value)) = fields.iter().find(|(n, _)| !KNOWN.contains(&n.as_str())) {
            return Err(Problem::invalid(name, value.to_string(), KNOWN.join(", ")));
        }
        Ok(Self(fields))
    }

    /// A text of 1 to `longest` bytes without control characters.
    fn text(&self, name: &str, longest: usize) -> Result<&str, Problem> {
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

    fn amount(&self, currency: Currency) -> Result<Money, Problem> {
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

/// From the header `idempotency-key` or the field `idempotency_key`; both must agree.
fn idempotency_key(headers: &HeaderMap, fields: &Fields) -> Result<String, Problem> {
    let allowed = "1 to 128 visible ASCII characters";
    let bad = |value: &str| Problem::invalid("idempotency-key", value, allowed);
    let in_body = match fields.0.get("idempotency_key") {
        Some(Value::String(key)) => Some(key.as_str()),
        Some(value) => return Err(bad(&value.to_string())),
        None => None,
    };
    let in_header = match headers.get("idempotency-key") {
        Some(value) => Some(value.to_str().map_err(|_| bad("bytes that are no text"))?),
        None => None,
    };
    let key = match (in_header, in_body) {
        (Some(header), Some(body)) if header != body => {
            let allowed = "the same key in header and body, or in one of them";
            return Err(Problem::invalid("idempotency-key", header, allowed));
        }
        (Some(key), _) | (None, Some(key)) => key,
        (None, None) => return Err(bad("nothing")),
    };
    if (1..=128).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(key.to_owned())
    } else {
        Err(bad(key))
    }
}

const KNOWN: [&str; 5] = [
    "amount",
    "currency",
    "order_ref",
    "idempotency_key",
    "method",
];

/// PayTabs keeps no more of a cart's description.
const MAX_TEXT: usize = 128;
