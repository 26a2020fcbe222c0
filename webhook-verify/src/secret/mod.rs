//! Secrets: keys with ids, decoded from the forms in which providers show them.

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
#[cfg(feature = "ed25519")]
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

pub use self::set::KeySet;
pub(crate) use self::{
    material::{Material, SigningMaterial},
    set::Key,
};
use crate::mac::SharedKey;

mod material;
#[cfg(any(feature = "ecdsa", feature = "rsa"))]
mod pem;
mod set;

/// One key with an id of your choice.
///
/// The id is reported in [`Verified`](crate::Verified) and in events, so it must not be
/// secret. The key is wiped on drop and never shown by `Debug`.
#[derive(Clone)]
pub struct Secret {
    id: Arc<str>,
    key: Bytes,
}

#[derive(Clone)]
enum Bytes {
    Shared(Zeroizing<Vec<u8>>),
    #[cfg(feature = "ed25519")]
    Public(ed25519_dalek::VerifyingKey),
    /// Wiped on drop by its own type.
    #[cfg(feature = "ed25519")]
    Private(Box<SigningKey>),
    #[cfg(feature = "ecdsa")]
    EcdsaPublic(Box<p256::ecdsa::VerifyingKey>),
    /// Wiped on drop by its own type.
    #[cfg(feature = "ecdsa")]
    EcdsaPrivate(Box<p256::ecdsa::SigningKey>),
    #[cfg(feature = "rsa")]
    RsaPublic(Box<rsa::RsaPublicKey>),
}

/// How a provider writes its keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum KeyFormat {
    /// The text itself is the key ([`Secret::new`]).
    Text,
    /// Base64 of the key ([`Secret::base64`]).
    Base64,
    /// Hex of the key ([`Secret::hex`]).
    Hex,
    /// Standard Webhooks: `whsec_` and base64 of a shared key; with the feature `ed25519`
    /// also `whpk_` and `whsk_`, the public and the private key of a pair.
    StandardWebhooks,
    /// Hex of an Ed25519 public key; needs the feature `ed25519`.
    Ed25519Hex,
    /// Base64 of the `SubjectPublicKeyInfo` of a public key, on one line ([`Secret::spki`]), or
    /// PEM, so that a private key can be given to a signer; needs the feature `ecdsa` or `rsa`.
    Spki,
    /// A public key, a private key or a certificate in PEM ([`Secret::pem`]); needs the
    /// feature `ecdsa` or `rsa`.
    Pem,
}

impl Secret {
    /// A shared secret whose bytes are the key.
    ///
    /// # Errors
    /// When the id or key is empty, or the key begins or ends with ASCII white space
    /// (the usual trace of a line feed in a file or variable).
    pub fn new(id: &str, key: impl AsRef<[u8]>) -> Result<Self, SecretError> {
        let key = key.as_ref();
        if key.trim_ascii().len() != key.len() {
            return Err(SecretError::WhiteSpace);
        }
        Self::shared(id, Zeroizing::new(key.to_vec()))
    }

    /// A key as its provider writes it.
    ///
    /// # Errors
    /// As the function of the format.
    pub fn parse(id: &str, format: KeyFormat, text: &str) -> Result<Self, SecretError> {
        match format {
            KeyFormat::Text => Self::new(id, text),
            KeyFormat::Base64 => Self::base64(id, text),
            KeyFormat::Hex => Self::hex(id, text),
            #[cfg(feature = "ed25519")]
            KeyFormat::StandardWebhooks if text.starts_with("whpk_") => Self::whpk(id, text),
            #[cfg(feature = "ed25519")]
            KeyFormat::StandardWebhooks if text.starts_with("whsk_") => Self::whsk(id, text),
            KeyFormat::StandardWebhooks => Self::whsec(id, text),
            #[cfg(feature = "ed25519")]
            KeyFormat::Ed25519Hex => Self::ed25519_hex(id, text),
            #[cfg(not(feature = "ed25519"))]
            KeyFormat::Ed25519Hex => Err(SecretError::PublicKey),
            #[cfg(any(feature = "ecdsa", feature = "rsa"))]
            KeyFormat::Spki if !text.contains("-----BEGIN ") => Self::spki(id, text),
            #[cfg(any(feature = "ecdsa", feature = "rsa"))]
            KeyFormat::Spki | KeyFormat::Pem => Self::pem(id, text),
            #[cfg(not(any(feature = "ecdsa", feature = "rsa")))]
            KeyFormat::Spki | KeyFormat::Pem => Err(SecretError::KeyKind),
        }
    }

