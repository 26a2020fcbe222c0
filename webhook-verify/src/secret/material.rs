//! Keys made ready.

use std::sync::Arc;

#[cfg(feature = "ecdsa")]
use crate::mac::ecdsa;
#[cfg(feature = "ed25519")]
use crate::mac::ed25519;
#[cfg(feature = "rsa")]
use crate::mac::rsa;
use crate::mac::{self, Algorithm, Candidates, Hash, Mac, SharedKey};

/// What verifies. Its kind chooses the algorithm: a shared key never tries an Ed25519
/// signature, nor the other way round.
#[derive(Clone)]
pub(crate) enum Material {
    Shared(Arc<SharedKey>),
    #[cfg(feature = "ed25519")]
    Ed25519(Arc<ed25519_dalek::VerifyingKey>),
    #[cfg(feature = "ecdsa")]
    EcdsaP256(Arc<p256::ecdsa::VerifyingKey>),
    #[cfg(feature = "rsa")]
    Rsa(Arc<::rsa::RsaPublicKey>),
}

/// What signs. RSA is not among them: see [`mac::rsa`].
#[derive(Clone)]
pub(crate) enum SigningMaterial {
    Shared(Arc<SharedKey>),
    /// Wiped on drop by its own type.
    #[cfg(feature = "ed25519")]
    Ed25519(Arc<ed25519_dalek::SigningKey>),
    /// Wiped on drop by its own type.
    #[cfg(feature = "ecdsa")]
    EcdsaP256(Arc<p256::ecdsa::SigningKey>),
}

impl Material {
    /// Whether signatures of `algorithm` are made by keys of this kind.
    pub(crate) const fn is_for(&self, algorithm: Algorithm) -> bool {
        match self {
            Self::Shared(_) => matches!(algorithm, Algorithm::Hmac(_)),
            #[cfg(feature = "ed25519")]
            Self::Ed25519(_) => matches!(algorithm, Algorithm::Ed25519),
            #[cfg(feature = "ecdsa")]
            Self::EcdsaP256(_) => matches!(algorithm, Algorithm::EcdsaP256),
            #[cfg(feature = "rsa")]
            Self::Rsa(_) => matches!(
                algorithm,
                Algorithm::RsaPkcs1Sha256 | Algorithm::RsaPssSha512
            ),
        }
    }

    /// Whether `signature` is one of `algorithm` over `signed` by this key; false for every
    /// algorithm that is not of the key's kind, and for every other length. An HMAC is
    /// compared in constant time.
    pub(crate) fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        match (self, algorithm) {
            (Self::Shared(key), Algorithm::Hmac(hash)) => {
                let mac = key.mac(hash, signed);
                let mut one = Candidates::new();
                // A longer one would be cut to the room that a MAC has.
                mac.bytes().len() == signature.len()
                    && one.push(Mac::new(algorithm, signature))
                    && one.contain(&mac)
            }
            #[cfg(feature = "ed25519")]
            (Self::Ed25519(key), Algorithm::Ed25519) => ed25519::verifies(key, signed, signature),
            #[cfg(feature = "ecdsa")]
            (Self::EcdsaP256(key), Algorithm::EcdsaP256) => {
                ecdsa::verifies(key, &mac::sha256(&[signed]), signature)
            }
            #[cfg(feature = "rsa")]
            (Self::Rsa(key), Algorithm::RsaPkcs1Sha256) => {
                rsa::verifies_pkcs1(key, signed, signature)
            }
            #[cfg(feature = "rsa")]
            (Self::Rsa(key), Algorithm::RsaPssSha512) => rsa::verifies_pss(key, signed, signature),
            _ => false,
        }
    }
}

