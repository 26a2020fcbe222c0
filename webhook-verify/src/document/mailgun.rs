//! Mailgun: time and token in the body are signed, the rest of it is not.

use std::{borrow::Cow, time::Duration};

use http::{HeaderName, HeaderValue, header::CONTENT_TYPE, request::Parts};
use serde_json::{Map, Value};

use super::{
    Claim, Document, Extract, Head, Outgoing, Sign, Signed, content_type,
    content_type::ContentType,
    form::{self, Form},
};
use crate::{
    encoding::{hex_decode, hex_encode},
    error::Reason,
    mac::{Algorithm, Hash},
    payload,
    scheme::parse_timestamp,
    signer::SignError,
};

/// Mailgun, by the signature of the account or of its parent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mailgun {
    /// The field that holds the signature.
    pub(crate) signature: &'static str,
}

impl Document for Mailgun {
    fn headers(&self) -> &[HeaderName] {
        &content_type::HEADERS
    }

    fn algorithms(&self) -> &[Algorithm] {
        &[ALGORITHM]
    }

    fn has_timestamp(&self) -> bool {
        true
    }

    fn has_id(&self) -> bool {
        true
    }

    fn head(&self, request: &Parts) -> Result<Head, Reason> {
        ContentType::of(request).map(|_| Head::default())
    }

    fn read(&self, request: &Parts, body: &[u8]) -> Result<Extract, Reason> {
        match ContentType::of(request)? {
            ContentType::Json => self.extract(&InJson::of(&payload::parse(body)?)?),
            ContentType::Form => self.extract(&Form::parse(body)?),
        }
    }

    fn write(&self, delivery: &Outgoing<'_>, sign: &mut Sign<'_>) -> Result<Signed, SignError> {
        let token = delivery.id.unwrap_or_default();
        if !token_is_well_formed(token.as_bytes()) {
            return Err(SignError::Id);
        }
        let time = delivery.at.as_secs().to_string();
        if !TIMES.contains(&delivery.at) {
            return Err(SignError::Time);
        }
        let content = match delivery.request {
            Some(request) => ContentType::of(request).map_err(SignError::Delivery)?,
            None if delivery.body.trim_ascii_start().starts_with(b"{") => ContentType::Json,
            None => ContentType::Form,
        };
        let signature = sign(ALGORITHM, format!("{time}{token}").as_bytes())?;
        let signature = hex_encode(&signature);
        let fields = [
            (TIMESTAMP, time.as_str()),
            (TOKEN, token),
            (self.signature, &signature),
        ];
        let body = match content {
            ContentType::Json => write_json(delivery.body, fields),
            ContentType::Form => write_form(delivery.body, fields),
        };
        let mut signed = Signed {
            body: Some(body.map_err(SignError::Delivery)?),
            ..Signed::default()
        };
        let content = HeaderValue::from_static(content.as_str());
        signed.headers.insert(CONTENT_TYPE, content);
        Ok(signed)
    }
}

impl Mailgun {
    fn extract(self, fields: &impl Fields) -> Result<Extract, Reason> {
        let malformed = |name| Reason::FieldMalformed(fields.path(name).into());
        let time = fields.text(TIMESTAMP)?;
        // Nothing stands between the two, so each must have its one length: else a digit could
        // move from one to the other.
        let at = parse_timestamp(&time, TIME_DIGITS).filter(|_| time.len() == TIME_DIGITS);
        let at = at.ok_or_else(|| malformed(TIMESTAMP))?;
        let token = fields.text(TOKEN)?;
        if !token_is_well_formed(&token) {
            return Err(malformed(TOKEN));
        }
        let mac = hex_decode::<32>(&fields.text(self.signature)?);
        let mac = mac.ok_or_else(|| malformed(self.signature))?;
        let claim = Claim {
            signatures: vec![(ALGORITHM, mac.to_vec())],
            signed: [&*time, &*token].concat(),
            ..Claim::default()
        };
        Ok(Extract {
            timestamp: Some(at),
            id: Some(token.into_owned()),
            claims: vec![claim],
            ..Extract::default()
        })
    }
}

