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
                signatures: vec![(ALGORITHM, signature(&item)?)],
                signed: self.signed(&item)?,
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
    fn items<'a>(&self, body: &'a Value) -> Result<Vec<Fields<'a>>, Reason> {
        let body = body.as_object().ok_or_else(|| missing(ITEMS))?;
        let items = Fields::of(body, &[ITEMS])?.get(ITEMS)?.as_array();
        let items = items.ok_or_else(|| wrong_type(ITEMS))?;
        if items.is_empty() {
            return Err(missing(ITEM));
        }
        if items.len() > self.most {
            return Err(Reason::TooLong);
        }
        let items = items.iter().map(|entry| {
            let entry = entry.as_object().ok_or_else(|| wrong_type(ITEMS))?;
            Fields::of(entry, &[ITEM])?.object(ITEM, &OF_ITEM)
        });
        items.collect()
    }

    /// What is to be signed in a body whose signatures are still to come.
    fn to_sign(&self, body: &[u8]) -> Result<Vec<Vec<u8>>, Reason> {
        let body = payload::parse(body)?;
        let mut texts = Vec::new();
        for item in self.items(&body)? {
            has_room(&item)?;
            texts.push(self.signed(&item)?);
        }
        all_differ(texts.iter().map(Vec::as_slice))?;
        Ok(texts)
    }

    /// Eight fields with colons between them. Nothing is escaped: a colon stays possible in
    /// the merchant's own reference alone, so that no text can be read in two ways.
    fn signed(&self, item: &Fields<'_>) -> Result<Vec<u8>, Reason> {
        let amount = item.object("amount", &["value", "currency"])?;
        let original = match item.optional("originalReference") {
            None | Some(Value::Null) => "",
            Some(_) => item.plain("originalReference")?,
        };
        let account = item.plain("merchantAccountCode")?;
        if !self.expects(account) {
            return Err(Reason::FieldMalformed("merchantAccountCode".into()));
        }
        let success = item.plain("success")?;
        if !matches!(success, "true" | "false") {
            return Err(Reason::FieldMalformed("success".into()));
        }
        let fields = [
            item.plain("pspReference")?,
            original,
            account,
            item.text("merchantReference")?,
            &amount.integer("value")?,
            amount.plain("currency")?,
            item.plain("eventCode")?,
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

/// What is read of an item.
const OF_ITEM: [&str; 8] = [
    "pspReference",
    "originalReference",
    "merchantAccountCode",
    "merchantReference",
    "amount",
    "eventCode",
    "success",
    DATA,
];

fn missing(name: &str) -> Reason {
    Reason::FieldMissing(name.into())
}

fn wrong_type(name: &str) -> Reason {
    Reason::FieldType(name.into())
}

/// An object without any key that differs by case alone from one of those that are read.
struct Fields<'a> {
    object: &'a Object,
    /// All names that are found.
    names: &'static [&'static str],
}

impl<'a> Fields<'a> {
    /// Looks at each key once. Other parsers take a key in another case for the same one, and
    /// the last of both.
    fn of(object: &'a Object, names: &'static [&'static str]) -> Result<Self, Reason> {
        let again = object.keys().find_map(|key| look_alike(key, names));
        match again {
            Some(name) => Err(Reason::FieldRepeated(name.into())),
            None => Ok(Self { object, names }),
        }
    }

    fn optional(&self, name: &str) -> Option<&'a Value> {
        let known = self.names.contains(&name);
        self.object.get(name).filter(|_| known)
    }

    fn get(&self, name: &str) -> Result<&'a Value, Reason> {
        self.optional(name).ok_or_else(|| missing(name))
    }

    fn object(&self, name: &str, names: &'static [&'static str]) -> Result<Self, Reason> {
        let value = self.get(name)?.as_object();
        Self::of(value.ok_or_else(|| wrong_type(name))?, names)
    }

    fn text(&self, name: &str) -> Result<&'a str, Reason> {
        let value = self.get(name)?.as_str();
        value.ok_or_else(|| wrong_type(name))
    }

    /// Text without a colon.
    fn plain(&self, name: &str) -> Result<&'a str, Reason> {
        let text = self.text(name)?;
        if text.contains(':') {
            return Err(Reason::FieldMalformed(name.into()));
        }
        Ok(text)
    }

    /// An integer as the text that was sent: JSON has one for each, `-0` apart, which the
    /// parser takes for a fraction.
    fn integer(&self, name: &str) -> Result<String, Reason> {
        match self.get(name)? {
            Value::Number(number) if !number.is_f64() => Ok(number.to_string()),
            _ => Err(wrong_type(name)),
        }
    }
}

