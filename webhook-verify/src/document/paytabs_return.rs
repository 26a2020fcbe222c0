//! The return URL of PayTabs: the fields of a form, signed in a canonical form by a field
//! among them.

use std::{borrow::Cow, collections::BTreeMap};

use http::{HeaderName, HeaderValue, Method, header::CONTENT_TYPE, request::Parts};

use super::{
    Claim, Document, Extract, Head, Outgoing, Sign, Signed, content_type,
    content_type::ContentType,
    form::{self, Form},
};
use crate::{
    encoding::{hex_decode, hex_encode},
    error::Reason,
    mac::{Algorithm, Hash},
    signer::SignError,
};

/// The return URL, with the query parameters that are the receiver's own.
#[derive(Clone, Debug, Default)]
pub(crate) struct PayTabsReturn {
    /// Parameters of the return URL itself, which stand in the query of a GET beside those
    /// of PayTabs and are not signed.
    own: Vec<String>,
}

impl PayTabsReturn {
    /// Names that PayTabs uses are never the receiver's own.
    pub(crate) fn new(own: &[&str]) -> Self {
        let own = own.iter().filter(|name| !KNOWN.contains(name));
        Self {
            own: own.map(|name| (*name).to_owned()).collect(),
        }
    }

    /// The fields of PayTabs: the body, or the query of a GET.
    fn fields<'a>(&self, request: &'a Parts, body: &'a [u8]) -> Result<Fields<'a>, Reason> {
        if !in_query(request) {
            return Fields::of(&Form::parse(body)?, &[]);
        }
        // Nothing would protect it, and nothing needs it.
        if !body.is_empty() {
            return Err(Reason::NotForm);
        }
        let query = request.uri.query().unwrap_or_default();
        Fields::of(&Form::parse(query.as_bytes())?, &self.own)
    }
}

impl Document for PayTabsReturn {
    fn headers(&self) -> &[HeaderName] {
        &content_type::HEADERS
    }

    fn algorithms(&self) -> &[Algorithm] {
        &[ALGORITHM]
    }

    fn head(&self, request: &Parts) -> Result<Head, Reason> {
        if !in_query(request) && ContentType::of(request)? != ContentType::Form {
            return Err(Reason::ContentType);
        }
        Ok(Head::default())
    }

    fn read(&self, request: &Parts, body: &[u8]) -> Result<Extract, Reason> {
        let fields = self.fields(request, body)?;
        let signature = fields.signature.as_deref();
        let signature = signature.ok_or_else(|| Reason::FieldMissing(SIGNATURE.into()))?;
        let mac = hex_decode::<32>(signature);
        let mac = mac.ok_or_else(|| Reason::FieldMalformed(SIGNATURE.into()))?;
        let claim = Claim {
            signatures: vec![(ALGORITHM, mac.to_vec())],
            signed: fields.canonical()?,
            ..Claim::default()
        };
        Ok(Extract {
            claims: vec![claim],
            ..Extract::default()
        })
    }

    /// The body is the form without its signature, also for a GET, whose query is then the
    /// body that comes back.
    fn write(&self, delivery: &Outgoing<'_>, sign: &mut Sign<'_>) -> Result<Signed, SignError> {
        let mut body = delivery.body.to_vec();
        let signed = Form::parse(&body).and_then(|form| {
            let fields = Fields::of(&form, &[])?;
            match fields.signature {
                Some(_) => Err(Reason::FieldRepeated(SIGNATURE.into())),
                None => fields.canonical(),
            }
        });
        let signature = sign(ALGORITHM, &signed.map_err(SignError::Delivery)?)?;
        let signature = hex_encode(&signature);
        form::append_as_php(&mut body, SIGNATURE.as_bytes(), signature.as_bytes());
        let mut signed = Signed {
            body: Some(body),
            ..Signed::default()
        };
        if !delivery.request.is_some_and(in_query) {
            let form = HeaderValue::from_static(ContentType::Form.as_str());
            signed.headers.insert(CONTENT_TYPE, form);
        }
        Ok(signed)
    }
}

/// Whether the fields stand in the query (`return_using_get`).
fn in_query(request: &Parts) -> bool {
    request.method == Method::GET || request.method == Method::HEAD
}

/// The signature, and all else that PayTabs sent.
struct Fields<'a> {
    signature: Option<Cow<'a, [u8]>>,
    /// Of a repeated field the last value, as PHP reads it.
    others: BTreeMap<Cow<'a, [u8]>, Cow<'a, [u8]>>,
}

impl<'a> Fields<'a> {
    fn of(form: &Form<'a>, own: &[String]) -> Result<Self, Reason> {
        let mut others = BTreeMap::new();
        for field in form.fields() {
            if own.iter().any(|own| own.as_bytes() == &*field.name) {
                continue;
            }
            // Its name is the sender's text: it is not told.
            if !name_is_plain(&field.name) {
                return Err(Reason::NotForm);
            }
            let before = others.insert(field.name.clone(), field.value.clone());
            let known = KNOWN.iter().find(|known| known.as_bytes() == &*field.name);
            if let (Some(_), Some(known)) = (before, known) {
                return Err(Reason::FieldRepeated((*known).into()));
            }
        }
        Ok(Self {
            signature: others.remove(SIGNATURE.as_bytes()),
            others,
        })
    }

    /// The signed bytes: without empty values, in the order of the names' bytes, as PHP's
    /// `http_build_query` writes them.
    fn canonical(&self) -> Result<Vec<u8>, Reason> {
        let mut out = Vec::new();
        for (name, value) in &self.others {
            if !value.is_empty() {
                form::append_as_php(&mut out, name, value);
            }
        }
        if out.is_empty() {
            return Err(Reason::FieldMissing(TRANSACTION.into()));
        }
        Ok(out)
    }
}

/// A name that PHP takes as it is and sorts by its bytes: it rewrites blanks, dots and
/// brackets, and sorts numbers as numbers. Nothing of another notation than a form's (JSON,
/// say) fits into such names, which matters since a field without a value is not signed.
fn name_is_plain(name: &[u8]) -> bool {
    let letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    name.first().is_some_and(letter)
        && name
            .iter()
            .all(|byte| letter(byte) || byte.is_ascii_digit() || *byte == b'-')
}

const ALGORITHM: Algorithm = Algorithm::Hmac(Hash::Sha256);
const SIGNATURE: &str = "signature";
const TRANSACTION: &str = "tranRef";

/// The fields of PayTabs. A second one of them is an attempt to be read differently by what
/// takes the first.
const KNOWN: [&str; 10] = [
    "acquirerMessage",
    "acquirerRRN",
    "cartId",
    "customerEmail",
    "respCode",
    "respMessage",
    "respStatus",
    SIGNATURE,
    "token",
    TRANSACTION,
];