/// Where the signed fields stand.
trait Fields {
    /// The exact text of a field that must be there once.
    fn text(&self, name: &str) -> Result<Cow<'_, [u8]>, Reason>;

    /// How a field is told of.
    fn path(&self, name: &str) -> String;
}

impl Fields for Form<'_> {
    fn text(&self, name: &str) -> Result<Cow<'_, [u8]>, Reason> {
        self.once(name).map(Cow::Borrowed)
    }

    fn path(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// The object `signature` of a JSON body.
struct InJson<'a>(&'a Map<String, Value>);

impl<'a> InJson<'a> {
    fn of(body: &'a Value) -> Result<Self, Reason> {
        let object = body.get(SIGNATURE);
        let object = object.ok_or_else(|| Reason::FieldMissing(SIGNATURE.into()))?;
        let object = object.as_object();
        let object = object.ok_or_else(|| Reason::FieldType(SIGNATURE.into()))?;
        Ok(Self(object))
    }
}

impl Fields for InJson<'_> {
    fn text(&self, name: &str) -> Result<Cow<'_, [u8]>, Reason> {
        let value = self.0.get(name);
        match value.ok_or_else(|| Reason::FieldMissing(self.path(name).into()))? {
            Value::String(text) => Ok(Cow::Borrowed(text.as_bytes())),
            // The documentation calls the time a string here and a number there. A whole
            // number has one spelling in JSON.
            Value::Number(number) if number.is_u64() && name == TIMESTAMP => {
                Ok(Cow::Owned(number.to_string().into_bytes()))
            }
            _ => Err(Reason::FieldType(self.path(name).into())),
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{SIGNATURE}.{name}")
    }
}

fn token_is_well_formed(token: &[u8]) -> bool {
    token.len() == TOKEN_LENGTH && token.iter().all(u8::is_ascii_graphic)
}

/// Puts the signature first into an object, and leaves the rest byte by byte.
fn write_json(body: &[u8], fields: [(&str, &str); 3]) -> Result<Vec<u8>, Reason> {
    let value = payload::parse(body)?;
    let object = value.as_object().ok_or(Reason::NotJson)?;
    if object.contains_key(SIGNATURE) {
        return Err(Reason::FieldRepeated(SIGNATURE.into()));
    }
    let fields = fields.map(|(name, text)| (name.to_owned(), Value::from(text)));
    let signature = Value::Object(fields.into_iter().collect());
    let comma = if object.is_empty() { "" } else { "," };
    let mut out = format!("{{\"{SIGNATURE}\":{signature}{comma}").into_bytes();
    // PANIC-FREE: an object begins with a brace.
    out.extend_from_slice(&body.trim_ascii_start()[1..]);
    Ok(out)
}

fn write_form(body: &[u8], fields: [(&str, &str); 3]) -> Result<Vec<u8>, Reason> {
    let form = Form::parse(body)?;
    let mut out = body.to_vec();
    for (name, text) in fields {
        match form.once(name) {
            Err(Reason::FieldMissing(_)) => {}
            _ => return Err(Reason::FieldRepeated(name.into())),
        }
        form::append_as_php(&mut out, name.as_bytes(), text.as_bytes());
    }
    Ok(out)
}

const ALGORITHM: Algorithm = Algorithm::Hmac(Hash::Sha256);
const TIMESTAMP: &str = "timestamp";
const TOKEN: &str = "token";
const SIGNATURE: &str = "signature";
const TOKEN_LENGTH: usize = 50;
const TIME_DIGITS: usize = 10;

/// Times of ten digits: from 2001 to 2286.
const TIMES: std::ops::Range<Duration> =
    Duration::from_secs(1_000_000_000)..Duration::from_secs(10_000_000_000);
