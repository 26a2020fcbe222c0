//! The other side: signs what a [`Verifier`](crate::Verifier) of the same scheme accepts.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};

#[cfg(feature = "ed25519")]
use crate::mac::ed25519;
use crate::{
    clock::{SystemClock, WallClock},
    mac::{Candidates, Mac},
    scheme::{Field, Inputs, Scheme, id_is_well_formed},
    secret::{Material, Secret},
    session::Delivery,
};

/// Signs bodies with one secret.
#[derive(Clone)]
pub struct Signer {
    scheme: Scheme,
    key_id: String,
    key: SignKey,
    clock: Arc<dyn WallClock>,
}

#[derive(Clone)]
enum SignKey {
    Of(Material),
    /// Wiped on drop by its own type.
    #[cfg(feature = "ed25519")]
    Ed25519(Arc<ed25519_dalek::SigningKey>),
}

/// A delivery that cannot be signed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The scheme needs an id of 1 to 256 visible ASCII characters without `.`.
    #[error("this scheme needs an id of 1 to 256 visible ASCII characters without `.`")]
    Id,
    /// A time that receivers refuse: more than 12 digits (15 in milliseconds).
    #[error("timestamp has more than 12 digits")]
    Time,
    /// The key cannot sign this scheme: it is of another kind, or a public key.
    #[error("this key cannot sign this scheme")]
    Key,
    /// The scheme signs method, target or other headers of the request.
    #[error("this scheme signs the request: use `sign_request`")]
    Request,
    /// A header that the scheme signs is absent or repeated.
    #[error("header `{0}`, which is signed, is not there once")]
    Header(HeaderName),
}

impl Signer {
    /// A signer that reads the system's clock.
    #[must_use]
    #[allow(clippy::needless_pass_by_value)] // The secret is not needed any more: wipe it.
    pub fn new(scheme: Scheme, secret: Secret) -> Self {
        #[cfg(feature = "ed25519")]
        let key = secret.signing_key().map_or_else(
            || SignKey::Of(secret.material()),
            |key| SignKey::Ed25519(Arc::new(key)),
        );
        #[cfg(not(feature = "ed25519"))]
        let key = SignKey::Of(secret.material());
        Self {
            scheme,
            key_id: secret.id().to_owned(),
            key,
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
    /// When the scheme needs an id or the request, or the key cannot sign it.
    pub fn sign(&self, body: &[u8]) -> Result<HeaderMap, SignError> {
        self.headers(None, self.clock.now(), None, body)
    }

    /// As [`sign`](Self::sign), at a time since the Unix epoch.
    ///
    /// # Errors
    /// As [`sign`](Self::sign), and when the time has too many digits.
    pub fn sign_at(&self, at: Duration, body: &[u8]) -> Result<HeaderMap, SignError> {
        self.headers(None, at, None, body)
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
        self.headers(Some(id), at, None, body)
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
        self.headers(id, at, Some(request), body)
    }

    fn headers(
        &self,
        id: Option<&str>,
        at: Duration,
        request: Option<&Parts>,
        body: &[u8],
    ) -> Result<HeaderMap, SignError> {
        let scheme = &self.scheme;
        let mut headers = HeaderMap::new();
        let mut put = |name: &HeaderName, text: &str, error| {
            let value = HeaderValue::from_str(text).map_err(|_| error)?;
            headers.insert(name.clone(), value);
            Ok(())
        };
        let id = id.unwrap_or("");
        if let Some(name) = &scheme.id {
            if !id_is_well_formed(id.as_bytes()) {
                return Err(SignError::Id);
            }
            put(name, id, SignError::Id)?;
        }
        let mut time = String::new();
        if let Some(timestamp) = &scheme.timestamp {
            time = timestamp.unit.count(at).to_string();
            if time.len() > timestamp.unit.most_digits() {
                return Err(SignError::Time);
            }
        }
        self.check_request(request)?;
        let inputs = Inputs {
            id: id.as_bytes(),
            timestamp: time.as_bytes(),
            request,
        };
        let mac = self.mac(inputs, body).ok_or(SignError::Key)?;
        let label = scheme.time_label();
        if let (None, Some(name)) = (label, scheme.time_header()) {
            put(name, &time, SignError::Time)?;
        }
        let label = label.map(|label| (label, time.as_str()));
        let text = scheme.signature.text(&mac, label);
        put(&scheme.signature.header, &text, SignError::Key)?;
        Ok(headers)
    }

    fn check_request(&self, request: Option<&Parts>) -> Result<(), SignError> {
        let Some(parts) = request else {
            return match self.scheme.signs_request() {
                true => Err(SignError::Request),
                false => Ok(()),
            };
        };
        for name in self.scheme.signed_headers() {
            if !matches!(Field::of(&parts.headers, name), Field::Once(_)) {
                return Err(SignError::Header(name.clone()));
            }
        }
        Ok(())
    }

    fn mac(&self, inputs: Inputs<'_>, body: &[u8]) -> Option<Mac> {
        let none = Candidates::new();
        let delivery = Delivery {
            scheme: &self.scheme,
            inputs,
            candidates: &none,
        };
        match &self.key {
            SignKey::Of(Material::Shared(key)) => delivery.hmac(key, body),
            #[cfg(feature = "ed25519")]
            SignKey::Of(Material::Ed25519(_)) => None,
            #[cfg(feature = "ed25519")]
            SignKey::Ed25519(key) => {
                self.scheme.signature.ed25519.as_ref()?;
                // Ed25519 hashes its input twice, so it needs all of it at hand.
                let mut signed = Vec::with_capacity(body.len() + 64);
                delivery.feed(body, |bytes| signed.extend_from_slice(bytes));
                Some(ed25519::sign(key, &signed))
            }
        }
    }
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
