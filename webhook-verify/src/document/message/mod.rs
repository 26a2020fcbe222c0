//! HTTP message signatures of requests ([RFC 9421](https://www.rfc-editor.org/rfc/rfc9421))
//! with `Content-Digest` ([RFC 9530](https://www.rfc-editor.org/rfc/rfc9530)).
//!
//! ```text
//! sf      dictionaries of structured fields, strictly
//! query   one parameter of the query
//! base    components of a request -> the signature base
//! input   Signature-Input and Signature -> what each signature says it signed
//! digest  Content-Digest against the body
//! mod     which of these signatures are accepted, and what a signer writes
//! ```

use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};

pub(crate) use self::{base::Origin, sf::is_printable};
use self::{
    base::{Component, Message},
    digest::CONTENT_DIGEST,
    input::{Input, Parameter, SIGNATURE, SIGNATURE_INPUT, Signature, TIME_END, signatures},
};
use super::{Claim, Document, Extract, Head, Outgoing, Sign, Signed};
use crate::{
    error::Reason,
    mac::{Algorithm, Hash},
    signer::SignError,
};

mod base;
mod digest;
mod input;
mod query;
mod sf;

/// Which signatures are accepted, and how deliveries are signed.
#[derive(Clone, Debug)]
pub(crate) struct MessagePolicy {
    pub(crate) origin: Origin,
    /// Whether the least that protects a delivery must be signed.
    pub(crate) minimum: bool,
    /// Headers that must be signed beside it.
    pub(crate) fields: Vec<HeaderName>,
    pub(crate) tag: Option<String>,
    /// Whether the delivery is named by its nonce.
    pub(crate) nonce: bool,
    /// How many seconds a delivery that is signed here stays valid.
    pub(crate) lifetime: Option<u64>,
    pub(crate) algorithms: [Algorithm; 4],
}

/// What the registry of the RFC calls them. One for each kind of key, so that the key, and
/// not the sender, chooses.
pub(crate) const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::Hmac(Hash::Sha256),
    Algorithm::Ed25519,
    Algorithm::EcdsaP256,
    Algorithm::RsaPssSha512,
];

const fn name_of(algorithm: Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::Hmac(Hash::Sha256) => Some("hmac-sha256"),
        Algorithm::Ed25519 => Some("ed25519"),
        Algorithm::EcdsaP256 => Some("ecdsa-p256-sha256"),
        Algorithm::RsaPssSha512 => Some("rsa-pss-sha512"),
        Algorithm::RsaPkcs1Sha256 => Some("rsa-v1_5-sha256"),
        Algorithm::Hmac(_) => None,
    }
}

static HEADERS: [HeaderName; 3] = [SIGNATURE_INPUT, SIGNATURE, CONTENT_DIGEST];

/// The label of our own signatures. It is not signed and means nothing.
const LABEL: &str = "sig1";

/// The most characters of a nonce that names a delivery.
const MAX_NONCE: usize = 256;

impl Document for MessagePolicy {
    fn headers(&self) -> &[HeaderName] {
        &HEADERS
    }

    fn repeatable(&self) -> bool {
        true
    }

    fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    fn has_timestamp(&self) -> bool {
        true
    }

    fn has_id(&self) -> bool {
        self.nonce
    }

    fn head(&self, request: &Parts) -> Result<Head, Reason> {
        let accepted = self.accepted(request)?;
        // Of several signatures each has its own time.
        let timestamp = match &*accepted {
            [one] => one.extract.timestamp,
            _ => None,
        };
        Ok(Head { timestamp })
    }

    fn read(&self, request: &Parts, body: &[u8]) -> Result<Extract, Reason> {
        let accepted = self.accepted(request)?;
        if accepted.iter().any(|one| one.digest) {
            digest::check(&request.headers, body)?;
        }
        let mut readings = accepted.into_iter().map(|one| one.extract);
        let first = readings.next().ok_or(Reason::SignatureMismatch)?;
        Ok(Extract {
            others: readings.collect(),
            ..first
        })
    }

