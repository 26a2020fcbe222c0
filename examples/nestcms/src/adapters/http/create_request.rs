//! The body of a create call, checked field by field.

use axum::body::Bytes;
use http::HeaderMap;
use serde_json::Value;

use super::{fields::Fields, problem::Problem};
use crate::payments::NewPayment;

/// Reads and checks the body.
pub(super) fn read(
    user_id: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<NewPayment, Problem> {
    let fields = Fields::parse(body, &KNOWN)?;
    let currency = fields.currency()?;
    Ok(NewPayment {
        user_id: user_id.to_owned(),
        amount: fields.amount(currency)?,
        order_ref: fields.text("order_ref", MAX_TEXT)?.to_owned(),
        idempotency_key: idempotency_key(headers, &fields)?,
        method: match fields.get("method") {
            None => "card".to_owned(),
            Some(_) => fields.text("method", 32)?.to_owned(),
        },
    })
}

/// From the header `idempotency-key` or the field `idempotency_key`; both must agree.
fn idempotency_key(headers: &HeaderMap, fields: &Fields) -> Result<String, Problem> {
    let allowed = "1 to 128 visible ASCII characters";
    let bad = |value: &str| Problem::invalid("idempotency-key", value, allowed);
    let in_body = match fields.get("idempotency_key") {
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
