//! Twilio: the URL and the sorted form fields in one string, or the URL with the hash of the
//! body in it.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header::CONTENT_TYPE, request::Parts};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    Claim, Document, Extract, Head, Outgoing, Sign, Signed, content_type::ContentType, form::Form,
    public_url::PublicUrl,
};
use crate::{
    encoding::{base64_decode, base64_encode, hex_decode},
    error::Reason,
    mac::{Algorithm, Hash},
    scheme::SchemeError,
    signer::SignError,
};

/// Deliveries to one public URL, or to any path of one origin.
#[derive(Clone, Debug)]
pub(crate) struct Twilio {
    url: PublicUrl,
    algorithm: [Algorithm; 1],
}

const SIGNATURE: HeaderName = HeaderName::from_static("x-twilio-signature");
const SETTINGS: HeaderName = HeaderName::from_static("x-twilio-webhooks-signature-settings");
static READ: [HeaderName; 2] = [SIGNATURE, CONTENT_TYPE];

/// The query parameter with the hash of a body that is no form.
const DIGEST: &str = "bodySHA256";

/// What the head says is signed.
struct Plan {
    /// Path and query.
    target: String,
    digest: Option<[u8; 32]>,
    body: Body,
}

/// What a body must be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Body {
    /// Its fields are signed; at least one, unless there is a digest.
    Form,
    /// There is none, unless there is a digest.
    Empty,
    /// Covered by the digest.
    Other,
}

impl Twilio {
    /// `hash` is SHA-1 or SHA-256.
    ///
    /// # Errors
    /// [`SchemeError::Url`]
    pub(crate) fn new(url: &str, hash: Hash) -> Result<Self, SchemeError> {
        let url = PublicUrl::parse(url)?;
        let query = url.target().and_then(|target| target.query());
        if query.is_some_and(|query| pairs(query).any(is_digest)) {
            return Err(SchemeError::Url("`bodySHA256` is added by Twilio"));
        }
        let algorithm = [Algorithm::Hmac(hash)];
        Ok(Self { url, algorithm })
    }

    fn plan(&self, request: &Parts) -> Result<Plan, Reason> {
        let received = request
            .uri
            .path_and_query()
            .map_or("", |both| both.as_str());
        if !received.starts_with('/') {
            return Err(Reason::NotCovered("@path".into()));
        }
        let (path, query) = split(received);
        let body = match ContentType::of(request) {
            _ if is_bare(&request.method) => Body::Empty,
            Ok(ContentType::Form) => Body::Form,
            _ => Body::Other,
        };
        let digest = digest(query)?;
        if body == Body::Other && digest.is_none() {
            return Err(Reason::NotCovered("body".into()));
        }
        let path = self.url.target().map_or(Ok(path), |target| {
            let expected = target.query();
            let same = if body == Body::Empty {
                begins_with(query, expected)
            } else {
                without_digest(query).as_deref() == expected
            };
            same.then(|| target.path())
                .ok_or_else(|| Reason::NotCovered("@query".into()))
        })?;
        let mark = if query.is_some() { "?" } else { "" };
        Ok(Plan {
            target: format!("{path}{mark}{}", query.unwrap_or("")),
            digest,
            body,
        })
    }

    /// The signature of the header.
    fn signature(&self, request: &Parts) -> Result<Vec<u8>, Reason> {
        let value = request.headers.get(SIGNATURE);
        let value = value.ok_or(Reason::Missing(SIGNATURE))?.as_bytes();
        let decoded = match self.algorithm {
            [Algorithm::Hmac(Hash::Sha1)] => base64_decode::<20>(value).map(|mac| mac.to_vec()),
            _ => base64_decode::<32>(value).map(|mac| mac.to_vec()),
        };
        decoded.ok_or(Reason::Malformed(SIGNATURE))
    }

    /// What is signed, with each origin, the configured one first, and `end` behind the URL.
    fn spellings<'a>(
        &'a self,
        plan: &'a Plan,
        end: &'a str,
        fields: &'a [u8],
    ) -> impl Iterator<Item = Vec<u8>> + 'a {
        let origins = self.url.origins().iter();
        origins.map(move |origin| {
            [
                origin.as_bytes(),
                plan.target.as_bytes(),
                end.as_bytes(),
                fields,
            ]
            .concat()
        })
    }

    /// Whether a slash may follow the URL. Not before fields, of which it could be the
    /// beginning.
    fn may_end_in_slash(&self, plan: &Plan, fields: &[u8]) -> bool {
        self.url.is_web_socket() && fields.is_empty() && !plan.target.ends_with('/')
    }
}

