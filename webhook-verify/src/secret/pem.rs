//! Keys in DER: `SubjectPublicKeyInfo`, PKCS#8 and X.509 certificates, in base64 or PEM.

use pkcs8::{
    ObjectIdentifier, PrivateKeyInfo,
    der::{
        self, Decode as _, Reader, Tag, TagNumber, Tagged as _,
        asn1::{AnyRef, BitStringRef},
        pem,
    },
    spki::SubjectPublicKeyInfoRef,
};
use zeroize::Zeroizing;

use super::{Bytes, Secret, SecretError, decode};

impl Secret {
    /// A key in PEM (RFC 7468). Its kind stands in it; the feature of the kind must be on:
    /// - `PUBLIC KEY`: RSA, ECDSA P-256 or Ed25519; it verifies;
    /// - `CERTIFICATE`: the public key of the first certificate, of the same kinds. Nothing
    ///   else in it is looked at: who signed it and when it ends is for the caller, who
    ///   trusts this key by passing it (its end belongs into `secret_until`);
    /// - `PRIVATE KEY` (PKCS#8, not encrypted): ECDSA P-256 or Ed25519; it signs, and verifies
    ///   what it signed. There is none of RSA.
    ///
    /// White space around the text does not matter: files end with a line feed.
    ///
    /// # Errors
    /// When the id is empty, the text is not PEM of one of these labels, the key not in DER,
    /// of another kind, of a kind whose feature is off, or of no use (see [`SecretError`]).
    pub fn pem(id: &str, text: &str) -> Result<Self, SecretError> {
        let text = first(text.trim_ascii());
        if !text.starts_with("-----BEGIN ") {
            return Err(SecretError::Pem);
        }
        let (label, der) = pem::decode_vec(text.as_bytes()).map_err(|_| SecretError::Pem)?;
        let der = Zeroizing::new(der);
        let key = match label {
            "PUBLIC KEY" => public(&der)?,
            "CERTIFICATE" => of_info(&certified(&der).map_err(|_| SecretError::Der)?)?,
            "PRIVATE KEY" => private(&der)?,
            _ => return Err(SecretError::Pem),
        };
        Self::of(id, key)
    }

    /// A public key as base64 of its `SubjectPublicKeyInfo` on one line, which is PEM without
    /// its first and last line: RSA, ECDSA P-256 or Ed25519.
    ///
    /// # Errors
    /// As [`pem`](Self::pem), and when the text is not canonical, padded base64 or begins or
    /// ends with white space.
    pub fn spki(id: &str, text: &str) -> Result<Self, SecretError> {
        Self::of(id, public(&decode(text, "")?)?)
    }
}

/// The first of several certificates, which is the one of the key.
fn first(text: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----";
    text.find(END)
        .and_then(|at| text.get(..at + END.len()))
        .unwrap_or(text)
}

fn public(der: &[u8]) -> Result<Bytes, SecretError> {
    let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| SecretError::Der)?;
    of_info(&info)
}

/// RFC 5280 section 4.1: what stands before the key is stepped over, what stands behind it
/// must be DER.
fn certified(der: &[u8]) -> der::Result<SubjectPublicKeyInfoRef<'_>> {
    const VERSION: Tag = Tag::ContextSpecific {
        constructed: true,
        number: TagNumber::N0,
    };
    AnyRef::from_der(der)?.sequence(|certificate| {
        let signed = certificate.decode::<AnyRef<'_>>()?;
        let info = signed.sequence(|fields| {
            if fields.peek_tag()? == VERSION {
                skip(fields, VERSION)?;
            }
            // Serial number, algorithm, issuer, validity, subject.
            for tag in [
                Tag::Integer,
                Tag::Sequence,
                Tag::Sequence,
                Tag::Sequence,
                Tag::Sequence,
            ] {
                skip(fields, tag)?;
            }
            let info = fields.decode()?;
            while !fields.is_finished() {
                fields.decode::<AnyRef<'_>>()?;
            }
            Ok(info)
        })?;
        skip(certificate, Tag::Sequence)?;
        certificate.decode::<BitStringRef<'_>>()?;
        Ok(info)
    })
}

fn skip<'a>(reader: &mut impl Reader<'a>, tag: Tag) -> der::Result<()> {
    reader.decode::<AnyRef<'_>>()?.tag().assert_eq(tag)?;
    Ok(())
}

