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

/// What makes a signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Algorithm {
    Hmac(Hash),
    Ed25519,
}

impl Algorithm {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Hmac(Hash::Sha256) => 0,
            Self::Hmac(Hash::Sha512) => 1,
            Self::Hmac(Hash::Sha1) => 2,
            Self::Ed25519 => 3,
        }
    }
}
