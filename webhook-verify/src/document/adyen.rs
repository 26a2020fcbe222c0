//! Adyen: each item of a JSON batch carries its own signature.

use http::{HeaderMap, HeaderName, request::Parts};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{
    Claim, Document, Extract, Head, Outgoing, Sign, Signed,
    content_type::{self, ContentType},
};
use crate::{
    encoding::{base64_decode, base64_encode},
    error::Reason,
    mac::{Algorithm, Hash},
    payload,
    signer::SignError,
};

/// The items of a delivery, all of which must be signed.
#[derive(Clone, Debug)]
pub(crate) struct Adyen {
    /// The merchant accounts that are expected; any when empty.
    pub(crate) accounts: Vec<Box<str>>,
    /// The most items of one delivery.
    pub(crate) most: usize,
}

/// The most items that can be allowed in one delivery.
pub(crate) const MOST_ITEMS: usize = 1000;

const ALGORITHM: Algorithm = Algorithm::Hmac(Hash::Sha256);

type Object = Map<String, Value>;

impl Document for Adyen {
    fn headers(&self) -> &[HeaderName] {
        &content_type::HEADERS
    }

    fn algorithms(&self) -> &[Algorithm] {
        &[ALGORITHM]
    }

    /// Most of the body is not signed: the fields of a form, which Adyen can send as well,
    /// could be hidden there for a handler that goes by the content type.
    fn head(&self, request: &Parts) -> Result<Head, Reason> {
        match ContentType::of(request)? {
            ContentType::Json => Ok(Head::default()),
            ContentType::Form => Err(Reason::ContentType),
        }
    }

    fn read(&self, _: &Parts, body: &[u8]) -> Result<Extract, Reason> {
        let body = payload::parse(body)?;
        let mut claims = Vec::new();
        for item in self.items(&body)? {
            claims.push(Claim {
                signatures: vec![(ALGORITHM, signature(item)?)],
                signed: self.signed(item)?,
                ..Claim::default()
            });
        }
        all_differ(claims.iter().map(|claim| &*claim.signed))?;
        Ok(Extract {
            claims,
            ..Extract::default()
        })
    }

    /// Puts `hmacSignature` into each item, in place of one that is there, and leaves every
    /// other byte of the body as it is.
    fn write(&self, delivery: &Outgoing<'_>, sign: &mut Sign<'_>) -> Result<Signed, SignError> {
        let texts = self.to_sign(delivery.body).map_err(SignError::Delivery)?;
        let values = texts.iter().map(|text| sign(ALGORITHM, text));
        let values: Vec<_> = values.collect::<Result<_, _>>()?;
        let body = insert(delivery.body, &values);
        Ok(Signed {
            headers: HeaderMap::new(),
            body: Some(body.ok_or(SignError::Delivery(Reason::NotJson))?),
        })
    }
}

impl Adyen {
    /// The items; at least one.
    fn items<'a>(&self, body: &'a Value) -> Result<Vec<&'a Object>, Reason> {
        let body = body.as_object().ok_or_else(|| missing(ITEMS))?;
        let items = field(body, ITEMS)?.as_array();
        let items = items.ok_or_else(|| wrong_type(ITEMS))?;
        if items.is_empty() {
            return Err(missing(ITEM));
        }
        if items.len() > self.most {
            return Err(Reason::TooLong);
        }
        let items = items.iter().map(|item| {
            let item = item.as_object().ok_or_else(|| wrong_type(ITEMS))?;
            object(item, ITEM)
        });
        items.collect()
    }

    /// What is to be signed in a body whose signatures are still to come.
    fn to_sign(&self, body: &[u8]) -> Result<Vec<Vec<u8>>, Reason> {
        let body = payload::parse(body)?;
        let mut texts = Vec::new();
        for item in self.items(&body)? {
            has_room(item)?;
            texts.push(self.signed(item)?);
        }
        all_differ(texts.iter().map(Vec::as_slice))?;
        Ok(texts)
    }

    /// Eight fields with colons between them. Nothing is escaped: a colon stays possible in
    /// the merchant's own reference alone, so that no text can be read in two ways.
    fn signed(&self, item: &Object) -> Result<Vec<u8>, Reason> {
        let amount = object(item, "amount")?;
        let original = match optional(item, "originalReference")? {
            None | Some(Value::Null) => "",
            Some(_) => plain(item, "originalReference")?,
        };
        let account = plain(item, "merchantAccountCode")?;
        if !self.expects(account) {
            return Err(Reason::FieldMalformed("merchantAccountCode".into()));
        }
        let success = plain(item, "success")?;
        if !matches!(success, "true" | "false") {
            return Err(Reason::FieldMalformed("success".into()));
        }
        let fields = [
            plain(item, "pspReference")?,
            original,
            account,
            text(item, "merchantReference")?,
            &integer(amount, "value")?,
            plain(amount, "currency")?,
            plain(item, "eventCode")?,
            success,
        ];
        Ok(fields.join(":").into_bytes())
    }

    fn expects(&self, account: &str) -> bool {
        self.accounts.is_empty() || self.accounts.iter().any(|expected| **expected == *account)
    }
}

const ITEMS: &str = "notificationItems";
const ITEM: &str = "NotificationRequestItem";
const DATA: &str = "additionalData";
const SIGNATURE: &str = "hmacSignature";

fn missing(name: &str) -> Reason {
    Reason::FieldMissing(name.into())
}

