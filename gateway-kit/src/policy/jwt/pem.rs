//! Public keys in PEM (RFC 7468), as the JSON Web Keys that they are.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pkcs8::ObjectIdentifier;
use pkcs8::der::asn1::{AnyRef, UintRef};
use pkcs8::der::{self, Decode, Reader, pem};
use pkcs8::spki::SubjectPublicKeyInfoRef;
use serde_json::{Map, Value};

use super::keys::Unusable;

/// The key of `{ pem = "…", kid = "a" }`.
pub(super) fn beside(
    members: &Map<String, Value>,
    pem: &Value,
) -> Result<Map<String, Value>, Unusable> {
    let mut texts = blocks(pem.as_str().ok_or(Unusable::Pem)?);
    let (Some(text), None) = (texts.next(), texts.next()) else {
        return Err(Unusable::Pem);
    };
    let mut jwk = read(text)?;
    for (name, value) in members.iter().filter(|(name, _)| *name != "pem") {
        if !["kid", "alg", "use", "key_ops"].contains(&name.as_str()) {
            return Err(Unusable::PemBeside);
        }
        jwk.insert(name.clone(), value.clone());
    }
    Ok(jwk)
}

/// The keys in a text, which may have other text around them.
pub(super) fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let starts = text.match_indices(BEGIN).map(|(start, _)| start);
    starts.map(move |start| {
        let block = text.get(start..).unwrap_or_default();
        let end = block.find(END).and_then(|at| {
            let label = at + END.len();
            let rest = block.get(label..)?;
            Some(label + rest.find(DASHES)? + DASHES.len())
        });
        // Without an end it is none, as will be found out.
        end.and_then(|end| block.get(..end)).unwrap_or(block)
    })
}

/// One key.
pub(super) fn read(text: &str) -> Result<Map<String, Value>, Unusable> {
    let label = text.strip_prefix(BEGIN).and_then(|rest| {
        let (label, _) = rest.split_once(DASHES)?;
        Some(label)
    });
    // Of any kind, encrypted or not.
    if label.is_some_and(|label| label.ends_with("PRIVATE KEY")) {
        return Err(Unusable::Private);
    }
    let (label, der) = pem::decode_vec(text.as_bytes()).map_err(|_| Unusable::Pem)?;
    let members = match label {
        "PUBLIC KEY" => public(&der),
        "RSA PUBLIC KEY" => rsa(&der),
        _ => None,
    };
    let members = members.ok_or(Unusable::Pem)?.into_iter();
    Ok(members
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect())
}

type Members = Vec<(&'static str, String)>;

fn public(der: &[u8]) -> Option<Members> {
    let info = SubjectPublicKeyInfoRef::from_der(der).ok()?;
    let key = info.subject_public_key.as_bytes()?;
    let no_parameters = info.algorithm.parameters.is_none();
    match info.algorithm.oid {
        RSA => rsa(key),
        EC => match info.algorithm.parameters_oid().ok()? {
            P256 => elliptic("P-256", key, 32),
            P384 => elliptic("P-384", key, 48),
            _ => None,
        },
        ED25519 if key.len() == 32 && no_parameters => Some(vec![
            ("kty", "OKP".to_owned()),
            ("crv", "Ed25519".to_owned()),
            ("x", URL_SAFE_NO_PAD.encode(key)),
        ]),
        _ => None,
    }
}

/// `RSAPublicKey` (RFC 8017, section A.1.1).
fn rsa(der: &[u8]) -> Option<Members> {
    let numbers = AnyRef::from_der(der).ok()?.sequence(|fields| {
        let numbers: (UintRef<'_>, UintRef<'_>) = (fields.decode()?, fields.decode()?);
        Ok::<_, der::Error>(numbers)
    });
    let (modulus, exponent) = numbers.ok()?;
    Some(vec![
        ("kty", "RSA".to_owned()),
        ("n", URL_SAFE_NO_PAD.encode(modulus.as_bytes())),
        ("e", URL_SAFE_NO_PAD.encode(exponent.as_bytes())),
    ])
}

/// A point that is not compressed (SEC 1, section 2.3.3).
fn elliptic(curve: &str, point: &[u8], size: usize) -> Option<Members> {
    let point = point
        .strip_prefix(&[4])
        .filter(|point| point.len() == 2 * size)?;
    let (x, y) = point.split_at(size);
    Some(vec![
        ("kty", "EC".to_owned()),
        ("crv", curve.to_owned()),
        ("x", URL_SAFE_NO_PAD.encode(x)),
        ("y", URL_SAFE_NO_PAD.encode(y)),
    ])
}

pub(super) const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
