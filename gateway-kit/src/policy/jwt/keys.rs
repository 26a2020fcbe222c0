//! Keys of issuers: what each may be used for.

use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::pem;
use crate::config::JwtAlgorithm;

/// A key, and the algorithms that it is used with: those that are configured, as far as they go
/// with its kind and with what it says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// Why a key is not used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("is no JSON Web Key")]
    Malformed,
    #[error(
        "is no public key in PEM, \"-----BEGIN PUBLIC KEY-----\", of RSA, P-256, P-384 or Ed25519"
    )]
    Pem,
    #[error("has pem beside members of a JSON Web Key other than kid, alg, use and key_ops")]
    PemBeside,
    #[error("is a private key; only its public part belongs here")]
    Private,
    #[error("is a secret, which no public place has")]
    Secret,
    #[error("goes with none of the algorithms")]
    Algorithm,
    #[error("is too short: RSA needs 2048 bits, a secret as many as its algorithm")]
    Short,
}

/// The largest RSA key: larger ones cost too much time.
const LONGEST_RSA: usize = 1024;
const SHORTEST_RSA: usize = 256;

impl Key {
    /// Reads one key of a set; `public` if the set is no secret.
    pub(crate) fn of(
        members: &Map<String, Value>,
        allowed: &[JwtAlgorithm],
        public: bool,
    ) -> Result<Self, Unusable> {
        // Of what is a JSON Web Key already it would be a member that nobody knows.
        let pem = members.get("pem").filter(|_| !members.contains_key("kty"));
        let of_pem = match pem {
            Some(pem) => Some(pem::beside(members, pem)?),
            None => None,
        };
        let members = of_pem.as_ref().unwrap_or(members);
        let jwk = Jwk::deserialize_from(members)?;
        let kind: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => &[Algorithm::ES256],
                EllipticCurve::P384 => &[Algorithm::ES384],
                _ => return Err(Unusable::Algorithm),
            },
            AlgorithmParameters::OctetKeyPair(key) => match key.curve {
                EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
                _ => return Err(Unusable::Algorithm),
            },
            AlgorithmParameters::OctetKey(_) if public => return Err(Unusable::Secret),
            AlgorithmParameters::OctetKey(_) => {
                &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512]
            }
            _ => return Err(Unusable::Algorithm),
        };
        if members.contains_key("d") {
            return Err(Unusable::Private);
        }
        let may = |algorithm: &Algorithm| {
            allowed.iter().any(|one| of_config(*one) == *algorithm) && says(&jwk, *algorithm)
        };
        let mut algorithms: Vec<_> = kind.iter().copied().filter(may).collect();
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| Unusable::Malformed)?;
        let any = !algorithms.is_empty();
        algorithms.retain(|algorithm| is_long_enough(&jwk, &key, *algorithm));
        if algorithms.is_empty() {
            return Err(if any {
                Unusable::Short
            } else {
                Unusable::Algorithm
            });
        }
        let key = Self {
            id: jwk.common.key_id,
            algorithms,
            key,
        };
        // A point that is not on its curve and the like.
        let good = key
            .algorithms
            .iter()
            .all(|one| (DEFAULT_PROVIDER.verifier_factory)(one, &key.key).is_ok());
        good.then_some(key).ok_or(Unusable::Malformed)
    }

    /// Whether it may be the key that a token names, or one that names none has.
    pub(crate) fn is_meant(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        let named = match (id, &self.id) {
            (Some(id), Some(own)) => id == own,
            _ => true,
        };
        named && self.algorithms.contains(&algorithm)
    }

    pub(crate) fn verifies(
        &self,
        algorithm: Algorithm,
        message: &[u8],
        signature: &Vec<u8>,
    ) -> bool {
        // Again, and last: a key is used with its own algorithms only.
        let verifier = self
            .algorithms
            .contains(&algorithm)
            .then(|| (DEFAULT_PROVIDER.verifier_factory)(&algorithm, &self.key).ok());
        let verifier = verifier.flatten();
        verifier.is_some_and(|verifier| verifier.verify(message, signature).is_ok())
    }
}

trait FromMembers: Sized {
    fn deserialize_from(members: &Map<String, Value>) -> Result<Self, Unusable>;
}

impl FromMembers for Jwk {
    fn deserialize_from(members: &Map<String, Value>) -> Result<Self, Unusable> {
        serde_json::from_value(Value::Object(members.clone())).map_err(|_| Unusable::Malformed)
    }
}

/// What a key says of its own use.
fn says(jwk: &Jwk, algorithm: Algorithm) -> bool {
    let use_ = &jwk.common.public_key_use;
    let operations = &jwk.common.key_operations;
    use_.as_ref()
        .is_none_or(|one| *one == PublicKeyUse::Signature)
        && operations
            .as_ref()
            .is_none_or(|all| all.contains(&KeyOperations::Verify))
        && jwk
            .common
            .key_algorithm
            .is_none_or(|one| one == KeyAlgorithm::from(algorithm))
}

fn is_long_enough(jwk: &Jwk, key: &DecodingKey, algorithm: Algorithm) -> bool {
    use jsonwebtoken::DecodingKeyKind::{RsaModulusExponent, SecretOrDer};
    match (&jwk.algorithm, key.kind()) {
        (AlgorithmParameters::RSA(_), RsaModulusExponent { n, .. }) => {
            let leading = n.iter().take_while(|byte| **byte == 0).count();
            (SHORTEST_RSA..=LONGEST_RSA).contains(&(n.len() - leading))
        }
        // RFC 7518, section 3.2.
        (AlgorithmParameters::OctetKey(_), SecretOrDer(secret)) => {
            let least = match algorithm {
                Algorithm::HS256 => 32,
                Algorithm::HS384 => 48,
                _ => 64,
            };
            secret.len() >= least
        }
        (AlgorithmParameters::RSA(_) | AlgorithmParameters::OctetKey(_), _) => false,
        _ => true,
    }
}

pub(super) const fn of_config(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::HS256 => Algorithm::HS256,
        JwtAlgorithm::HS384 => Algorithm::HS384,
        JwtAlgorithm::HS512 => Algorithm::HS512,
        JwtAlgorithm::RS256 => Algorithm::RS256,
        JwtAlgorithm::RS384 => Algorithm::RS384,
        JwtAlgorithm::RS512 => Algorithm::RS512,
        JwtAlgorithm::PS256 => Algorithm::PS256,
        JwtAlgorithm::PS384 => Algorithm::PS384,
        JwtAlgorithm::PS512 => Algorithm::PS512,
        JwtAlgorithm::ES256 => Algorithm::ES256,
        JwtAlgorithm::ES384 => Algorithm::ES384,
        JwtAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

/// The keys of a set in JSON that can be used; what is none is passed over, and counted.
pub(crate) fn read_set(
    text: &[u8],
    allowed: &[JwtAlgorithm],
    public: bool,
) -> Result<(Vec<Key>, Vec<Unusable>), serde_json::Error> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(text)?;
    let (mut keys, mut unusable) = (Vec::new(), Vec::new());
    for value in set.keys.iter().take(MOST) {
        let key = value.as_object().ok_or(Unusable::Malformed);
        match key.and_then(|members| Key::of(members, allowed, public)) {
            Ok(key) => keys.push(key),
            Err(why) => unusable.push(why),
        }
    }
    Ok((keys, unusable))
}

/// The most keys of a set.
const MOST: usize = 100;