fn of_info(info: &SubjectPublicKeyInfoRef<'_>) -> Result<Bytes, SecretError> {
    let key = info.subject_public_key.as_bytes().ok_or(SecretError::Der)?;
    match info.algorithm.oid {
        #[cfg(feature = "rsa")]
        RSA if info.algorithm.parameters == Some(AnyRef::NULL) => rsa(key),
        #[cfg(feature = "ecdsa")]
        EC if info.algorithm.parameters_oid() == Ok(P256) => {
            let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(key);
            let key = key.map_err(|_| SecretError::PublicKey)?;
            Ok(Bytes::EcdsaPublic(Box::new(key)))
        }
        #[cfg(feature = "ed25519")]
        ED25519 if info.algorithm.parameters.is_none() => {
            let key = key.try_into().map_err(|_| SecretError::Length)?;
            let key = crate::mac::ed25519::public_key(key).ok_or(SecretError::PublicKey)?;
            Ok(Bytes::Public(key))
        }
        _ => Err(SecretError::KeyKind),
    }
}

fn private(der: &[u8]) -> Result<Bytes, SecretError> {
    let info = PrivateKeyInfo::try_from(der).map_err(|_| SecretError::Der)?;
    match info.algorithm.oid {
        #[cfg(feature = "ecdsa")]
        EC if info.algorithm.parameters_oid() == Ok(P256) => {
            let key = p256::SecretKey::try_from(info).map_err(|_| SecretError::Der)?;
            Ok(Bytes::EcdsaPrivate(Box::new(key.into())))
        }
        #[cfg(feature = "ed25519")]
        ED25519 if info.algorithm.parameters.is_none() => {
            let seed = der::asn1::OctetStringRef::from_der(info.private_key);
            let seed = seed.map_err(|_| SecretError::Der)?.as_bytes();
            let seed = seed.try_into().map_err(|_| SecretError::Length)?;
            let key = ed25519_dalek::SigningKey::from_bytes(seed);
            let public = key.verifying_key().to_bytes();
            match info.public_key {
                Some(beside) if beside != public => Err(SecretError::PublicKey),
                _ => Ok(Bytes::Private(Box::new(key))),
            }
        }
        _ => Err(SecretError::KeyKind),
    }
}

#[cfg(feature = "rsa")]
fn rsa(der: &[u8]) -> Result<Bytes, SecretError> {
    let numbers = rsa::pkcs1::RsaPublicKey::from_der(der).map_err(|_| SecretError::Der)?;
    let (modulus, exponent) = (numbers.modulus, numbers.public_exponent);
    let key = crate::mac::rsa::public_key(modulus.as_bytes(), exponent.as_bytes());
    Ok(Bytes::RsaPublic(Box::new(
        key.ok_or(SecretError::PublicKey)?,
    )))
}