impl SigningMaterial {
    /// The signature of `algorithm` over `signed`; `None` when the key is of another kind.
    pub(crate) fn sign(&self, algorithm: Algorithm, signed: &[u8]) -> Option<Vec<u8>> {
        match (self, algorithm) {
            (Self::Shared(key), Algorithm::Hmac(hash)) => {
                Some(key.mac(hash, signed).bytes().to_vec())
            }
            #[cfg(feature = "ed25519")]
            (Self::Ed25519(key), Algorithm::Ed25519) => {
                Some(ed25519::sign(key, signed).bytes().to_vec())
            }
            #[cfg(feature = "ecdsa")]
            (Self::EcdsaP256(key), Algorithm::EcdsaP256) => {
                ecdsa::sign(key, &mac::sha256(&[signed])).map(Vec::from)
            }
            _ => None,
        }
    }
}

impl SharedKey {
    pub(crate) fn mac(&self, hash: Hash, signed: &[u8]) -> Mac {
        use hmac::Mac as _;
        match hash {
            Hash::Sha256 => mac::finish(hash, self.sha256.clone().chain_update(signed)),
            Hash::Sha512 => mac::finish(hash, self.sha512.clone().chain_update(signed)),
            Hash::Sha1 => mac::finish(hash, self.sha1.clone().chain_update(signed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    const ALL: [Algorithm; 7] = [
        Algorithm::Hmac(Hash::Sha256),
        Algorithm::Hmac(Hash::Sha512),
        Algorithm::Hmac(Hash::Sha1),
        Algorithm::Ed25519,
        Algorithm::EcdsaP256,
        Algorithm::RsaPkcs1Sha256,
        Algorithm::RsaPssSha512,
    ];

    fn secrets() -> Vec<Secret> {
        vec![
            Secret::new("hmac", "key").unwrap(),
            #[cfg(feature = "ed25519")]
            Secret::ed25519_private("ed25519", &[7; 32]).unwrap(),
            #[cfg(feature = "ecdsa")]
            Secret::pem("ecdsa", include_str!("../../tests/vectors/keys/p256.pem")).unwrap(),
        ]
    }

    /// Each signature of each key under each algorithm, and cut, and longer: the key's own
    /// kind alone makes it, and nothing but it is accepted.
    #[test]
    fn a_key_never_tries_another_kind_or_length() {
        for secret in secrets() {
            let (signing, own) = (secret.signing_material().unwrap(), secret.material());
            for made in ALL {
                let signature = signing.sign(made, b"x");
                assert_eq!(
                    signature.is_some(),
                    own.is_for(made),
                    "{} {made:?}",
                    secret.id()
                );
                let Some(mut signature) = signature else {
                    continue;
                };
                for other in secrets() {
                    let key = other.material();
                    for tried in ALL {
                        let good = key.verifies(tried, b"x", &signature);
                        let same = other.id() == secret.id() && tried == made;
                        assert_eq!(good, same, "{} {tried:?}", other.id());
                    }
                }
                assert!(!own.verifies(made, b"y", &signature));
                assert!(!own.verifies(made, b"x", &signature[..signature.len() - 1]));
                assert!(!own.verifies(made, b"x", &[]));
                signature.push(0);
                assert!(!own.verifies(made, b"x", &signature));
                signature.resize(1 << 16, 0);
                assert!(!own.verifies(made, b"x", &signature));
            }
        }
    }

    #[cfg(feature = "rsa")]
    #[test]
    fn rsa_keys_sign_nothing() {
        let public = include_str!("../../tests/vectors/keys/rsa2048.pub.pem");
        let secret = Secret::pem("rsa", public).unwrap();
        assert!(secret.signing_material().is_none());
        let own = secret.material();
        for algorithm in ALL {
            let rsa = matches!(
                algorithm,
                Algorithm::RsaPkcs1Sha256 | Algorithm::RsaPssSha512
            );
            assert_eq!(own.is_for(algorithm), rsa);
            assert!(!own.verifies(algorithm, b"x", &[0; 256]));
            assert!(!own.verifies(algorithm, b"x", &[]));
        }
    }
}
