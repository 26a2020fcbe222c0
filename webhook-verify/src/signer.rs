//! The other side: signs what a [`Verifier`](crate::Verifier) of the same scheme accepts.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};

#[cfg(any(feature = "ed25519", feature = "ecdsa"))]
use crate::mac::Algorithm;
use crate::{
    clock::{SystemClock, WallClock},
    document::{Document, Outgoing, Signed},
    error::Reason,
    mac::{Candidates, Mac},
    scheme::{Field, Form, Inputs, Layout, Scheme, id_is_well_formed},
    secret::{Secret, SigningMaterial},
    session::Delivery,
};

/// Signs bodies with one secret.
#[derive(Clone)]
pub struct Signer {
    scheme: Scheme,
    key_id: String,
    /// None of a public key: it signs nothing.
    key: Option<SigningMaterial>,
    clock: Arc<dyn WallClock>,
}

/// What a [`Signer`] adds to a delivery; made by [`Signer::sign_delivery`].
#[derive(Clone, Debug)]
#[must_use]
pub struct SignedDelivery {
    headers: HeaderMap,
    body: Option<Vec<u8>>,
}

impl SignedDelivery {
    /// The headers to add to the request. None when the signature stands in the body.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body to send in place of the one that was given; `None` when that is sent as it is.
    #[must_use]
    pub fn body(&self) -> Option<&[u8]> {
        self.body.as_deref()
    }

    /// Headers and body, as [`headers`](Self::headers) and [`body`](Self::body).
    #[must_use]
    pub fn into_parts(self) -> (HeaderMap, Option<Vec<u8>>) {
        (self.headers, self.body)
    }
}

/// A delivery that cannot be signed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The scheme needs an id of the form that its documentation says: for most 1 to 256 visible
    /// ASCII characters without `.`, for Mailgun a token of exactly 50.
    #[error(
        "this scheme needs an id: 1 to 256 visible ASCII characters without `.`, or as its documentation says"
    )]
    Id,
    /// A time that receivers refuse whenever it is: more than 12 digits (15 in milliseconds);
    /// for some schemes, other than ten.
    #[error("timestamp has too many digits, or too few")]
    Time,
    /// The key cannot sign this scheme: it is of another kind, or a public key.
    #[error("this key cannot sign this scheme")]
    Key,
    /// The scheme signs method, target or other headers of the request.
    #[error("this scheme signs the request: use `sign_request` or `sign_delivery`")]
    Request,
    /// The scheme puts the signature into the body.
    #[error("this scheme puts the signature into the body: use `sign_delivery`")]
    Body,
    /// The delivery is not one that the scheme can sign.
    #[error("the delivery is not one that this scheme can sign: {0}")]
    Delivery(Reason),
    /// A header that the scheme signs is absent or repeated.
    #[error("header `{0}`, which is signed, is not there once")]
    Header(HeaderName),
}

impl Signer {
    /// A signer that reads the system's clock.
    #[must_use]
    #[allow(clippy::needless_pass_by_value)] // The secret is not needed any more: wipe it.
    pub fn new(scheme: Scheme, secret: Secret) -> Self {
        Self {
            scheme,
            key_id: secret.id().to_owned(),
            key: secret.signing_material(),
            clock: Arc::new(SystemClock),
        }
    }