#[cfg(feature = "rsa")]
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
#[cfg(feature = "ecdsa")]
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
#[cfg(feature = "ecdsa")]
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
#[cfg(feature = "ed25519")]
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::KeyFormat;

    const KEYS: [(&str, &str); 13] = [
        (
            "ed25519.pem",
            include_str!("../../tests/vectors/keys/ed25519.pem"),
        ),
        (
            "ed25519.pub.pem",
            include_str!("../../tests/vectors/keys/ed25519.pub.pem"),
        ),
        (
            "p256.pem",
            include_str!("../../tests/vectors/keys/p256.pem"),
        ),
        (
            "p256.pub.pem",
            include_str!("../../tests/vectors/keys/p256.pub.pem"),
        ),
        (
            "p256.cert.pem",
            include_str!("../../tests/vectors/keys/p256.cert.pem"),
        ),
        (
            "rsa2048.pub.pem",
            include_str!("../../tests/vectors/keys/rsa2048.pub.pem"),
        ),
        (
            "rsa2048.cert.pem",
            include_str!("../../tests/vectors/keys/rsa2048.cert.pem"),
        ),
        (
            "rsa2048.pem",
            include_str!("../../tests/vectors/keys/rsa2048.pem"),
        ),
        (
            "rsa1024.pub.pem",
            include_str!("../../tests/vectors/keys/rsa1024.pub.pem"),
        ),
        (
            "rsa-pss-oid.pub.pem",
            include_str!("../../tests/vectors/keys/rsa-pss-oid.pub.pem"),
        ),
        (
            "p384.pub.pem",
            include_str!("../../tests/vectors/keys/p384.pub.pem"),
        ),
        (
            "p256.encrypted.pem",
            include_str!("../../tests/vectors/keys/p256.encrypted.pem"),
        ),
        (
            "p256.sec1.pem",
            include_str!("../../tests/vectors/keys/p256.sec1.pem"),
        ),
    ];

    fn text(name: &str) -> &'static str {
        KEYS.iter().find(|(known, _)| *known == name).unwrap().1
    }

    fn kind(secret: &Secret) -> &'static str {
        let kind = match secret.key {
            #[cfg(feature = "ed25519")]
            Bytes::Public(_) => "ed25519 public",
            #[cfg(feature = "ed25519")]
            Bytes::Private(_) => "ed25519 private",
            #[cfg(feature = "ecdsa")]
            Bytes::EcdsaPublic(_) => "p256 public",
            #[cfg(feature = "ecdsa")]
            Bytes::EcdsaPrivate(_) => "p256 private",
            #[cfg(feature = "rsa")]
            Bytes::RsaPublic(_) => "rsa public",
            Bytes::Shared(_) => "shared",
        };
        assert_eq!(secret.is_public(), kind.ends_with(" public"));
        assert_eq!(secret.is_private(), kind.ends_with(" private"));
        kind
    }

    /// What a feature that is off makes of a key.
    fn on(feature: bool, kind: &'static str) -> Result<&'static str, SecretError> {
        if feature {
            Ok(kind)
        } else {
            Err(SecretError::KeyKind)
        }
    }

    #[test]
    fn each_kind_of_key_is_read_and_no_other() {
        let (ecdsa, rsa) = (cfg!(feature = "ecdsa"), cfg!(feature = "rsa"));
        let ed25519 = cfg!(feature = "ed25519");
        for (name, expected) in [
            ("ed25519.pem", on(ed25519, "ed25519 private")),
            ("ed25519.pub.pem", on(ed25519, "ed25519 public")),
            ("p256.pem", on(ecdsa, "p256 private")),
            ("p256.pub.pem", on(ecdsa, "p256 public")),
            ("p256.cert.pem", on(ecdsa, "p256 public")),
            ("rsa2048.pub.pem", on(rsa, "rsa public")),
            ("rsa2048.cert.pem", on(rsa, "rsa public")),
            ("rsa2048.pem", Err(SecretError::KeyKind)),
            (
                "rsa1024.pub.pem",
                Err(if rsa {
                    SecretError::PublicKey
                } else {
                    SecretError::KeyKind
                }),
            ),
            ("rsa-pss-oid.pub.pem", Err(SecretError::KeyKind)),
            ("p384.pub.pem", Err(SecretError::KeyKind)),
            ("p256.encrypted.pem", Err(SecretError::Pem)),
            ("p256.sec1.pem", Err(SecretError::Pem)),
        ] {
            let secret = Secret::parse("k", KeyFormat::Pem, text(name));
            assert_eq!(
                secret.as_ref().map(kind).map_err(Clone::clone),
                expected,
                "{name}"
            );
            let around = format!("\n{}\r\n \n", text(name));
            let same = Secret::pem("k", &around);
            assert_eq!(
                same.as_ref().map(kind).map_err(Clone::clone),
                expected,
                "{name}"
            );
            let windows = text(name).replace('\n', "\r\n");
            let same = Secret::pem("k", &windows);
            assert_eq!(
                same.as_ref().map(kind).map_err(Clone::clone),
                expected,
                "{name}"
            );
            assert_eq!(
                Secret::pem("", text(name)).err(),
                expected.err().or(Some(SecretError::NoId))
            );
        }
    }

    /// RFC 5958: the second version has the public key in it.
    #[cfg(feature = "ed25519")]
    #[test]
    fn an_ed25519_pair_belongs_together() {
        let pair = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let head = b"\x30\x51\x02\x01\x01\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
        let public = pair.verifying_key().to_bytes();
        let mut der = [&head[..], &[7; 32], b"\x81\x21\x00", &public].concat();
        assert!(matches!(private(&der), Ok(Bytes::Private(key)) if *key == pair));
        *der.last_mut().unwrap() ^= 1;
        assert_eq!(private(&der).err(), Some(SecretError::PublicKey));
    }

    #[cfg(feature = "rsa")]
    #[test]
    fn a_certificate_gives_the_key_it_is_for_and_of_a_chain_the_first() {
        let rsa = |text: &str| match Secret::pem("k", text).unwrap().key {
            Bytes::RsaPublic(key) => key,
            _ => panic!("an RSA key"),
        };
        let public = rsa(text("rsa2048.pub.pem"));
        assert_eq!(rsa(text("rsa2048.cert.pem")), public);
        let chain = format!("{}{}", text("rsa2048.cert.pem"), text("p256.cert.pem"));
        assert_eq!(rsa(&chain), public);
    }

    #[cfg(feature = "rsa")]
    #[test]
    fn a_certificate_is_read_to_its_end_and_no_further() {
        let (_, der) = pem::decode_vec(text("rsa2048.cert.pem").as_bytes()).unwrap();
        assert!(certified(&der).is_ok());
        for end in 0..der.len() {
            assert!(certified(&der[..end]).is_err(), "{end}");
        }
        let longer = [&*der, &[0]].concat();
        assert!(certified(&longer).is_err());
        // A certificate is no key, and a key no certificate.
        assert_eq!(public(&der).err(), Some(SecretError::Der));
        let line: String = text("rsa2048.pub.pem")
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect();
        let key = decode(&line, "").unwrap();
        assert!(certified(&key).is_err());
    }

    /// RFC 3279 section 2.3.1: the parameters must be there, and NULL.
    #[cfg(feature = "rsa")]
    #[test]
    fn an_rsa_key_without_the_parameters_of_its_kind_is_refused() {
        let (_, mut der) = pem::decode_vec(text("rsa2048.pub.pem").as_bytes()).unwrap();
        assert!(public(&der).is_ok());
        assert_eq!(der.drain(17..19).as_slice(), [5, 0]);
        der[3] -= 2;
        der[5] -= 2;
        assert_eq!(public(&der).err(), Some(SecretError::KeyKind));
    }

    #[cfg(feature = "ecdsa")]
    #[test]
    fn pairs_belong_together_and_a_line_of_base64_is_a_public_key() {
        let private = Secret::pem("k", text("p256.pem")).unwrap();
        let line: String = text("p256.pub.pem")
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect();
        let public = Secret::parse("k", KeyFormat::Spki, &line).unwrap();
        let signing = private.signing_material().unwrap();
        let algorithm = crate::mac::Algorithm::EcdsaP256;
        let signature = signing.sign(algorithm, b"x").unwrap();
        assert!(public.material().verifies(algorithm, b"x", &signature));
        assert!(public.signing_material().is_none());
        assert!(!format!("{private:?}{public:?}").contains("Scalar"));
        for (bad, error) in [
            (format!("{line}\n"), SecretError::WhiteSpace),
            (format!(" {line}"), SecretError::WhiteSpace),
            (line.trim_end_matches('=').to_owned(), SecretError::Base64),
            (
                format!("{}A{}", &line[..20], &line[20..]),
                SecretError::Base64,
            ),
            (line[..line.len() - 4].to_owned(), SecretError::Der),
            (
                format!("{}AAAA", line.trim_end_matches('=')),
                SecretError::Base64,
            ),
            (String::new(), SecretError::Der),
            (
                text("p256.pub.pem").trim_ascii().to_owned(),
                SecretError::Base64,
            ),
        ] {
            assert_eq!(Secret::spki("k", &bad).unwrap_err(), error, "{bad}");
        }
        // A private key beside another public one.
        let (_, mut pair) = pem::decode_vec(text("p256.pem").as_bytes()).unwrap();
        *pair.last_mut().unwrap() ^= 1;
        assert_eq!(super::private(&pair).err(), Some(SecretError::Der));
        // A point that is not on the curve.
        let mut der = decode(&line, "").unwrap();
        *der.last_mut().unwrap() ^= 1;
        assert_eq!(public_error(&der), SecretError::PublicKey);
        // One byte after the key.
        *der.last_mut().unwrap() ^= 1;
        der.push(0);
        assert_eq!(public_error(&der), SecretError::Der);
    }

    #[cfg(feature = "ecdsa")]
    fn public_error(der: &[u8]) -> SecretError {
        public(der).err().unwrap()
    }

    #[test]
    fn what_is_not_pem_is_refused_and_no_changed_text_makes_it_panic() {
        for bad in [
            "",
            "-----BEGIN PUBLIC KEY-----",
            "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END CERTIFICATE-----",
            "-----END CERTIFICATE-----",
            "whsec_a2V5",
        ] {
            let error = Secret::pem("k", bad).unwrap_err();
            assert!(
                matches!(error, SecretError::Pem | SecretError::Der),
                "{bad}"
            );
        }
        let before = format!("hello\n{}", text("p256.pub.pem"));
        assert_eq!(Secret::pem("k", &before).unwrap_err(), SecretError::Pem);
        for (_, text) in KEYS {
            for at in (0..text.len()).step_by(7) {
                let mut other = text.as_bytes().to_vec();
                other[at] = if other[at] == b'A' { b'B' } else { b'A' };
                let _ = Secret::pem("k", std::str::from_utf8(&other).unwrap());
                let _ = Secret::pem("k", &text[..at]);
            }
        }
    }
}