    fn write(&self, delivery: &Outgoing<'_>, sign: &mut Sign<'_>) -> Result<Signed, SignError> {
        let request = delivery.request.ok_or(SignError::Request)?;
        let mut headers = request.headers.clone();
        put(&mut headers, &CONTENT_DIGEST, &digest::write(delivery.body))?;
        let message = Message::new(&self.origin, request, &headers);
        let components = self.signed_components(request);
        for algorithm in self.algorithms {
            let parameters = self.signed_parameters(delivery, algorithm)?;
            let parameters = Input::new(components.clone(), parameters).write();
            let base = message.base(&components, &parameters);
            let base = base.map_err(|reason| match reason {
                Reason::Missing(name) | Reason::Malformed(name) => SignError::Header(name),
                _ => SignError::Request,
            })?;
            match sign(algorithm, base.as_bytes()) {
                Ok(signature) => return signed(&headers, &parameters, &signature),
                // The key is of another kind.
                Err(SignError::Key) => {}
                Err(other) => return Err(other),
            }
        }
        Err(SignError::Key)
    }
}

/// A signature that the policy accepts, if its key does.
struct Accepted {
    extract: Extract,
    /// Whether it covers the digest of the body.
    digest: bool,
}

impl MessagePolicy {
    /// The signatures that the policy accepts; one at least.
    ///
    /// # Errors
    /// The fields are malformed, or what is wrong with the first signature.
    fn accepted(&self, request: &Parts) -> Result<Vec<Accepted>, Reason> {
        let message = Message::new(&self.origin, request, &request.headers);
        let mut accepted = Vec::new();
        let mut refused = None;
        for signature in signatures(&request.headers)? {
            let unreadable = Reason::Malformed(SIGNATURE_INPUT);
            let signature = signature.ok_or(unreadable);
            match signature.and_then(|signature| self.accept(&message, request, signature)) {
                Ok(one) => accepted.push(one),
                // Somebody on the way may have added it: it does not harm the others.
                Err(reason) => refused = refused.or(Some(reason)),
            }
        }
        match refused {
            Some(reason) if accepted.is_empty() => Err(reason),
            _ => Ok(accepted),
        }
    }

    fn accept(
        &self,
        message: &Message<'_>,
        request: &Parts,
        (input, bytes): Signature,
    ) -> Result<Accepted, Reason> {
        let absent = |name: &str| Reason::FieldMissing(name.into());
        if self.tag.is_some() && self.tag.as_deref() != input.tag() {
            return Err(absent("tag"));
        }
        let created = input.created().ok_or_else(|| absent("created"))?;
        let key = input.key_id().ok_or_else(|| absent("keyid"))?;
        if input.expires().is_some_and(|expires| expires < created) {
            return Err(Reason::FieldMalformed("expires".into()));
        }
        self.covers(&input.components, request.uri.query().is_some())?;
        let claim = Claim {
            key: Some(key.to_owned()),
            signatures: self.candidates(&input, &bytes)?,
            signed: self.base(message, &input)?.into_bytes(),
            ..Claim::default()
        };
        let extract = Extract {
            timestamp: Some(created),
            expires: input.expires(),
            id: self.id(&input, key)?,
            claims: vec![claim],
            ..Extract::default()
        };
        let digest = Component::Field(CONTENT_DIGEST);
        let digest = input.components.contains(&digest);
        Ok(Accepted { extract, digest })
    }

    /// What is signed. A reason names a header of ours, and never one that a sender listed.
    fn base(&self, message: &Message<'_>, input: &Input) -> Result<String, Reason> {
        let base = message.base(&input.components, &input.write());
        base.map_err(|reason| match reason {
            Reason::Missing(name) | Reason::Malformed(name) if !self.knows(&name) => {
                Reason::Malformed(SIGNATURE_INPUT)
            }
            other => other,
        })
    }

    fn knows(&self, name: &HeaderName) -> bool {
        *name == CONTENT_DIGEST || self.fields.contains(name)
    }

    /// Without `alg` any algorithm; the key has one only.
    fn candidates(&self, input: &Input, bytes: &[u8]) -> Result<Vec<(Algorithm, Vec<u8>)>, Reason> {
        let wanted = input.algorithm();
        let all = self.algorithms.into_iter();
        let fitting = all.filter(|one| wanted.is_none() || wanted == name_of(*one));
        let fitting: Vec<_> = fitting.map(|one| (one, bytes.to_vec())).collect();
        if fitting.is_empty() {
            return Err(Reason::FieldMalformed("alg".into()));
        }
        Ok(fitting)
    }