    /// A Standard Webhooks secret: `whsec_` and the shared key in base64.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when the prefix is absent or the rest is not canonical,
    /// padded base64.
    pub fn whsec(id: &str, text: &str) -> Result<Self, SecretError> {
        Self::shared(id, decode(text, "whsec_")?)
    }

    /// A shared secret in base64 of the standard alphabet, padded.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when the text is not canonical, padded base64.
    pub fn base64(id: &str, text: &str) -> Result<Self, SecretError> {
        Self::shared(id, decode(text, "")?)
    }

    /// A shared secret in hex, upper or lower case.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when the text is not pairs of hex digits.
    pub fn hex(id: &str, text: &str) -> Result<Self, SecretError> {
        Self::shared(id, decode_hex(text)?)
    }

    /// An Ed25519 public key. It verifies and cannot sign.
    ///
    /// # Errors
    /// When the id is empty, or the bytes are no public key that can be trusted (no point
    /// of the curve, or one of small order).
    #[cfg(feature = "ed25519")]
    pub fn ed25519_public(id: &str, key: &[u8; 32]) -> Result<Self, SecretError> {
        let key = crate::mac::ed25519::public_key(key).ok_or(SecretError::PublicKey)?;
        Self::of(id, Bytes::Public(key))
    }

    /// An Ed25519 private key (the seed of RFC 8032). It signs, and verifies what it signed.
    ///
    /// # Errors
    /// When the id is empty.
    #[cfg(feature = "ed25519")]
    pub fn ed25519_private(id: &str, seed: &[u8; 32]) -> Result<Self, SecretError> {
        Self::of(id, Bytes::Private(Box::new(SigningKey::from_bytes(seed))))
    }

    /// An Ed25519 public key in hex, 64 digits of either case.
    ///
    /// # Errors
    /// As [`ed25519_public`](Self::ed25519_public), and when the text is not 64 hex digits.
    #[cfg(feature = "ed25519")]
    pub fn ed25519_hex(id: &str, text: &str) -> Result<Self, SecretError> {
        let key = decode_hex(text)?;
        let key = key.as_slice().try_into();
        Self::ed25519_public(id, key.map_err(|_| SecretError::Length)?)
    }

    /// A Standard Webhooks public key: `whpk_` and 32 bytes in base64.
    ///
    /// # Errors
    /// As [`ed25519_public`](Self::ed25519_public), and when the prefix is absent or the
    /// rest is not base64 of 32 bytes.
    #[cfg(feature = "ed25519")]
    pub fn whpk(id: &str, text: &str) -> Result<Self, SecretError> {
        let key = decode(text, "whpk_")?;
        let key = key.as_slice().try_into();
        Self::ed25519_public(id, key.map_err(|_| SecretError::Length)?)
    }

    /// A Standard Webhooks private key: `whsk_` and base64 of 32 bytes (the seed) or 64
    /// (seed and public key, which must belong together).
    ///
    /// # Errors
    /// When the id is empty, the prefix is absent, or the rest is not base64 of such bytes.
    #[cfg(feature = "ed25519")]
    pub fn whsk(id: &str, text: &str) -> Result<Self, SecretError> {
        let key = decode(text, "whsk_")?;
        if let Ok(pair) = <&[u8; 64]>::try_from(key.as_slice()) {
            let key = SigningKey::from_keypair_bytes(pair).map_err(|_| SecretError::PublicKey)?;
            return Self::of(id, Bytes::Private(Box::new(key)));
        }
        let seed = key.as_slice().try_into();
        Self::ed25519_private(id, seed.map_err(|_| SecretError::Length)?)
    }

    fn shared(id: &str, key: Zeroizing<Vec<u8>>) -> Result<Self, SecretError> {
        let empty = key.is_empty();
        let secret = Self::of(id, Bytes::Shared(key))?;
        if empty {
            Err(SecretError::Empty)
        } else {
            Ok(secret)
        }
    }