    /// Another clock.
    #[must_use]
    pub fn clock(mut self, clock: impl WallClock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The headers that sign `body` now, for a scheme without ids.
    ///
    /// # Errors
    /// When the scheme needs an id or the request, puts the signature into the body, or the
    /// key cannot sign it.
    pub fn sign(&self, body: &[u8]) -> Result<HeaderMap, SignError> {
        self.headers(None, None, self.clock.now(), body)
    }

    /// As [`sign`](Self::sign), at a time since the Unix epoch.
    ///
    /// # Errors
    /// As [`sign`](Self::sign), and when the time has too many digits.
    pub fn sign_at(&self, at: Duration, body: &[u8]) -> Result<HeaderMap, SignError> {
        self.headers(None, None, at, body)
    }

    /// The headers that sign `body` under `id`, which must stay the same when the delivery
    /// is tried again. A scheme without ids ignores it.
    ///
    /// # Errors
    /// As [`sign_at`](Self::sign_at), and when the id is not well-formed.
    pub fn sign_with_id(
        &self,
        id: &str,
        at: Duration,
        body: &[u8],
    ) -> Result<HeaderMap, SignError> {
        self.headers(None, Some(id), at, body)
    }

    /// As [`sign_with_id`](Self::sign_with_id), for schemes that sign more of the request
    /// than its body: the method, path, query and headers of `request` are those that the
    /// receiver will see. Add the headers that come back to it.
    ///
    /// # Errors
    /// As [`sign_with_id`](Self::sign_with_id), and when a signed header is absent or
    /// repeated.
    pub fn sign_request(
        &self,
        request: &Parts,
        id: Option<&str>,
        at: Duration,
        body: &[u8],
    ) -> Result<HeaderMap, SignError> {
        self.headers(Some(request), id, at, body)
    }

    /// Signs for any scheme, at a time since the Unix epoch: the headers to add, and another
    /// body when the signature stands in it. `request` and `id` are needed by some schemes,
    /// and ignored by others.
    ///
    /// # Errors
    /// When something that the scheme needs is absent or not well-formed, or the key is of
    /// another kind, or a public one.
    pub fn sign_delivery(
        &self,
        request: Option<&Parts>,
        id: Option<&str>,
        at: Duration,
        body: &[u8],
    ) -> Result<SignedDelivery, SignError> {
        match &self.scheme.form {
            Form::Layout(layout) => {
                let headers = self.lay_out(layout, request, id, at, body)?;
                Ok(SignedDelivery {
                    headers,
                    body: None,
                })
            }
            Form::Document(document) => self.write(&**document, request, id, at, body),
        }
    }

    fn headers(
        &self,
        request: Option<&Parts>,
        id: Option<&str>,
        at: Duration,
        body: &[u8],
    ) -> Result<HeaderMap, SignError> {
        let signed = self.sign_delivery(request, id, at, body)?;
        match signed.body {
            None => Ok(signed.headers),
            Some(_) => Err(SignError::Body),
        }
    }

    fn write(
        &self,
        document: &dyn Document,
        request: Option<&Parts>,
        id: Option<&str>,
        at: Duration,
        body: &[u8],
    ) -> Result<SignedDelivery, SignError> {
        let delivery = Outgoing {
            request,
            id,
            at,
            key: &self.key_id,
            body,
        };
        let key = self.key.as_ref().ok_or(SignError::Key)?;
        let mut sign = |algorithm, bytes: &[u8]| key.sign(algorithm, bytes).ok_or(SignError::Key);
        let Signed { headers, body } = document.write(&delivery, &mut sign)?;
        Ok(SignedDelivery { headers, body })
    }

    fn lay_out(
        &self,
        layout: &Layout,
        request: Option<&Parts>,
        id: Option<&str>,
        at: Duration,
        body: &[u8],
    ) -> Result<HeaderMap, SignError> {
        let mut headers = HeaderMap::new();
        let mut put = |name: &HeaderName, text: &str, error| {
            let value = HeaderValue::from_str(text).map_err(|_| error)?;
            headers.insert(name.clone(), value);
            Ok(())
        };
        let id = id.unwrap_or("");
        if let Some(name) = &layout.id {
            if !id_is_well_formed(id.as_bytes()) {
                return Err(SignError::Id);
            }
            put(name, id, SignError::Id)?;
        }
        let mut time = String::new();
        if let Some(timestamp) = &layout.timestamp {
            time = timestamp.unit.count(at).to_string();
            if timestamp.parse(time.as_bytes()).is_none() {
                return Err(SignError::Time);
            }
        }
        check_request(layout, request)?;
        let inputs = Inputs {
            id: id.as_bytes(),
            timestamp: time.as_bytes(),
            request,
        };
        let mac = self.mac(layout, inputs, body).ok_or(SignError::Key)?;
        let label = layout.time_label();
        if let (None, Some(name)) = (label, layout.time_header()) {
            put(name, &time, SignError::Time)?;
        }
        let label = label.map(|label| (label, time.as_str()));
        let text = layout.signature.text(&mac, label);
        put(&layout.signature.header, &text, SignError::Key)?;
        if let Some((name, fixed)) = &layout.fixed {
            put(name, fixed, SignError::Header(name.clone()))?;
        }
        Ok(headers)
    }

    fn mac(&self, layout: &Layout, inputs: Inputs<'_>, body: &[u8]) -> Option<Mac> {
        let none = Candidates::new();
        let delivery = Delivery {
            layout,
            inputs,
            candidates: &none,
        };
        // HMACs hash the body where it is; others need all signed bytes at hand.
        #[cfg(any(feature = "ed25519", feature = "ecdsa"))]
        let signed = |algorithm: Algorithm, key: &SigningMaterial| {
            let mut signed = Vec::with_capacity(body.len() + 64);
            delivery.feed(body, |bytes| signed.extend_from_slice(bytes));
            let signature = key.sign(algorithm, &signed)?;
            Some(Mac::new(algorithm, &signature))
        };
        match self.key.as_ref()? {
            SigningMaterial::Shared(key) => delivery.hmac(key, body),
            #[cfg(feature = "ed25519")]
            key @ SigningMaterial::Ed25519(_) => {
                layout.signature.ed25519.as_ref()?;
                signed(Algorithm::Ed25519, key)
            }
            #[cfg(feature = "ecdsa")]
            key @ SigningMaterial::EcdsaP256(_) => {
                layout.signature.ecdsa.as_ref()?;
                signed(Algorithm::EcdsaP256, key)
            }
        }
    }
}

fn check_request(layout: &Layout, request: Option<&Parts>) -> Result<(), SignError> {
    let Some(parts) = request else {
        return match layout.signs_request() {
            true => Err(SignError::Request),
            false => Ok(()),
        };
    };
    for name in layout.signed_headers() {
        if !matches!(Field::of(&parts.headers, name), Field::Once(_)) {
            return Err(SignError::Header(name.clone()));
        }
    }
    Ok(())
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Signer");
        debug
            .field("scheme", &self.scheme.name)
            .field("key_id", &self.key_id);
        debug.finish_non_exhaustive()
    }
}