    /// The nonce, under the key: nobody can use up the nonces of another key.
    fn id(&self, input: &Input, key: &str) -> Result<Option<Vec<u8>>, Reason> {
        if !self.nonce {
            return Ok(None);
        }
        let nonce = input.nonce();
        let nonce = nonce.ok_or_else(|| Reason::FieldMissing("nonce".into()))?;
        if nonce.is_empty() || nonce.len() > MAX_NONCE {
            return Err(Reason::FieldMalformed("nonce".into()));
        }
        // Neither of them can hold a zero.
        Ok(Some([key.as_bytes(), nonce.as_bytes()].join(&0)))
    }

    /// What must be signed is signed.
    fn covers(&self, components: &[Component], has_query: bool) -> Result<(), Reason> {
        use Component::{Authority, Field, Method, Path, Query, RequestTarget, TargetUri};
        let digest = Field(CONTENT_DIGEST);
        let minimum: [(&[Component], bool); 5] = [
            (&[Method], true),
            (&[Authority, TargetUri], true),
            (&[Path, RequestTarget, TargetUri], true),
            (&[Query, RequestTarget, TargetUri], has_query),
            (std::slice::from_ref(&digest), true),
        ];
        for (one_of, needed) in minimum {
            let covered = one_of.iter().any(|one| components.contains(one));
            if self.minimum && needed && !covered {
                return Err(not_covered(&one_of[0]));
            }
        }
        for name in &self.fields {
            let field = Field(name.clone());
            if !components.contains(&field) {
                return Err(not_covered(&field));
            }
        }
        // A list of nothing is well-formed, and protects nothing.
        match components {
            [] => Err(not_covered(&Method)),
            _ => Ok(()),
        }
    }

    fn signed_components(&self, request: &Parts) -> Vec<Component> {
        let mut components = vec![Component::Method, Component::Authority, Component::Path];
        if request.uri.query().is_some() {
            components.push(Component::Query);
        }
        components.push(Component::Field(CONTENT_DIGEST));
        for name in &self.fields {
            let field = Component::Field(name.clone());
            if !components.contains(&field) {
                components.push(field);
            }
        }
        components
    }

    fn signed_parameters(
        &self,
        delivery: &Outgoing<'_>,
        algorithm: Algorithm,
    ) -> Result<Vec<Parameter>, SignError> {
        let created = delivery.at.as_secs();
        let end = created.saturating_add(self.lifetime.unwrap_or(0));
        if end >= TIME_END {
            return Err(SignError::Time);
        }
        if !is_printable(delivery.key) {
            return Err(SignError::Key);
        }
        let algorithm = name_of(algorithm).map(str::to_owned);
        let id = delivery
            .id
            .filter(|id| (1..=MAX_NONCE).contains(&id.len()) && is_printable(id));
        let nonce = match self.nonce {
            true => Some(id.ok_or(SignError::Id)?.to_owned()),
            false => None,
        };
        let expires = self.lifetime.map(|_| end);
        let all = [
            Some(Parameter::Created(created)),
            Some(Parameter::KeyId(delivery.key.to_owned())),
            algorithm.map(Parameter::Algorithm),
            expires.map(Parameter::Expires),
            nonce.map(Parameter::Nonce),
            self.tag.clone().map(Parameter::Tag),
        ];
        Ok(all.into_iter().flatten().collect())
    }
}

fn not_covered(component: &Component) -> Reason {
    Reason::NotCovered(component.name().into())
}

/// The three headers that a signer adds; `all` has the digest.
fn signed(all: &HeaderMap, parameters: &str, signature: &[u8]) -> Result<Signed, SignError> {
    let mut headers = HeaderMap::with_capacity(HEADERS.len());
    if let Some(digest) = all.get(CONTENT_DIGEST) {
        headers.insert(CONTENT_DIGEST, digest.clone());
    }
    put(
        &mut headers,
        &SIGNATURE_INPUT,
        &format!("{LABEL}={parameters}"),
    )?;
    let mut text = format!("{LABEL}=");
    sf::write_bytes(&mut text, signature);
    put(&mut headers, &SIGNATURE, &text)?;
    Ok(Signed {
        headers,
        body: None,
    })
}

fn put(headers: &mut HeaderMap, name: &HeaderName, text: &str) -> Result<(), SignError> {
    let value = HeaderValue::from_str(text);
    let value = value.map_err(|_| SignError::Header(name.clone()))?;
    headers.insert(name.clone(), value);
    Ok(())
}

#[cfg(test)]
mod peer;
#[cfg(test)]
mod tests;
