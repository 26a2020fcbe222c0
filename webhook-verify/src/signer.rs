//! The other side: signs what a [`Verifier`](crate::Verifier) of the same scheme accepts.

use std::{sync::Arc, time::Duration};

use hmac::Mac as _;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    clock::{SystemClock, WallClock},
    mac::{self, KeyState},
    scheme::{Part, Scheme, id_is_well_formed},
    secret::Secret,
};

/// Signs bodies with one secret.
#[derive(Clone)]
pub struct Signer {
    scheme: Scheme,
    key_id: String,
    state: KeyState,
    clock: Arc<dyn WallClock>,
}

/// A delivery that cannot be signed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The scheme needs an id of 1 to 256 visible ASCII characters without `.`.
    #[error("this scheme needs an id of 1 to 256 visible ASCII characters without `.`")]
    Id,
    /// A time that receivers refuse: more than 12 digits.
    #[error("timestamp has more than 12 digits")]
    Time,
}

impl Signer {
    /// A signer that reads the system's clock.
    #[must_use]
    #[allow(clippy::needless_pass_by_value)] // The secret is not needed any more: wipe it.
    pub fn new(scheme: Scheme, secret: Secret) -> Self {
        let state = secret.state();
        Self {
            scheme,
            key_id: secret.id().to_owned(),
            state,
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
    /// When the scheme needs an id.
    pub fn sign(&self, body: &[u8]) -> Result<HeaderMap, SignError> {
        self.headers(None, self.clock.now(), body)
    }

    /// As [`sign`](Self::sign), at a time since the Unix epoch.
    ///
    /// # Errors
    /// When the scheme needs an id, or the time has more than 12 digits.
    pub fn sign_at(&self, at: Duration, body: &[u8]) -> Result<HeaderMap, SignError> {
        self.headers(None, at, body)
    }

    /// The headers that sign `body` under `id`, which must stay the same when the delivery
    /// is tried again. A scheme without ids ignores it.
    ///
    /// # Errors
    /// When the id is not well-formed, or the time has more than 12 digits.
    pub fn sign_with_id(
        &self,
        id: &str,
        at: Duration,
        body: &[u8],
    ) -> Result<HeaderMap, SignError> {
        self.headers(Some(id), at, body)
    }

    fn headers(&self, id: Option<&str>, at: Duration, body: &[u8]) -> Result<HeaderMap, SignError> {
        let at = at.as_secs().to_string();
        let mut headers = HeaderMap::new();
        let mut put = |name: &HeaderName, text: &str, error| {
            let value = HeaderValue::from_str(text).map_err(|_| error)?;
            headers.insert(name.clone(), value);
            Ok(())
        };
        let id = id.unwrap_or("");
        if let Some(name) = &self.scheme.id {
            if !id_is_well_formed(id.as_bytes()) {
                return Err(SignError::Id);
            }
            put(name, id, SignError::Id)?;
        }
        if let Some(name) = &self.scheme.timestamp {
            if at.len() > 12 {
                return Err(SignError::Time);
            }
            put(name, &at, SignError::Time)?;
        }
        let mut state = self.state.clone();
        for part in self.scheme.prefix {
            match part {
                Part::Id => state.update(id.as_bytes()),
                Part::Timestamp => state.update(at.as_bytes()),
                Part::Dot => state.update(b"."),
            }
        }
        state.update(body);
        let text = self.scheme.signature_text(&mac::finish(state));
        put(&self.scheme.signature, &text, SignError::Id)?;
        Ok(headers)
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