/// The name, all of them ASCII, from which `key` differs by case alone.
fn look_alike<'a>(key: &str, names: &[&'a str]) -> Option<&'a str> {
    #[cfg(test)]
    tests::LOOKED_AT.with(|keys| keys.set(keys.get() + 1));
    let folded: String;
    let plain = if key.is_ascii() {
        key
    } else {
        folded = fold(key).collect();
        &folded
    };
    let mut names = names.iter();
    names.find_map(|name| (key != *name && plain.eq_ignore_ascii_case(name)).then_some(*name))
}

/// Without case, in which `\u{17f}` is an `s` and `\u{212a}` a `k`.
fn fold(text: &str) -> impl Iterator<Item = char> {
    let lower = text.chars().flat_map(char::to_lowercase);
    lower.flat_map(char::to_uppercase)
}

fn signature(item: &Fields<'_>) -> Result<Vec<u8>, Reason> {
    let data = item.object(DATA, &[SIGNATURE])?;
    let value = base64_decode::<32>(data.text(SIGNATURE)?.as_bytes());
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
fn has_room(item: &Fields<'_>) -> Result<(), Reason> {
    if item.optional(DATA).is_none() {
        return Ok(());
    }
    let data = item.object(DATA, &[SIGNATURE])?;
    match data.optional(SIGNATURE) {
        Some(Value::Null) => Err(wrong_type(DATA)),
        _ => Ok(()),
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use http::Request;
    use serde_json::json;

    use super::*;

    thread_local! {
        /// How many keys were compared with those that are read.
        pub(super) static LOOKED_AT: Cell<usize> = const { Cell::new(0) };
    }

    /// Items are large as their sender likes, and are read before a signature is checked.
    #[test]
    fn each_key_is_looked_at_once() {
        let many = |mut object: Value| {
            let fields = object.as_object_mut().unwrap();
            fields.extend((0..1000).map(|i| (format!("succes\u{17f}{i}"), Value::Null)));
            object
        };
        let item = many(json!({
            "pspReference": "1",
            "merchantAccountCode": "a",
            "merchantReference": "b",
            "amount": many(json!({ "value": 1, "currency": "EUR" })),
            "eventCode": "AUTHORISATION",
            "success": "true",
            "additionalData": many(json!({ "hmacSignature": base64_encode(&[0; 32]) })),
        }));
        let entry = many(json!({ "NotificationRequestItem": item }));
        let body = many(json!({ "notificationItems": [entry] })).to_string();
        let adyen = Adyen {
            accounts: Vec::new(),
            most: 1,
        };
        let (parts, ()) = Request::new(()).into_parts();
        LOOKED_AT.set(0);
        assert_eq!(adyen.read(&parts, body.as_bytes()).unwrap().claims.len(), 1);
        assert_eq!(LOOKED_AT.get(), 5 * 1000 + 7 + 2 + 1 + 1 + 1);
    }

    #[test]
    fn names_are_recognised_in_any_case_and_only_those() {
        let names = &["success", "value"];
        for key in [
            "Success",
            "SUCCESS",
            "\u{17f}uccess",
            "succe\u{df}",
            "valuE",
        ] {
            assert!(look_alike(key, names).is_some(), "{key}");
        }
        for key in [
            "success",
            "value",
            "",
            "succes",
            "successs",
            "success\u{e9}",
            "suc\u{107}ess",
        ] {
            assert_eq!(look_alike(key, names), None, "{key}");
        }
    }

    /// What is compared without case as ASCII must be that.
    #[test]
    fn all_names_are_ascii() {
        let others = [ITEMS, ITEM, SIGNATURE, "value", "currency"];
        assert!(OF_ITEM.iter().chain(&others).all(|name| name.is_ascii()));
    }
}