impl Plan {
    /// The signed fields of the body, which must be covered by them or by the digest.
    fn fields(&self, body: &[u8]) -> Result<Vec<u8>, Reason> {
        if let Some(digest) = &self.digest {
            let same = Sha256::digest(body).ct_eq(digest);
            if !bool::from(same) {
                return Err(Reason::Digest);
            }
        }
        let fields = match self.body {
            Body::Form => fields(&Form::parse(body)?),
            Body::Empty | Body::Other => Vec::new(),
        };
        // A form without fields would be an unsigned end of the URL: the signature of a form
        // with fields is that of a longer URL without any.
        let covered = match self.body {
            Body::Form => !fields.is_empty(),
            Body::Empty => body.is_empty(),
            Body::Other => false,
        };
        if covered || self.digest.is_some() {
            Ok(fields)
        } else {
            Err(Reason::NotCovered("body".into()))
        }
    }
}

impl Document for Twilio {
    fn headers(&self) -> &[HeaderName] {
        &READ
    }

    fn algorithms(&self) -> &[Algorithm] {
        &self.algorithm
    }

    fn head(&self, request: &Parts) -> Result<Head, Reason> {
        self.signature(request)?;
        self.plan(request)?;
        Ok(Head::default())
    }

    fn read(&self, request: &Parts, body: &[u8]) -> Result<Extract, Reason> {
        let signature = self.signature(request)?;
        let plan = self.plan(request)?;
        let fields = plan.fields(body)?;
        // The one with the slash names the delivery, as it does where the request has it.
        let slash = self.may_end_in_slash(&plan, &fields).then_some("/");
        let ends = slash.into_iter().chain([""]);
        let mut spellings = ends.flat_map(|end| self.spellings(&plan, end, &fields));
        let claim = Claim {
            signatures: vec![(self.algorithm[0], signature)],
            // There is one for each origin, and at least two of these.
            signed: spellings.next().unwrap_or_default(),
            also: spellings.collect(),
            ..Claim::default()
        };
        Ok(Extract {
            claims: vec![claim],
            ..Extract::default()
        })
    }

    fn write(&self, delivery: &Outgoing<'_>, sign: &mut Sign<'_>) -> Result<Signed, SignError> {
        let request = delivery.request.ok_or(SignError::Request)?;
        let plan = self.plan(request).map_err(SignError::Delivery)?;
        let fields = plan.fields(delivery.body).map_err(SignError::Delivery)?;
        let signed = self.spellings(&plan, "", &fields).next();
        let value = base64_encode(&sign(self.algorithm[0], &signed.unwrap_or_default())?);
        let mut headers = HeaderMap::new();
        let mut put = |name: HeaderName, text: &str| {
            let value = HeaderValue::from_str(text).map_err(|_| SignError::Header(name.clone()))?;
            headers.insert(name, value);
            Ok(())
        };
        put(SIGNATURE, &value)?;
        if self.algorithm == [Algorithm::Hmac(Hash::Sha256)] {
            put(
                SETTINGS,
                &format!("key={},algorithm=HMAC_SHA256", delivery.key),
            )?;
        }
        Ok(Signed {
            headers,
            body: None,
        })
    }
}

/// Whether requests of this method have no body that is read.
fn is_bare(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Path and query.
fn split(target: &str) -> (&str, Option<&str>) {
    let cut = target.split_once('?');
    cut.map_or((target, None), |(path, query)| (path, Some(query)))
}

fn pairs(query: &str) -> impl Iterator<Item = &str> {
    query.split('&')
}

fn is_digest(pair: &str) -> bool {
    pair.split('=').next() == Some(DIGEST)
}

/// The hash of the body that the query names.
fn digest(query: Option<&str>) -> Result<Option<[u8; 32]>, Reason> {
    let mut found = query
        .into_iter()
        .flat_map(pairs)
        .filter(|pair| is_digest(pair));
    let Some(pair) = found.next() else {
        return Ok(None);
    };
    if found.next().is_some() {
        return Err(Reason::FieldRepeated(DIGEST.into()));
    }
    let value = pair.split_once('=').map_or("", |(_, value)| value);
    let value = hex_decode(value.as_bytes());
    value.map_or_else(
        || Err(Reason::FieldMalformed(DIGEST.into())),
        |value| Ok(Some(value)),
    )
}

/// The query as it was before Twilio added the hash.
fn without_digest(query: Option<&str>) -> Option<String> {
    let rest: Vec<_> = pairs(query?).filter(|pair| !is_digest(pair)).collect();
    (!rest.is_empty()).then(|| rest.join("&"))
}

/// Whether a query is the configured one, with or without parameters after it.
fn begins_with(query: Option<&str>, configured: Option<&str>) -> bool {
    let Some(configured) = configured else {
        return true;
    };
    let rest = query.and_then(|query| query.strip_prefix(configured));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('&'))
}

/// Name and value of each field without anything between, sorted as bytes; the same field
/// twice counts once.
fn fields(form: &Form<'_>) -> Vec<u8> {
    let fields = form.fields().iter();
    let mut fields: Vec<_> = fields.map(|field| [&*field.name, &*field.value]).collect();
    fields.sort_unstable();
    fields.dedup();
    fields.concat().concat()
}