    fn of(id: &str, key: Bytes) -> Result<Self, SecretError> {
        if id.is_empty() {
            return Err(SecretError::NoId);
        }
        Ok(Self { id: id.into(), key })
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it is a public key: no secret, it verifies and cannot sign.
    #[must_use]
    pub const fn is_public(&self) -> bool {
        match &self.key {
            #[cfg(feature = "ed25519")]
            Bytes::Public(_) => true,
            #[cfg(feature = "ecdsa")]
            Bytes::EcdsaPublic(_) => true,
            #[cfg(feature = "rsa")]
            Bytes::RsaPublic(_) => true,
            _ => false,
        }
    }

    /// Whether it is the private key of a pair, which a sender needs and a receiver does not.
    #[must_use]
    pub const fn is_private(&self) -> bool {
        match &self.key {
            #[cfg(feature = "ed25519")]
            Bytes::Private(_) => true,
            #[cfg(feature = "ecdsa")]
            Bytes::EcdsaPrivate(_) => true,
            _ => false,
        }
    }

    /// What verifies.
    pub(crate) fn material(&self) -> Material {
        match &self.key {
            Bytes::Shared(key) => Material::Shared(Arc::new(SharedKey::new(key))),
            #[cfg(feature = "ed25519")]
            Bytes::Public(key) => Material::Ed25519(Arc::new(*key)),
            #[cfg(feature = "ed25519")]
            Bytes::Private(key) => Material::Ed25519(Arc::new(key.verifying_key())),
            #[cfg(feature = "ecdsa")]
            Bytes::EcdsaPublic(key) => Material::EcdsaP256(Arc::new(**key)),
            #[cfg(feature = "ecdsa")]
            Bytes::EcdsaPrivate(key) => Material::EcdsaP256(Arc::new(*key.verifying_key())),
            #[cfg(feature = "rsa")]
            Bytes::RsaPublic(key) => Material::Rsa(Arc::new((**key).clone())),
        }
    }

    /// What signs; `None` for a public key.
    pub(crate) fn signing_material(&self) -> Option<SigningMaterial> {
        match &self.key {
            Bytes::Shared(key) => Some(SigningMaterial::Shared(Arc::new(SharedKey::new(key)))),
            #[cfg(feature = "ed25519")]
            Bytes::Private(key) => Some(SigningMaterial::Ed25519(Arc::new((**key).clone()))),
            #[cfg(feature = "ecdsa")]
            Bytes::EcdsaPrivate(key) => Some(SigningMaterial::EcdsaP256(Arc::new((**key).clone()))),
            #[cfg(any(feature = "ed25519", feature = "ecdsa", feature = "rsa"))]
            _ => None,
        }
    }
}

/// The bytes after `prefix`, wiped on drop, as are those before a wrong character.
fn decode(text: &str, prefix: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    if text.trim_ascii().len() != text.len() {
        return Err(SecretError::WhiteSpace);
    }
    let encoded = text.strip_prefix(prefix).ok_or(SecretError::Prefix)?;
    let mut key = Zeroizing::new(Vec::with_capacity(encoded.len()));
    STANDARD
        .decode_vec(encoded, &mut key)
        .map_err(|_| SecretError::Base64)?;
    Ok(key)
}

fn decode_hex(text: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    if text.trim_ascii().len() != text.len() {
        return Err(SecretError::WhiteSpace);
    }
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut key = Zeroizing::new(Vec::with_capacity(pairs.len()));
    for pair in pairs {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        match (high, low) {
            // Two digits are below 256.
            (Some(high), Some(low)) => key.push((high << 4 | low) as u8),
            _ => return Err(SecretError::Hex),
        }
    }
    if rest.is_empty() {
        Ok(key)
    } else {
        Err(SecretError::Hex)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("id", &self.id)
            .field("key", &"[redacted]")
            .finish()
    }
}

/// A secret or key set that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The id is empty.
    #[error("secret id is empty")]
    NoId,
    /// The key is empty.
    #[error("secret key is empty")]
    Empty,
    /// The key begins or ends with white space.
    #[error("secret key begins or ends with white space")]
    WhiteSpace,
    /// The prefix (`whsec_`, `whpk_`, `whsk_`) is absent.
    #[error("secret does not begin with the prefix of its kind, such as `whsec_`")]
    Prefix,
    /// Not canonical base64.
    #[error("secret is not padded base64 of the standard alphabet")]
    Base64,
    /// Not pairs of hex digits.
    #[error("secret is not pairs of hex digits")]
    Hex,
    /// An Ed25519 key of a wrong length.
    #[error("Ed25519 key has a wrong length")]
    Length,
    /// Not PEM, or of a label that is not read.
    #[error("not PEM of a public key, certificate or PKCS#8 private key")]
    Pem,
    /// What the base64 holds is no key or certificate in DER.
    #[error("not a key or certificate in DER")]
    Der,
    /// A key of another kind, or of one whose feature is off.
    #[error("key is of a kind that is not supported, or whose feature is off")]
    KeyKind,
    /// No public key that can be used. Ed25519: not a point of the curve, of small order, not
    /// the one of the private key beside it, or the feature `ed25519` is off. ECDSA: not a
    /// point of the curve. RSA: below 2048 bits, above 8192, not whole bytes, or with an
    /// exponent that is even, 1 or above 33 bits.
    #[error("not a public key that can be used")]
    PublicKey,
    /// Two keys of a set share an id.
    #[error("secret id `{0}` is used twice")]
    DuplicateId(Arc<str>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_reads_its_own_form_only() {
        use KeyFormat::{Base64, Hex, StandardWebhooks, Text};
        for (format, good) in [
            (Text, "key"),
            (Base64, "a2V5"),
            (Hex, "6B6579"),
            (Hex, "6b6579"),
            (StandardWebhooks, "whsec_a2V5"),
        ] {
            let secret = Secret::parse("k", format, good).unwrap();
            let key = &secret.key;
            assert!(matches!(key, Bytes::Shared(key) if key.as_slice() == b"key"));
        }
        for (format, bad, error) in [
            (Text, "key\n", SecretError::WhiteSpace),
            (Text, "", SecretError::Empty),
            (Base64, "a2V5\n", SecretError::WhiteSpace),
            (Base64, "a2V", SecretError::Base64),
            (Base64, "_-__", SecretError::Base64),
            (Base64, "", SecretError::Empty),
            (Hex, "6b6", SecretError::Hex),
            (Hex, "6b6g", SecretError::Hex),
            (Hex, " 6b", SecretError::WhiteSpace),
            (Hex, "", SecretError::Empty),
            (StandardWebhooks, "a2V5", SecretError::Prefix),
            (StandardWebhooks, "WHSEC_a2V5", SecretError::Prefix),
        ] {
            assert_eq!(Secret::parse("k", format, bad).unwrap_err(), error, "{bad}");
        }
        assert_eq!(Secret::new("", "key").unwrap_err(), SecretError::NoId);
    }

    #[cfg(feature = "ed25519")]
    #[test]
    fn pairs_are_read_from_each_form_and_must_belong_together() {
        let seed = [7; 32];
        let pair = SigningKey::from_bytes(&seed);
        let whsk = |bytes: &[u8]| Secret::whsk("k", &format!("whsk_{}", STANDARD.encode(bytes)));
        let public = pair.verifying_key().to_bytes();
        let mut both = pair.to_keypair_bytes();
        for secret in [whsk(&seed).unwrap(), whsk(&both).unwrap()] {
            let Some(SigningMaterial::Ed25519(key)) = secret.signing_material() else {
                panic!("a private key");
            };
            assert_eq!(*key, pair);
        }
        let whpk = format!("whpk_{}", STANDARD.encode(public));
        let hex = crate::encoding::hex_encode(&public).to_uppercase();
        for secret in [
            Secret::parse("k", KeyFormat::StandardWebhooks, &whpk).unwrap(),
            Secret::parse("k", KeyFormat::Ed25519Hex, &hex).unwrap(),
        ] {
            assert!(secret.signing_material().is_none());
            assert!(matches!(&secret.key, Bytes::Public(key) if key.to_bytes() == public));
        }
        both[40] ^= 1;
        assert_eq!(whsk(&both).unwrap_err(), SecretError::PublicKey);
        assert_eq!(whsk(&seed[1..]).unwrap_err(), SecretError::Length);
        assert_eq!(
            Secret::ed25519_hex("k", &hex[2..]).unwrap_err(),
            SecretError::Length
        );
        assert_eq!(
            Secret::ed25519_public("k", &[0; 32]).unwrap_err(),
            SecretError::PublicKey
        );
    }
}