fn wrong_type(name: &str) -> Reason {
    Reason::FieldType(name.into())
}

fn field<'a>(of: &'a Object, name: &str) -> Result<&'a Value, Reason> {
    optional(of, name)?.ok_or_else(|| missing(name))
}

/// Other parsers take a key in another case for the same one, and the last of both.
fn optional<'a>(of: &'a Object, name: &str) -> Result<Option<&'a Value>, Reason> {
    let again = |key: &String| key != name && fold(key).eq(fold(name));
    if of.keys().any(again) {
        return Err(Reason::FieldRepeated(name.into()));
    }
    Ok(of.get(name))
}

/// Without case, in which `\u{17f}` is an `s` and `\u{212a}` a `k`.
fn fold(text: &str) -> impl Iterator<Item = char> {
    let lower = text.chars().flat_map(char::to_lowercase);
    lower.flat_map(char::to_uppercase)
}

fn object<'a>(of: &'a Object, name: &str) -> Result<&'a Object, Reason> {
    let value = field(of, name)?.as_object();
    value.ok_or_else(|| wrong_type(name))
}

fn text<'a>(of: &'a Object, name: &str) -> Result<&'a str, Reason> {
    let value = field(of, name)?.as_str();
    value.ok_or_else(|| wrong_type(name))
}

/// Text without a colon.
fn plain<'a>(of: &'a Object, name: &str) -> Result<&'a str, Reason> {
    let text = text(of, name)?;
    if text.contains(':') {
        return Err(Reason::FieldMalformed(name.into()));
    }
    Ok(text)
}

/// An integer as the text that was sent: JSON has one for each, `-0` apart, which the parser
/// takes for a fraction.
fn integer(of: &Object, name: &str) -> Result<String, Reason> {
    match field(of, name)? {
        Value::Number(number) if !number.is_f64() => Ok(number.to_string()),
        _ => Err(wrong_type(name)),
    }
}

fn signature(item: &Object) -> Result<Vec<u8>, Reason> {
    let text = text(object(item, DATA)?, SIGNATURE)?;
    let value = base64_decode::<32>(text.as_bytes());
    let value = value.ok_or_else(|| Reason::FieldMalformed(SIGNATURE.into()))?;
    Ok(value.to_vec())
}

/// Adyen sends no item twice in one delivery; who recorded one could.
fn all_differ<'a>(signed: impl Iterator<Item = &'a [u8]>) -> Result<(), Reason> {
    let mut signed: Vec<_> = signed.collect();
    signed.sort_unstable();
    if signed.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Reason::FieldRepeated(ITEM.into()));
    }
    Ok(())
}

/// Whether [`insert`] finds the place for a signature: `null` would look like an absent key.
fn has_room(item: &Object) -> Result<(), Reason> {
    match item.get(DATA) {
        None => Ok(()),
        Some(Value::Object(data)) if data.get(SIGNATURE) != Some(&Value::Null) => Ok(()),
        Some(_) => Err(wrong_type(DATA)),
    }
}

#[derive(Deserialize)]
struct RawBatch<'a> {
    #[serde(borrow, rename = "notificationItems")]
    items: Vec<RawEntry<'a>>,
}

#[derive(Deserialize)]
struct RawEntry<'a> {
    #[serde(borrow, rename = "NotificationRequestItem")]
    item: &'a RawValue,
}

#[derive(Deserialize)]
struct RawItem<'a> {
    #[serde(borrow, rename = "additionalData")]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawData<'a> {
    #[serde(borrow, rename = "hmacSignature")]
    signature: Option<&'a RawValue>,
}

/// The body with one signature in each item. `None` if it is not such a body.
fn insert(body: &[u8], signatures: &[Vec<u8>]) -> Option<Vec<u8>> {
    let batch: RawBatch<'_> = serde_json::from_slice(body).ok()?;
    let mut out = Vec::with_capacity(body.len() + signatures.len() * 96);
    let mut done = 0;
    for (entry, signature) in batch.items.iter().zip(signatures) {
        let value = format!("\"{}\"", base64_encode(signature));
        let (from, to, text) = edit(body, entry.item.get(), value)?;
        out.extend_from_slice(body.get(done..from)?);
        out.extend_from_slice(text.as_bytes());
        done = to;
    }
    out.extend_from_slice(body.get(done..)?);
    Some(out)
}

/// What to replace in `body` (from, to) and by what, for one item, which is a part of it.
fn edit(body: &[u8], item: &str, value: String) -> Option<(usize, usize, String)> {
    // Both are parts of one allocation, `inner` the later one.
    let at = |inner: &str| inner.as_ptr().addr() - body.as_ptr().addr();
    let raw: RawItem<'_> = serde_json::from_str(item).ok()?;
    let Some(data) = raw.data else {
        // Behind the brace of an item, which has fields.
        let place = at(item) + 1;
        let text = format!("\"{DATA}\":{{\"{SIGNATURE}\":{value}}},");
        return Some((place, place, text));
    };
    let fields: RawData<'_> = serde_json::from_str(data.get()).ok()?;
    if let Some(old) = fields.signature {
        let from = at(old.get());
        return Some((from, from + old.get().len(), value));
    }
    let empty = data.get().get(1..)?.trim_start().starts_with('}');
    let comma = if empty { "" } else { "," };
    let place = at(data.get()) + 1;
    Some((place, place, format!("\"{SIGNATURE}\":{value}{comma}")))
}
