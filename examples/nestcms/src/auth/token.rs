//! Access tokens: JWT, signed with HS256 and nothing else.

use std::{fmt, sync::Arc, time::Duration};

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode, errors::ErrorKind,
};
use serde::{Deserialize, Serialize};
use webhook_verify::clock::WallClock;

use super::Role;
use crate::{domain::event::Timestamp, settings::AuthSettings};

/// What a token says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Claims {
    /// The user's id.
    pub sub: String,
    /// What the user may do.
    pub role: Role,
    /// Who made the token.
    pub iss: String,
    /// Whom it is for.
    pub aud: String,
    /// When it was made, in Unix seconds.
    pub iat: u64,
    /// From when on it is refused, in Unix seconds.
    pub exp: u64,
    /// The token's own id.
    pub jti: String,
}

/// Why a token is refused; for logs and metrics, never for the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// No `authorization: Bearer …` header.
    #[error("no token")]
    Missing,
    /// Not a token of ours at all.
    #[error("malformed token")]
    Malformed,
    /// Signed with another algorithm, or not signed.
    #[error("wrong algorithm")]
    Algorithm,
    /// Signed with another key, or altered.
    #[error("wrong signature")]
    Signature,
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// Made by or for somebody else.
    #[error("wrong issuer or audience")]
    Audience,
}

impl TokenError {
    /// Short name for the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::Audience => "audience",
        }
    }
}

/// Makes and checks tokens.
#[derive(Clone)]
pub struct Tokens {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn WallClock>,
    signing: EncodingKey,
    checking: DecodingKey,
    validation: Validation,
    issuer: String,
    audience: String,
    ttl: Duration,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("issuer", &self.inner.issuer)
            .field("audience", &self.inner.audience)
            .field("ttl", &self.inner.ttl)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// Tokens as `settings` want them, with the time of `clock`.
    #[must_use]
    pub fn new(settings: &AuthSettings, clock: Arc<dyn WallClock>) -> Self {
        let secret = settings.jwt_secret.expose().as_bytes();
        // The one algorithm comes from here, never from the token.
        let mut validation = Validation::new(ALGORITHM);
        validation.set_issuer(&[&settings.issuer]);
        validation.set_audience(&[&settings.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // The library reads the system's clock; `check` compares with the injected one.
        validation.validate_exp = false;
        Self {
            inner: Arc::new(Inner {
                clock,
                signing: EncodingKey::from_secret(secret),
                checking: DecodingKey::from_secret(secret),
                validation,
                issuer: settings.issuer.clone(),
                audience: settings.audience.clone(),
                ttl: settings.access_ttl,
            }),
        }
    }

    /// How long a token is good for.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.inner.ttl
    }

    /// A token for the user `sub`.
    ///
    /// # Errors
    ///
    /// When the library cannot sign; with a key as checked by the settings it can.
    pub fn issue(&self, sub: &str, role: Role) -> Result<String, jsonwebtoken::errors::Error> {
        let now = self.inner.clock.now();
        let claims = Claims {
            sub: sub.to_owned(),
            role,
            iss: self.inner.issuer.clone(),
            aud: self.inner.audience.clone(),
            iat: now.as_secs(),
            exp: now.saturating_add(self.inner.ttl).as_secs(),
            jti: Timestamp::from_unix(now).new_id(),
        };
        encode(&Header::new(ALGORITHM), &claims, &self.inner.signing)
    }

    /// The claims of a valid token; it ends at `exp` to the second.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub fn check(&self, token: &str) -> Result<Claims, TokenError> {
        let checked = decode::<Claims>(token, &self.inner.checking, &self.inner.validation);
        let claims = checked.map_err(|error| reason(error.kind()))?.claims;
        if self.inner.clock.now() >= Duration::from_secs(claims.exp) {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}

fn reason(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => TokenError::Algorithm,
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => TokenError::Audience,
        _ => TokenError::Malformed,
    }
}

/// Fixed here: a token cannot choose.
const ALGORITHM: Algorithm = Algorithm::HS256;
