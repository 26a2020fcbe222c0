//! What schemes that are read out of a delivery protect, by their documentation: two deliveries
//! with the same content are the same to their receiver.

use std::collections::BTreeMap;

use http::{header::CONTENT_TYPE, request::Parts};
use serde_json::Value;

use super::{encode, sha256};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Document {
    PayTabsReturn,
    Mailgun,
    Twilio,
    Adyen,
    Message,
}

/// Parts of what was signed; each must have been signed somewhere. `None` when there is
/// nothing of the kind in the delivery.
pub fn content(document: Document, parts: &Parts, body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let target = parts.uri.path_and_query()?.as_str();
    let one = |text: Vec<u8>| Some(vec![text]);
    match document {
        Document::PayTabsReturn => {
            let fields: BTreeMap<_, _> = form(body)?.into_iter().collect();
            let signed = fields
                .into_iter()
                .filter(|(name, value)| name != b"signature" && !value.is_empty());
            one(format!("{:?}", signed.collect::<Vec<_>>()).into_bytes())
        }
        Document::Mailgun => {
            let (time, token) = if is_form(parts) {
                let fields = form(body)?;
                let value = |name: &[u8]| {
                    let mut found = fields.iter().filter(|(known, _)| known == name);
                    found.next().map(|(_, value)| value.clone())
                };
                (value(b"timestamp")?, value(b"token")?)
            } else {
                let value: Value = serde_json::from_slice(body).ok()?;
                let text = |name: &str| Some(plain(&value["signature"][name])?.into_bytes());
                (text("timestamp")?, text("token")?)
            };
            one([&time[..], b" ", &token].concat())
        }
        Document::Twilio => {
            let mut signed = target.as_bytes().to_vec();
            if is_form(parts) {
                let mut fields = form(body)?;
                fields.sort();
                fields.dedup();
                signed.extend(
                    fields
                        .into_iter()
                        .flat_map(|(name, value)| [name, value])
                        .flatten(),
                );
            } else {
                let hash = format!("bodySHA256={}", encode::hex(&sha256(&[body])));
                let covered = body.is_empty() || target.contains(&hash);
                return covered.then_some(vec![signed]);
            }
            one(signed)
        }
        Document::Adyen => {
            let value: Value = serde_json::from_slice(body).ok()?;
            let items = value["notificationItems"].as_array()?;
            let texts = items.iter().map(|item| {
                let item = &item["NotificationRequestItem"];
                let amount = &item["amount"];
                let texts: Option<Vec<String>> = [
                    &item["pspReference"],
                    &item["originalReference"],
                    &item["merchantAccountCode"],
                    &item["merchantReference"],
                    &amount["value"],
                    &amount["currency"],
                    &item["eventCode"],
                    &item["success"],
                ]
                .map(plain)
                .into_iter()
                .collect();
                Some(texts?.join(":").into_bytes())
            });
            texts.collect()
        }
        Document::Message => {
            let kinds = parts.headers.get_all(CONTENT_TYPE).iter();
            let kinds: Vec<&[u8]> = kinds.map(|kind| kind.as_bytes().trim_ascii()).collect();
            // RFC 9421, section 2.2.7: no query and an empty one are the same.
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let head = format!("{} {path}?{query} ", parts.method);
            one([head.as_bytes(), &kinds.join(&b", "[..]), b" ", body].concat())
        }
    }
}

fn is_form(parts: &Parts) -> bool {
    let kind = parts.headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
    let media = kind.and_then(|kind| kind.split(|byte| *byte == b';').next());
    let media = media.unwrap_or_default().trim_ascii();
    media.eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// The text of a string or number, as it is signed; nothing for what is absent.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

type Field = (Vec<u8>, Vec<u8>);

fn form(body: &[u8]) -> Option<Vec<Field>> {
    let pairs = body
        .split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let at = pair
                .iter()
                .position(|byte| *byte == b'=')
                .unwrap_or(pair.len());
            let value = pair.get(at + 1..).unwrap_or_default();
            Some((decoded(&pair[..at])?, decoded(value)?))
        })
        .collect()
}

fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'+' => all.push(b' '),
            b'%' => {
                let digits = std::str::from_utf8(after.get(..2)?).ok()?;
                all.extend(encode::from_hex(digits)?);
                rest = &after[2..];
            }
            byte => all.push(*byte),
        }
    }
    Some(all)
}
