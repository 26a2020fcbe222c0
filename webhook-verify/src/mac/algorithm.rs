//! What makes a signature.

/// The hash inside an HMAC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// SHA-1. HMAC-SHA1 is not broken, but take it only where a provider has nothing else.
    Sha1,
}

/// What makes a signature. Those of a feature that is off have no keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(dead_code)] // Some are read out of deliveries by schemes of their features only.
pub(crate) enum Algorithm {
    Hmac(Hash),
    Ed25519,
    /// ECDSA over P-256 with SHA-256; the signature is `r` and `s`, 32 bytes each.
    EcdsaP256,
    /// RSASSA-PKCS1-v1_5 with SHA-256; the signature is as long as the modulus.
    RsaPkcs1Sha256,
    /// RSASSA-PSS with SHA-512, MGF1 with SHA-512 and a salt of 64 bytes.
    RsaPssSha512,
}

impl Algorithm {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Hmac(Hash::Sha256) => 0,
            Self::Hmac(Hash::Sha512) => 1,
            Self::Hmac(Hash::Sha1) => 2,
            Self::Ed25519 => 3,
            Self::EcdsaP256 => 4,
            Self::RsaPkcs1Sha256 => 5,
            Self::RsaPssSha512 => 6,
        }
    }
}
